"""A job's history as spans, which is how systems that follow traces show it.

job → attempt → its phases and epochs. A span's id follows from what it stands for: whoever knows
the job's trace id, the trainer in another process too, can name a span as its parent that is made
much later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

from projections.events import Heartbeat, Heartbeats, Record, TrainerEvent
from projections.job import JobState, JobStatus
from projections.progress import completed_epoch, numbers_in, seconds_in
from projections.timeline import Attempt, Epoch, Phase, Timeline

Value = str | int | float | bool

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_NAME = 100
_MOST_METRICS = 50
_LONGEST_EPOCH = 366 * 24 * 3600.0  # in seconds; what a trainer says may be anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took time, within a trace. Times are nanoseconds since 1970."""

    name: str
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str | None
    start: int
    end: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str | None = None
    """What went wrong, where something did."""
    kind: Literal["internal", "server"] = "internal"
    by_trainer: bool = False
    """It happened in the training process, and the service was only told of it."""


def trace_hex(trace_id: str) -> str:
    """Return a job's trace id as W3C Trace Context spells it: 32 hexadecimal digits."""
    return trace_id.replace("-", "").lower()


def job_span_id(trace_id: str) -> str:
    """Return the id of the job's span, the root of its trace."""
    return _span_id(trace_id, "job")


def attempt_span_id(trace_id: str, attempt: int) -> str:
    """Return the id of an attempt's span."""
    return _span_id(trace_id, f"attempt/{attempt}")


def epoch_span_id(trace_id: str, attempt: int, epoch: int) -> str:
    """Return the id of the span of an epoch that an attempt trains."""
    return _span_id(trace_id, f"attempt/{attempt}/epoch/{epoch}")


def _span_id(trace_id: str, path: str) -> str:
    digest = sha256(f"{trace_hex(trace_id)}/{path}".encode()).digest()[:8]
    return (digest if any(digest) else b"\1" * 8).hex()  # all zeros are no id


def job_span(state: JobState) -> Span:
    """Return the span of a job that has ended."""
    assert state.created_at is not None  # noqa: S101 - only what was created can have ended
    return Span(
        name="job",
        trace_id=trace_hex(state.trace_id),
        span_id=job_span_id(state.trace_id),
        parent_id=None,
        start=nanoseconds(state.created_at),
        end=nanoseconds(state.completed_at or state.created_at),
        attributes={
            "epochlog.job_id": state.id,
            "epochlog.dataset_id": state.dataset_id,
            "epochlog.model_name": state.model_name,
            "epochlog.epochs": state.epochs,
            "epochlog.attempts": state.attempt,
            "epochlog.retry_count": state.retry_count,
            "epochlog.interruptions": state.interruptions,
            "epochlog.status": state.status.value,
            "epochlog.reason": state.reason.code,
        },
        error=state.reason.message if state.status is JobStatus.FAILED else None,
    )


def attempt_spans(told: Timeline, number: int, under_way: int = 0) -> Iterator[Span]:
    """Yield the spans of an attempt that has ended: itself, its phases and its epochs.

    `under_way` is the last epoch of which it has told that it runs.
    """
    attempt = next((one for one in told.attempts if one.attempt == number), None)
    if attempt is None or not attempt.phases:
        return
    state = told.state
    last = attempt.phases[-1]
    begin, end = attempt.phases[0]["from"], last["to"] or last["from"]
    reason = attempt.reason
    yield Span(
        name="attempt",
        trace_id=trace_hex(state.trace_id),
        span_id=attempt_span_id(state.trace_id, number),
        parent_id=job_span_id(state.trace_id),
        start=nanoseconds(begin),
        end=nanoseconds(end),
        attributes={
            **_about(state, number),
            "epochlog.outcome": attempt.outcome or "unknown",
            "epochlog.reason": reason.code if reason else "unknown",
        },
        error=reason.message if reason and attempt.outcome == "failed" else None,
    )
    for count, phase in enumerate(attempt.phases, start=1):
        yield _phase_span(state, number, count, phase, end)
    for epoch in (*attempt.epochs, *attempt.lost_epochs):
        at = min(max(epoch["at"], begin), end)
        start = max(at - _lasted(attempt, epoch, at), begin)
        yield _epoch_span(state, number, epoch["epoch"], epoch["metrics"], start=start, end=at)
    if under_way > max((epoch["epoch"] for epoch in attempt.epochs), default=0):
        start = min(max(_begins_of_the_last(attempt), default=begin), end)
        broken = _epoch_span(state, number, under_way, {}, start=max(start, begin), end=end)
        attributes = {**broken.attributes, "epochlog.outcome": "unfinished"}
        yield replace(broken, attributes=attributes)


