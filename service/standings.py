"""Where every job stands, folded from the few events that can decide it.

Nine events of ten are heartbeats, and of those only the first after another event can change a
status. The database picks what counts, and the same fold as everywhere comes to the same end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from projections.events import Event, Heartbeat, Record, Source, decode
from projections.job import JobState
from projections.status import evolve
from service.comparing import SHOWN, Comparison, differences
from service.postgres import Session, owner_session
from service.records import Row

_ALIVE = Heartbeat()
_TIME = datetime.min  # noqa: DTZ901 - nothing asks for it


@dataclass(frozen=True, slots=True)
class Standing:
    """A job's status, and what a retry is decided from."""

    status: str
    reason: str
    message: str
    attempt: int
    retry_count: int
    interruptions: int
    verdict: str
    version: int
    position: int


async def statuses(session: Session) -> dict[int, Standing]:
    """Return where each job stands by the log alone; needs a transaction around it."""
    await session.run("plan_for_probes")
    head = await session.value("log_position")
    return dict(folded(await session.rows("deciding_events", head)))


async def quick_check(url: str) -> Comparison:
    """Compare where each job stands by the log with where the stored projection has it."""
    async with owner_session(url) as session, session.transaction(isolation="repeatable_read"):
        made = await statuses(session)
        live = {row["id"]: _stored(row) for row in await session.rows("live_standings")}
    found = Comparison(rows={"jobs": len(made)})
    differing = sorted(job_id for job_id in {*made, *live} if made.get(job_id) != live.get(job_id))
    found.differing["jobs"] = len(differing)
    for job_id in differing[:SHOWN]:
        sides = [asdict(side[job_id]) if job_id in side else None for side in (live, made)]
        found.first.extend(differences("jobs", str(job_id), *sides))
    return found


def folded(rows: Iterable[Row]) -> Iterator[tuple[int, Standing]]:
    """Yield each job's standing from its deciding events, in version order, and its end."""
    state = JobState()
    for row in rows:
        if row["type"] == "end":
            yield row["job_id"], standing(state, row["version"], row["position"])
            state = JobState()
        else:
            state = evolve(state, _record(row))


def standing(state: JobState, version: int, position: int) -> Standing:
    """Return the part of a state that says where the job stands."""
    return Standing(
        status=state.status.value,
        reason=state.reason.code,
        message=state.reason.message,
        attempt=state.attempt,
        retry_count=state.retry_count,
        interruptions=state.interruptions,
        verdict=state.verdict,
        version=version,
        position=position,
    )


def _record(row: Row) -> Record:
    data: Mapping[str, object] | None = row["data"]
    # Of a callback only its attempt counts here, and so the database keeps its data to itself.
    event: Event = _ALIVE if data is None else decode(row["type"], data)
    return Record(
        position=row["position"],
        job_id=row["job_id"],
        version=row["version"],
        attempt=row["attempt"],
        event_id="",
        source=Source.API,
        trace_id="",
        seq=None,
        occurred_at=_TIME,
        recorded_at=row["recorded_at"],
        event=event,
    )


def _stored(row: Row) -> Standing:
    return Standing(
        row["status"],
        row["reason"],
        row["message"],
        row["attempt"],
        row["retry_count"],
        row["interruptions"],
        row["verdict"],
        row["version"],
        row["position"],
    )
