"""The log's writing end: where it ends, what the writer must know, and the one append."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from projections.events import Record
from projections.health import recorded_verdict
from projections.job import JobState
from service.postgres import Session
from service.records import Row, event_lines, job_columns, moved_lines, record_of, state_of

IdKey = tuple[int, str]
"""A job's id and an event id."""
SeqKey = tuple[int, int, int]
"""A job's id, an attempt and a trainer's seq."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends."""

    now: datetime
    """The time at which the next batch is recorded, by the database's clock."""
    position: int
    job_id: int
    counts: Mapping[str, int]
    """How many jobs have each status."""
    generation: int
    """Which of the rebuilt projections this is."""
    term: int
    """Who supervises: the term of the lease."""
    end_position: int
    """The first position for which there is no table yet."""


@dataclass(slots=True)  # as Record: made for every callback
class StoredJob:
    """A job's folded state and the hash of its last event."""

    state: JobState
    hash: str


@dataclass(frozen=True, slots=True)
class Known:
    """Where an event that was told before stands; no record where that was compacted since."""

    position: int
    version: int
    record: Record | None


@dataclass(frozen=True, slots=True)
class Span:
    """From this position on a job stands as its state says, and the fleet as the counts say."""

    position: int
    recorded_at: datetime
    state: JobState
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Writer:
    """Reads what a batch needs and appends it, where the log still ends where it was read."""

    session: Session

    async def prepare(self) -> None:
        """Have the session planned for few rows against large tables."""
        await self.session.run("plan_for_writer")

    async def head(self) -> Head:
        """Return where the log ends now."""
        row = await self.session.row("read_head")
        assert row is not None  # noqa: S101 - the statement always answers one row
        return Head(**row)

    async def changed_jobs(self, position: int) -> set[int]:
        """Return the jobs that have events after this position."""
        return {row["job_id"] for row in await self.session.rows("changed_jobs", position)}

    async def jobs(self, job_ids: Iterable[int]) -> dict[int, StoredJob]:
        """Return the jobs of these ids that exist."""
        rows = await self.session.rows("load_jobs", list(job_ids))
        return {row["id"]: StoredJob(state_of(row["state"]), row["hash"].hex()) for row in rows}

    async def jobs_by_key(self, keys: Iterable[str]) -> dict[str, int]:
        """Return which job each idempotency key has made."""
        rows = await self.session.rows("load_jobs_by_key", list(keys))
        return {row["idempotency_key"]: row["id"] for row in rows}

    async def known(self, asked: Sequence[IdKey]) -> dict[IdKey, Known]:
        """Return the events that are recorded already under these ids."""
        ids, event_ids = [job for job, _ in asked], [UUID(event_id) for _, event_id in asked]
        rows = await self.session.rows("find_events_by_id", ids, event_ids)
        return {(row["known_job"], str(row["known_id"])): _known(row) for row in rows}

    async def known_by_seq(self, asked: Sequence[SeqKey]) -> dict[SeqKey, Known]:
        """Return the first event recorded under each of these."""
        columns = [[key[column] for key in asked] for column in range(3)]
        rows = await self.session.rows("find_events_by_seq", *columns)
        return {
            (row["known_job"], row["known_attempt"], row["known_seq"]): _known(row) for row in rows
        }

    async def add_partition(self, size: int) -> None:
        """Give the log a table for this many further positions."""
        await self.session.run("add_log_partition", size)

    async def lock(self) -> None:
        """Keep every other writer waiting until the end of the transaction."""
        await self.session.run("lock_log_head")

    async def append(
        self,
        records: Sequence[Record],
        *,
        behind: Head,
        ahead: Head,
        jobs: Mapping[int, StoredJob],
        restated: Set[int],
        spans: Sequence[Span],
    ) -> datetime | None:
        """Write the events, and everything that is kept beside them, at once.

        `restated` names the jobs of which more than the pulse has changed. Returns the database's
        time; or None, and writes nothing, where the log does not end at `behind` any more, its
        term included. Raises RefusedDataError where the database takes a value for wrong, or knows
        one of the event ids.
        """
        made = [job for job_id, job in jobs.items() if job_id > behind.job_id]
        moved = [job for job_id, job in jobs.items() if job_id <= behind.job_id]
        values = (
            behind.position,
            ahead.position,
            ahead.job_id,
            ahead.now,
            dict(ahead.counts),
            *event_lines(records),
            *moved_lines([job.state for job in moved], [job.hash for job in moved], restated),
            behind.generation,
            behind.term,
        )
        if (
            not made and not spans
        ):  # nothing but callbacks of trainings that go on, as nearly always
            return await self._append_batch(values)
        async with self.session.transaction():
            now = await self._append_batch(values)
            if now is not None:
                columns = job_columns([job.state for job in made], [job.hash for job in made])
                await self.session.run("append_spans", *columns, *span_columns(spans))
        return now

    async def _append_batch(self, values: tuple[Any, ...]) -> datetime | None:
        row = await self.session.row("append_batch", *values)
        return row["now"] if row and row["appended"] else None


def _known(row: Row) -> Known:
    record = record_of(row) if row["type"] is not None else None
    return Known(row["known_position"], row["known_version"], record)


def span_columns(spans: Sequence[Span]) -> tuple[list[object], ...]:
    """Return the spans as one list a column, in the order of the table `job_spans`."""
    return (
        [span.position for span in spans],
        [span.state.id for span in spans],
        [span.state.version for span in spans],
        [span.recorded_at for span in spans],
        [span.state.status.value for span in spans],
        [span.state.attempt for span in spans],
        [recorded_verdict(span.state).value for span in spans],
        [span.state.reason.code for span in spans],
        [span.state.reason.message for span in spans],
        [dict(span.counts) for span in spans],
    )