def epoch_under_way(record: Record) -> int:
    """Return the epoch of which a callback tells that it runs, or 0."""
    match record.event:
        case Heartbeat(epoch=int(epoch), batch=int()) | Heartbeats(epoch=int(epoch), batch=int()):
            return epoch
        case _:
            return 0


def epoch_span(record: Record, state: JobState) -> Span | None:
    """Return the span of an epoch as soon as its end is told, where the trainer says how long.

    `state` is the job's after it. Where the trainer does not say, only the end of the attempt tells
    it from the epochs around.
    """
    event = record.event
    if not isinstance(event, TrainerEvent) or record.attempt > state.attempt:
        return None
    epoch, lasted = completed_epoch(event), seconds_in(event.data.get("seconds"))
    if not epoch or lasted is None:
        return None
    # The trainer's clock is believed between the making of its attempt and the recording.
    began = state.attempt_queued_at if record.attempt == state.attempt else None
    end = min(record.occurred_at, record.recorded_at)
    end = end if began is None else max(end, began)
    start = end - timedelta(seconds=min(lasted, _LONGEST_EPOCH))
    start = start if began is None else max(start, began)
    metrics = numbers_in(event.data.get("metrics"))
    return _epoch_span(state, record.attempt, epoch, metrics, start=start, end=end)


def nanoseconds(moment: datetime) -> int:
    """Return a moment as nanoseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _phase_span(state: JobState, attempt: int, count: int, phase: Phase, end: datetime) -> Span:
    reason = phase["reason"]
    return Span(
        name=phase["phase"][:_LONGEST_NAME],
        trace_id=trace_hex(state.trace_id),
        span_id=_span_id(state.trace_id, f"attempt/{attempt}/phase/{count}"),
        parent_id=attempt_span_id(state.trace_id, attempt),
        start=nanoseconds(phase["from"]),
        end=nanoseconds(phase["to"] or end),
        attributes={**_about(state, attempt), "epochlog.reason": reason},
        by_trainer=reason == "reported_by_trainer",
    )


def _epoch_span(
    state: JobState,
    attempt: int,
    epoch: int,
    metrics: Mapping[str, float],
    *,
    start: datetime,
    end: datetime,
) -> Span:
    measured = {
        f"epochlog.metrics.{name[:_LONGEST_NAME]}": value
        for name, value in list(metrics.items())[:_MOST_METRICS]
    }
    return Span(
        name="epoch",
        trace_id=trace_hex(state.trace_id),
        span_id=epoch_span_id(state.trace_id, attempt, epoch),
        parent_id=attempt_span_id(state.trace_id, attempt),
        start=nanoseconds(start),
        end=nanoseconds(end),
        attributes={**_about(state, attempt), "epochlog.epoch": epoch, **measured},
        by_trainer=True,
    )


def _lasted(attempt: Attempt, epoch: Epoch, at: datetime) -> timedelta:
    """Return how long an epoch took; one of which nobody knows began with its phase."""
    if epoch["seconds"] is not None:
        return timedelta(seconds=min(epoch["seconds"], _LONGEST_EPOCH))
    began = [phase["from"] for phase in attempt.phases if phase["from"] <= at]
    return at - began[-1] if began else timedelta(0)


def _begins_of_the_last(attempt: Attempt) -> list[datetime]:
    """Return each moment after which the epoch that was not finished may have begun."""
    ends = [epoch["at"] for epoch in attempt.epochs]
    return ends + [phase["from"] for phase in attempt.phases if phase["phase"] == "train"]


def _about(state: JobState, attempt: int) -> dict[str, Value]:
    return {"epochlog.job_id": state.id, "epochlog.attempt": attempt}
