"""The state diagram, found by trying: what the rules make of every kind of fact in every state."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from projections.consequences import next_decision
from projections.events import (
    Adopted,
    CancelDelivered,
    CancelRequested,
    Created,
    Done,
    Event,
    Exited,
    Heartbeat,
    Queued,
    Record,
    Running,
    Source,
    TrainerEvent,
    type_of,
)
from projections.job import JobState, JobStatus
from projections.policy import Moment, Policy
from projections.rules import SENTENCES
from projections.status import evolve

POLICY = Policy(queue_timeout=5_000, max_interruptions=1)
CREATED = Created(dataset_id="d", model_name="m", epochs=1, max_retries=1)
FACTS: tuple[Event, ...] = (
    Queued(reason="waiting_for_slot", message=""),
    Queued(reason="submitted", message="", executor="local"),
    Running(reason="seen_alive", message=""),
    Adopted(handle="", message=""),
    Heartbeat(),
    TrainerEvent(type="epoch_end"),
    Done(status="succeeded"),
    Done(status="failed"),
    Done(status="failed", error={"retryable": False}),
    Exited(exit_code=0),
    Exited(exit_code=1),
    Exited(machine_lost=True),
    CancelRequested(),
    CancelDelivered(),
)
SOON, LATE = timedelta(seconds=1), timedelta(seconds=10_000)
_CALLBACKS = ("heartbeat", "trainer_event", "done")


class Change(NamedTuple):
    """An event of this type takes a job from one status to another."""

    before: JobStatus | None
    after: JobStatus
    by: str


@cache
def changes() -> frozenset[Change]:
    """Return every change of status that the rules can make."""
    start = datetime(2000, 1, 1, tzinfo=UTC)
    created = _recorded(JobState(), CREATED, start)
    found = {Change(None, created.status, "created")}
    open_ends = [(created, start)]
    known = {_shape(created)}
    while open_ends:
        state, now = open_ends.pop()
        for path, later in _outcomes(state, now):
            found.update(_changes_along(path))
            reached = path[-1][0]
            if not reached.status.is_final and _shape(reached) not in known:
                known.add(_shape(reached))
                open_ends.append((reached, later))
    return frozenset(found)


_Path = list[tuple[JobState, str]]
"""States, each with the type of the event that led to it."""


def _outcomes(state: JobState, now: datetime) -> Iterator[tuple[_Path, datetime]]:
    """What follows from each kind of fact, and from time alone."""
    yield _decided([(state, "")], now + LATE), now + LATE
    for fact in FACTS:
        path = [(state, ""), (_recorded(state, fact, now + SOON), type_of(fact))]
        yield _decided(path, now + SOON), now + SOON


def _decided(path: _Path, now: datetime) -> _Path:
    while (event := next_decision(path[-1][0], Moment(now=now), POLICY)) is not None:
        path.append((_recorded(path[-1][0], event, now), type_of(event)))
    return path


def _recorded(state: JobState, event: Event, now: datetime) -> JobState:
    record = Record(
        position=state.version + 1,
        job_id=1,
        version=state.version + 1,
        attempt=state.attempt,
        event_id="",
        source=Source.API,
        trace_id="",
        seq=None,
        occurred_at=now,
        recorded_at=now,
        event=event,
    )
    return evolve(state, record)


def _changes_along(path: _Path) -> Iterator[Change]:
    for (before, _), (after, by) in pairwise(path):
        if before.status is not after.status:
            yield Change(before.status, after.status, by)


def _shape(state: JobState) -> tuple[object, ...]:
    """What of a state decides how it goes on, clocks and places in the log left out."""
    exit_, result, cancel = state.exit, state.result, state.cancel
    return (
        state.status,
        state.executor,
        state.retry_count,
        state.interruptions,
        state.releasing is None,
        state.may_live,
        state.stop is None,
        exit_ and (exit_.exit_code, exit_.machine_lost),
        result and (result.succeeded, result.after_cancel),
        cancel and cancel.delivered is None,
    )


def mermaid() -> str:
    """Return the diagram as Mermaid draws it."""
    edges: dict[tuple[JobStatus | None, JobStatus], set[str]] = {}
    for change in changes():
        edges.setdefault((change.before, change.after), set()).add(change.by)
    order = [None, *JobStatus]
    lines = [
        f"    {before or '[*]'} --> {after}: {_label(edges[before, after])}"
        for before, after in sorted(edges, key=lambda ends: tuple(map(order.index, ends)))
    ]
    ends = [f"    {status} --> [*]" for status in JobStatus if status.is_final]
    return "\n".join(["stateDiagram-v2", *lines, *ends])


def _label(types: set[str]) -> str:
    callbacks = types.issuperset(_CALLBACKS)
    named = sorted(types.difference(_CALLBACKS) if callbacks else types)
    return ", ".join([*named, *(["any callback"] if callbacks else [])])


def rules() -> str:
    """Return the table of the rules."""
    rows = [f"| `{rule}` | {sentence} |" for rule, sentence in SENTENCES.items()]
    return "\n".join(["| rule | what it says |", "|---|---|", *rows])


def document() -> str:
    """Return what `docs/states.md` holds between its markers."""
    return f"```mermaid\n{mermaid()}\n```\n\n{rules()}\n"


if __name__ == "__main__":
    sys.stdout.write(document())
