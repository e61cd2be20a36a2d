"""Reads the whole log from the database and checks everything that must always hold of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
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


async def entries(url: str) -> list[Entry]:
    """All events, by position."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select * from events order by position")
    finally:
        await connection.close()
    return [_entry(row) for row in rows]


async def check_ledger(url: str) -> list[Record]:
    """Fail unless the log is whole, chained, and the jobs are what it says; return its events."""
    log = await entries(url)
    records = [entry.record for entry in log]
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    by_job = sorted(log, key=lambda entry: entry.record.job_id)
    jobs = {
        job_id: list(own) for job_id, own in groupby(by_job, key=lambda entry: entry.record.job_id)
    }
    for own in jobs.values():
        _check_job(own)
    stored = await _stored_states(url)
    assert set(stored) == set(jobs)
    for job_id, own in jobs.items():
        state = fold(entry.record for entry in own)
        assert stored[job_id] == (state.version, _states.dump_python(state, mode="json"))
    return records


def _check_job(log: list[Entry]) -> None:
    state, previous = JobState(), GENESIS
    for version, entry in enumerate(log, start=1):
        record = entry.record
        assert record.version == version
        assert record.hash == link(record, previous, stored=entry.data)
        if version > 1:
            assert record.rule == ruling(state, record)
        state, previous = fold([record], state), record.hash


async def _stored_states(url: str) -> dict[int, tuple[int, Any]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select id, version, state from jobs")
    finally:
        await connection.close()
    return {row["id"]: (row["version"], orjson.loads(row["state"])) for row in rows}


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
