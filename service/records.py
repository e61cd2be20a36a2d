"""Rows of the database as the domain's values, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from projections.events import Record, Source, decode, encode
from projections.job import JobState

Columns = tuple[list[Any], ...]


class Row(Protocol):
    """A row, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


_states = TypeAdapter(JobState)
_sources = {source.value: source for source in Source}


def record_of(row: Row) -> Record:
    """Return the event that a row of `events` holds."""
    return Record(
        position=row["position"],
        job_id=row["job_id"],
        version=row["version"],
        attempt=row["attempt"],
        event_id=str(row["event_id"]),
        source=_sources[row["source"]],
        trace_id=str(row["trace_id"]),
        seq=row["seq"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        event=decode(row["type"], row["data"]),
        rule=row["rule"],
        hash=row["hash"].hex(),
        stored=row["data"],
    )


def state_of(data: Any) -> JobState:
    """Return the job that a `state` column holds."""
    return _states.validate_python(data)


def event_columns(records: Sequence[Record]) -> Columns:
    """Return the records as one list a column, in the order of the table `events`."""
    return (
        [record.position for record in records],
        [record.job_id for record in records],
        [record.version for record in records],
        [record.attempt for record in records],
        [UUID(record.event_id) for record in records],
        [record.type for record in records],
        [record.source.value for record in records],
        [UUID(record.trace_id) for record in records],
        [record.seq for record in records],
        [record.occurred_at for record in records],
        [record.recorded_at for record in records],
        [record.rule for record in records],
        [_json(encode(record.event)) for record in records],
        [bytes.fromhex(record.hash) for record in records],
    )


def job_columns(states: Sequence[JobState], hashes: Sequence[str]) -> Columns:
    """Return the jobs as one list a column, in the order of `append_batch`."""
    return (
        [state.id for state in states],
        [state.version for state in states],
        [state.position for state in states],
        [bytes.fromhex(digest) for digest in hashes],
        [state.status.value for state in states],
        [not state.status.is_final or state.holds_resources for state in states],
        [_json(dict(state.labels)) for state in states],
        [state.idempotency_key for state in states],
        [_json(state) for state in states],
        [state.first_position for state in states],
        [state.final_position for state in states],
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
