"""Reads the whole log from the database and checks everything that must always hold of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import orjson
from pydantic import TypeAdapter

from projections.chain import GENESIS, link
from projections.events import Record, Source, decode
from projections.job import JobState
from projections.status import fold, ruling

_states = TypeAdapter(JobState)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the database holds it, and what it decodes to."""

    record: Record
    data: Any


@dataclass(frozen=True, slots=True)
class Ledger:
    """The log and the read model, both as of one moment."""

    entries: list[Entry]
    states: dict[int, tuple[int, Any]]
    """Each job's version and folded state, as JSON."""


async def ledger(url: str) -> Ledger:
    """Read all events, by position, and all jobs."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            events = await connection.fetch("select * from events order by position")
            jobs = await connection.fetch("select id, version, state || pulse as state from jobs")
    finally:
        await connection.close()
    states = {row["id"]: (row["version"], orjson.loads(row["state"])) for row in jobs}
    return Ledger([_entry(row) for row in events], states)


async def check_ledger(url: str, only_job: int | None = None) -> list[Record]:
    """Fail unless the log is whole, chained, and the jobs are what it says; return its events."""
    read = await ledger(url)
    records = [entry.record for entry in read.entries]
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    jobs: dict[int, list[Entry]] = {}
    for entry in read.entries:
        jobs.setdefault(entry.record.job_id, []).append(entry)
    assert set(read.states) == set(jobs)
    for job_id, own in jobs.items() if only_job is None else [(only_job, jobs[only_job])]:
        state = _checked(own)
        version, stored = read.states[job_id]
        assert version == state.version
        assert _states.validate_python(stored) == state
    return records


def _checked(log: list[Entry]) -> JobState:
    """Check the events of one job, and return what they make of it."""
    state, previous = JobState(), GENESIS
    for version, entry in enumerate(log, start=1):
        record = entry.record
        assert record.version == version
        assert record.hash == link(replace(record, stored=entry.data), previous)
        assert record.rule == ruling(state, record)
        state, previous = fold([record], state), record.hash
    return state


def _entry(row: Any) -> Entry:
    data = orjson.loads(row["data"])
    record = Record(
        position=row["position"],
        job_id=row["job_id"],
        version=row["version"],
        attempt=row["attempt"],
        event_id=str(row["event_id"]),
        source=Source(row["source"]),
        trace_id=str(row["trace_id"]),
        seq=row["seq"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        event=decode(row["type"], data),
        rule=row["rule"],
        hash=row["hash"].hex(),
    )
    return Entry(record, data)
