"""The whole fleet at a moment: who was not final and how each stood, and what changed since."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from projections.events import Done, Heartbeat, Heartbeats, TrainerEvent, decode
from projections.health import assess
from projections.job import JobState, JobStatus, Reason, changed
from projections.progress import Progress, advance
from service.as_of import AsOf, state_at
from service.instance import Instance
from service.postgres import Database, Session
from service.records import Row, state_of
from service.store import Store

AT_ONCE = 200  # jobs between two looks at who else waits
FOLDS = 4  # histories that are read at once
RECENT = 5_000  # events before a position among which nearly every job's last one is

NOTHING: Mapping[str, int] = {status.value: 0 for status in JobStatus}
UNKNOWN = JobState()


@dataclass(frozen=True, slots=True)
class Standing:
    """A job as the fleet's view shows it: of its past only what a few probes tell."""

    state: JobState
    verdict: str
    since: datetime | None
    """From when on it stood like this; None where the spans were not rebuilt yet."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many jobs had each status, and those that were not final, newest first."""

    counts: Mapping[str, int]
    jobs: Sequence[Standing]


async def fleet_at(database: Database, position: int, *, recent: int = RECENT) -> Fleet:
    """Return the fleet as the log had it at a position."""
    async with database.session() as session, session.transaction(isolation="repeatable_read"):
        await session.run("probe_indexes_only")
        counts = await session.value("fleet_counts", position)
        rows = await session.rows("fleet_at", position, recent)
        said = await _callbacks(session, position, rows)
    jobs: list[Standing] = []
    for number, row in enumerate(rows):
        jobs.append(_standing(row, said[row["id"]]))
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    return Fleet({**NOTHING, **(counts or {})}, jobs)


async def fleet_now(instance: Instance) -> tuple[AsOf, Fleet]:
    """Return the fleet as it stands, its health by what we see and hear, and where the log ends."""
    database = instance.database
    async with database.session() as session, session.transaction(isolation="repeatable_read"):
        head = await session.row("read_head")
        rows = await session.rows("fleet_now")
    assert head is not None  # noqa: S101 - the statement always answers one row
    jobs: list[Standing] = []
    for number, row in enumerate(rows):
        state = state_of(row["state"])
        moment = instance.log.senses.moment_of(state, head["now"])
        verdict = assess(state, moment, instance.policy).verdict
        jobs.append(Standing(state, verdict, row["since"]))
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    then = AsOf(head["position"], head["now"], is_past=False)
    return then, Fleet({**NOTHING, **head["counts"]}, jobs)


async def changes_between(database: Database, begin: int, end: int) -> Sequence[Row]:
    """Return each job whose status, attempt or health changed between two positions."""
    async with database.session() as session, session.transaction(isolation="repeatable_read"):
        await session.run("probe_indexes_only")
        return await session.rows("fleet_changes", begin, end)


async def jobs_at(
    store: Store,
    then: AsOf,
    *,
    status: str | None,
    labels: dict[str, str] | None,
    below: int | None,
    limit: int,
) -> list[JobState]:
    """Return the jobs that were there at a moment, newest first, each folded up to it."""
    async with store.database.session() as session:
        rows = await session.rows("jobs_at", then.position, status, labels, below, limit)
    turns = asyncio.Semaphore(FOLDS)

    async def folded(row: Row) -> JobState:
        if row["state"] is not None:
            return state_of(row["state"])
        async with turns:
            return await state_at(store, row["id"], then)

    return list(await asyncio.gather(*(folded(row) for row in rows)))


async def _callbacks(session: Session, position: int, rows: Sequence[Row]) -> dict[int, Row]:
    """Return what each of these jobs had said last."""
    names = ("id", "version", "attempt", "first_position")
    columns = [[row[name] for row in rows] for name in names]
    found = await session.rows("fleet_callbacks", position, *columns)
    return {row["job_id"]: row for row in found}


def _standing(row: Row, said: Row) -> Standing:
    progress = Progress(epochs=row["epochs"])
    for event in _callbacks_in(said):
        progress = advance(progress, event)
    state = changed(
        UNKNOWN,
        id=row["id"],
        trace_id=row["trace_id"],
        dataset_id=row["dataset_id"],
        model_name=row["model_name"],
        epochs=row["epochs"],
        labels=row["labels"],
        created_at=row["created_at"],
        status=JobStatus(row["status"]),
        reason=Reason(row["reason_code"], row["reason_message"]),
        attempt=row["attempt"],
        alive_at=said["alive_at"],
        progress=progress,
        version=row["version"],
        position=row["position"],
    )
    return Standing(state, row["verdict"], row["since"])


def _callbacks_in(said: Row) -> Iterator[Heartbeat | Heartbeats | TrainerEvent | Done]:
    for name in ("before", "named", "said"):
        if (kind := said[f"{name}_type"]) is not None:
            event = decode(kind, said[name])
            if isinstance(event, Heartbeat | Heartbeats | TrainerEvent | Done):
                yield event
