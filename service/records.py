"""Rows of the database as the domain's values, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import fields
from operator import is_, itemgetter
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter

from projections.beats import Glimpse
from projections.chain import spelled
from projections.events import Record, Source, decode
from projections.job import JobState

Columns = tuple[list[Any], ...]
Lines = tuple[str, ...]


class Row(Protocol):
    """A row, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


PULSE = ("version", "position", "alive_at", "advanced_at", "progress", "attempt_progress")
"""The fields of a job's state that every callback moves; they have a column of their own."""
_REST = tuple(f.name for f in fields(JobState) if f.name not in PULSE)
_rest_values = itemgetter(*_REST)
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


def glimpses_in(page: Row) -> Iterator[Glimpse]:
    """Yield what a fold looks at in the events of a page that has a list a column."""
    names = ("positions", "versions", "attempts", "types", "times")
    return zip(*(page[name] for name in names), orjson.loads(page["data"]), strict=True)


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
        [record.event_id for record in records],
        [record.type for record in records],
        [record.source.value for record in records],
        [record.trace_id for record in records],
        [record.seq for record in records],
        [record.occurred_at for record in records],
        [record.recorded_at for record in records],
        [record.rule for record in records],
        [spelled(record) for record in records],
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
        [_is_watched(state) for state in states],
        [_json(dict(state.labels)) for state in states],
        [state.idempotency_key for state in states],
        [_json(_rest_of(state)) for state in states],
        [state.first_position for state in states],
        [state.final_position for state in states],
        [_json(_pulse_of(state)) for state in states],
    )


def event_lines(records: Sequence[Record]) -> Lines:
    """Return the records as one text a column, a line a record, as `append_batch` takes them."""
    return (
        "\n".join([str(record.position) for record in records]),
        "\n".join([str(record.job_id) for record in records]),
        "\n".join([str(record.version) for record in records]),
        "\n".join([str(record.attempt) for record in records]),
        "\n".join([record.event_id for record in records]),
        "\n".join([record.type for record in records]),
        "\n".join([record.source.value for record in records]),
        "\n".join([record.trace_id for record in records]),
        "\n".join([str(record.seq or "") for record in records]),
        "\n".join([record.occurred_at.isoformat() for record in records]),
        "\n".join([record.recorded_at.isoformat() for record in records]),
        "\n".join([record.rule or "" for record in records]),
        "\n".join([spelled(record) for record in records]),
        "\n".join([record.hash for record in records]),
    )


def moved_lines(states: Sequence[JobState], hashes: Sequence[str], rests: Set[int]) -> Lines:
    """Return jobs that went on, a line a job, as `append_batch` takes them.

    `rests` names those of which more than the pulse has changed.
    """
    return (
        "\n".join([str(state.id) for state in states]),
        "\n".join([str(state.version) for state in states]),
        "\n".join([str(state.position) for state in states]),
        "\n".join(hashes),
        "\n".join([state.status.value for state in states]),
        "\n".join([str(_is_watched(state)) for state in states]),
        "\n".join([str(state.final_position or "") for state in states]),
        "\n".join([_json(_pulse_of(state)) for state in states]),
        "\n".join([_json(_rest_of(state)) if state.id in rests else "" for state in states]),
    )


def only_pulse_differs(one: JobState, other: JobState) -> bool:
    """Return whether two states of a job are the same but for what every callback moves."""
    return all(map(is_, _rest_values(one.__dict__), _rest_values(other.__dict__)))


def _is_watched(state: JobState) -> bool:
    return not state.status.is_final or state.holds_resources


def _pulse_of(state: JobState) -> dict[str, Any]:
    return {name: state.__dict__[name] for name in PULSE}


def _rest_of(state: JobState) -> dict[str, Any]:
    return {name: state.__dict__[name] for name in _REST}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
