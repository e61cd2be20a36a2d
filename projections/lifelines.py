"""What was heard of each attempt, and when nothing was: all that a watchdog goes by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from projections.events import (
    AttemptFailed,
    Done,
    Heartbeat,
    Heartbeats,
    Record,
    RetryScheduled,
    StopRequested,
    TrainerEvent,
)
from projections.health import Verdict
from projections.job import JobState, JobStatus
from projections.progress import checkpoint_in
from projections.status import evolve, ruling

HEARTBEAT_LOST = "heartbeat_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A stretch in which an attempt that was watched did not call back, or did not advance."""

    begin: datetime
    end: datetime | None
    """None: for ever, as far as anybody knows, because the watchdog of then ended the attempt."""
    resumes_from: datetime
    """To when a new attempt would have been thrown back: the last checkpoint, or the start."""
    is_broken: bool
    """It ended by a callback, or an advance, and not with the attempt."""


@dataclass(slots=True, kw_only=True)
class Lifeline:
    """One attempt, from the moment at which it was seen running."""

    job_id: int
    attempt: int
    began_at: datetime
    silences: list[Silence] = field(default_factory=list)
    stalls: list[Silence] = field(default_factory=list)
    unreachable: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    """When the executor could not be asked; without an end where it still cannot."""
    called_at: datetime | None = None
    """The last callback, even one that came too late to count."""
    ended_at: datetime | None = None
    """When the attempt was known to be over, or was told to end; None while it goes on."""
    retry_delay: float | None = None
    """For how long the attempt after it had to wait, in seconds, if there was one."""
    tries: int = 0
    """How many retries and interruptions the job had before that wait."""


class Lifelines:
    """The attempts of one job: add its events in order, then finish."""

    def __init__(self) -> None:
        """Start before the first event."""
        self._state = JobState()
        self._lines: dict[int, Lifeline] = {}
        self._saved_at: datetime | None = None

    def add(self, record: Record) -> None:
        """Take the job's next event."""
        counts = ruling(self._state, record) is None
        before, after = self._state, evolve(self._state, record)
        self._state = after
        line = self._lines.get(record.attempt)
        if line is not None and isinstance(
            record.event, Heartbeat | Heartbeats | TrainerEvent | Done
        ):
            _hear_late(line, record)
            line.called_at = record.recorded_at
        current = self._lines.get(before.attempt)
        if current is not None and _is_watched(before) and counts:
            self._follow(current, before, after, record)
        elif _is_watched(after) and after.attempt not in self._lines:
            self._begin(after, record)
        if current is not None and (after.attempt != before.attempt or _is_over(after)):
            current.ended_at = current.ended_at or record.recorded_at
        if counts and isinstance(record.event, RetryScheduled) and line is not None:
            line.retry_delay = record.event.delay_seconds
            line.tries = before.retry_count + before.interruptions

    def finished(self, now: datetime) -> list[Lifeline]:
        """Return the attempts; a silence that lasts is known up to now."""
        state = self._state
        if _is_watched(state):
            line = self._lines[state.attempt]
            line.silences.append(self._silence(line, _heard_at(state), now, is_broken=False))
            line.stalls.append(self._silence(line, _moved_at(state), now, is_broken=False))
        return list(self._lines.values())

    def _begin(self, state: JobState, record: Record) -> None:
        self._saved_at = None
        at = record.recorded_at
        self._lines[state.attempt] = Lifeline(
            job_id=record.job_id, attempt=state.attempt, began_at=at, called_at=state.alive_at
        )

    def _follow(self, line: Lifeline, before: JobState, after: JobState, record: Record) -> None:
        """Note what the event, which counts, does to an attempt that was watched before it."""
        at, goes_on = record.recorded_at, _is_watched(after)
        called = after.attempt == before.attempt and after.alive_at != before.alive_at
        if isinstance(record.event, Heartbeats):
            self._follow_run(line, before, record.event, at)
        elif called or not goes_on:
            end = None if _is_lost(record) else at
            line.silences.append(self._silence(line, _heard_at(before), end, is_broken=called))
        moved = after.attempt == before.attempt and after.advanced_at != before.advanced_at
        if moved or not goes_on:
            end = begin_of(record)
            line.stalls.append(self._silence(line, _moved_at(before), end, is_broken=moved))
        self._note_reach(line, before, after, at)
        if isinstance(record.event, TrainerEvent) and checkpoint_in(record.event):
            self._saved_at = at

    def _follow_run(self, line: Lifeline, before: JobState, run: Heartbeats, at: datetime) -> None:
        """Note the silences around a run that was rolled up: of those in it, only the longest."""
        first = datetime.fromisoformat(run.first_at)
        line.silences.append(self._silence(line, _heard_at(before), first, is_broken=True))
        longest = at - timedelta(seconds=run.max_gap_seconds)
        line.silences.append(self._silence(line, longest, at, is_broken=True))

    def _silence(
        self, line: Lifeline, begin: datetime, end: datetime | None, *, is_broken: bool
    ) -> Silence:
        since = self._saved_at or line.began_at
        return Silence(begin=begin, end=end, resumes_from=since, is_broken=is_broken)

    def _note_reach(self, line: Lifeline, before: JobState, after: JobState, at: datetime) -> None:
        was, is_now = (state.verdict == Verdict.UNREACHABLE for state in (before, after))
        if is_now and not was:
            line.unreachable.append((at, None))
        elif was and not is_now and line.unreachable:
            line.unreachable[-1] = (line.unreachable[-1][0], at)


def begin_of(record: Record) -> datetime:
    """Return when an event was recorded, or the first of a run that was rolled up."""
    run = record.event
    if isinstance(run, Heartbeats):
        return datetime.fromisoformat(run.first_at)
    return record.recorded_at


def _is_watched(state: JobState) -> bool:
    """Return whether silence may end the attempt: it runs and nothing else has ended it."""
    return state.status is JobStatus.RUNNING and not _is_over(state)


def _is_over(state: JobState) -> bool:
    """Return whether the current attempt has ended, or was told to."""
    ends = state.exit or state.result or state.stop or state.cancel or state.failure
    return bool(ends) or state.status.is_final


def _is_lost(record: Record) -> bool:
    """Return whether the watchdog of then ended the attempt."""
    event = record.event
    return isinstance(event, StopRequested | AttemptFailed) and event.reason == HEARTBEAT_LOST


def _hear_late(line: Lifeline, record: Record) -> None:
    """End a silence that was taken for death by a callback that came after all."""
    last = line.silences[-1] if line.silences else None
    if last is not None and last.end is None:
        line.silences[-1] = replace(last, end=record.recorded_at, is_broken=True)


def _heard_at(state: JobState) -> datetime:
    return _latest(state.running_since, state.alive_at)


def _moved_at(state: JobState) -> datetime:
    return _latest(state.running_since, state.advanced_at)


def _latest(running_since: datetime | None, other: datetime | None) -> datetime:
    assert running_since is not None  # noqa: S101 - a job that runs has run since some moment
    return max(running_since, other) if other else running_since
