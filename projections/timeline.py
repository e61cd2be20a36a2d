"""The timeline: what a person reads of a job, attempt by attempt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, NotRequired, TypedDict

from projections.events import (
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Created,
    Data,
    Exited,
    Failed,
    Heartbeat,
    Heartbeats,
    Queued,
    Record,
    RetryScheduled,
    StopRequested,
    Succeeded,
    Terminating,
    TrainerEvent,
)
from projections.job import JobState, JobStatus, Reason
from projections.progress import (
    Stretch,
    completed_epoch,
    numbers_in,
    seconds_in,
    stretches_in,
    whole_number,
)
from projections.status import evolve, ruling
from projections.titles import detail_of, title_of

Phase = TypedDict(
    "Phase",
    {
        "phase": str,
        "from": datetime,
        "to": datetime | None,
        "seconds": float,
        "reason": str,
    },
)
"""A stretch of an attempt. `to` is None while it goes on; `seconds` then runs to now."""


class Epoch(TypedDict):
    """An epoch that the attempt completed, by the trainer's own clock."""

    epoch: int
    at: datetime
    seconds: float | None
    metrics: Mapping[str, float]


class Checkpoint(TypedDict):
    """A checkpoint that the attempt saved."""

    epoch: int | None
    uri: str | None
    at: datetime
    sha256: NotRequired[str]


class Gap(TypedDict):
    """Callbacks that are missing between two numbers of the trainer's own count."""

    after_seq: int
    before_seq: int


class Entry(TypedDict):
    """One line of the story."""

    at: datetime
    position: int
    kind: str
    title: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One launch of the trainer, from the decision to make it to its outcome."""

    attempt: int
    phases: list[Phase] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    lost_epochs: list[Epoch] = field(default_factory=list)
    """Epochs that a later attempt has trained again: they stand among its `epochs`."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    outcome: str | None = None
    """`succeeded`, `failed` or `cancelled`; None while it goes on."""
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A job's attempts and its story, with the state that they end in."""

    state: JobState
    attempts: Sequence[Attempt]
    entries: Sequence[Entry]


def timeline(records: Iterable[Record], now: datetime) -> Timeline:
    """Return the timeline of a job's records, whose open phases last until `now`."""
    story = Story()
    for record in records:
        story.add(record)
    return story.finished(now)


class Story:
    """A timeline in the making: add a job's records in order, then finish it."""

    def __init__(self) -> None:
        self.state = JobState()
        self.attempts: dict[int, Attempt] = {}
        self.seqs: dict[int, list[Stretch]] = {}
        self.trained_by: dict[int, int] = {}
        """By epoch: the latest attempt that completed it."""
        self.entries: list[Entry] = []

    def add(self, record: Record) -> None:
        """Take the next record."""
        counts = ruling(self.state, record) is None
        before, self.state = self.state, evolve(self.state, record)
        if isinstance(record.event, Created):
            self.attempts[1] = Attempt(attempt=1)
        attempt = self.attempts.get(record.attempt)
        known = _completed(attempt)
        if attempt is not None:
            self._note_facts(attempt, record)
            if counts:
                self._note_phase(attempt, before, record)
        completes = _completed(attempt) > known
        if counts and (completes or _tells_something(before, record)):
            self.entries.append(_entry(record))
        if not counts:
            self.entries.append(_entry(record, prefix="Set aside: "))

    def finished(self, now: datetime) -> Timeline:
        """Return the timeline so far, whose open phases last until `now`."""
        for attempt in self.attempts.values():
            attempt.gaps = gaps_in(self.seqs.get(attempt.attempt, ()))
            _measure(attempt)
            if attempt.phases and attempt.phases[-1]["to"] is None:
                last = attempt.phases[-1]
                last["seconds"] = _seconds(last["from"], now)
        ordered = [self.attempts[number] for number in sorted(self.attempts)]
        return Timeline(state=self.state, attempts=ordered, entries=self.entries)

    def _note_facts(self, attempt: Attempt, record: Record) -> None:
        """Note what the trainer reported, even where it no longer counts for the status."""
        if stretches := counted_in(record):
            self.seqs.setdefault(attempt.attempt, []).extend(stretches)
        match record.event:
            case Heartbeat(metrics=metrics) | Heartbeats(metrics=metrics) if (
                epoch := completed_epoch(record.event)
            ):
                self._note_epoch(attempt, epoch, record, metrics, None)
            case TrainerEvent(type="epoch_end", data=data):
                if ended := completed_epoch(record.event):
                    self._note_epoch(
                        attempt, ended, record, data.get("metrics"), data.get("seconds")
                    )
            case TrainerEvent(type="checkpoint_saved", data=data):
                attempt.checkpoints.append(_checkpoint(data, record))
            case _:
                pass

    def _note_epoch(
        self, attempt: Attempt, epoch: int, record: Record, metrics: Any, seconds: Any
    ) -> None:
        """Note a completed epoch with the latest attempt that trained it, and nowhere else."""
        latest = self.trained_by.get(epoch, attempt.attempt)
        if latest > attempt.attempt:
            _add_epoch(attempt.lost_epochs, epoch, record, metrics, seconds)
            return
        self.trained_by[epoch] = attempt.attempt
        _add_epoch(attempt.epochs, epoch, record, metrics, seconds)
        if latest < attempt.attempt:
            _lose_epoch(self.attempts[latest], epoch)

    def _note_phase(self, attempt: Attempt, before: JobState, record: Record) -> None:
        at = record.recorded_at
        match record.event:
            case Created():
                _enter(attempt, "pending", "created", at)
            case Queued(reason=reason):
                _enter(attempt, "queued", reason, at)
            case CancelRequested() if before.may_live or before.releasing:
                _enter(attempt, "cancelling", "cancel_requested", at)
            case StopRequested(reason=reason):
                _enter(attempt, "stopping", reason, at)
            case Terminating(reason=reason):
                _enter(attempt, "ending", reason, at)
            case Exited() if not before.status.is_final and not attempt.outcome:
                _enter(attempt, "exited", "waits_for_done", at)
            case TrainerEvent(type="phase_started", data={"phase": str(phase)}) if (
                not self._ending()
            ):
                _enter(attempt, phase, "reported_by_trainer", at)
            case AttemptFailed(reason=reason, message=message):
                _close(attempt, "failed", Reason(reason, message), at)
            case RetryScheduled(next_attempt=number, reason=reason):
                self.attempts[number] = Attempt(attempt=number)
                _enter(self.attempts[number], "queued", reason, at)
            case Succeeded() | Failed() | Cancelled():
                _close(attempt, self.state.status.value, self.state.reason, at)
            case _:
                self._note_start(attempt, before, record)

    def _note_start(self, attempt: Attempt, before: JobState, record: Record) -> None:
        now = self.state
        if now.status is not JobStatus.RUNNING or self._ending():
            return
        if before.status is not JobStatus.RUNNING and now.alive_at is None:
            _enter(attempt, "starting", now.reason.code, record.recorded_at)
        elif before.alive_at is None and now.alive_at is not None:
            _enter(attempt, "train", "called_back", record.recorded_at)
        elif before.status is not JobStatus.RUNNING:
            _enter(attempt, "train", now.reason.code, record.recorded_at)

    def _ending(self) -> bool:
        """Whether the attempt is on its way out: nothing it reports begins a phase any more."""
        ends = self.state.cancel or self.state.stop or self.state.ending or self.state.exit
        return bool(ends)


def counted_in(record: Record) -> Sequence[Stretch]:
    """Return the trainer's own numbers for which there is nothing left to come."""
    match record.event:
        case Heartbeats(seqs=seqs):
            return seqs
        case TrainerEvent(type="callbacks_dropped", data=data):
            return [*_own_number(record), *stretches_in(data.get("seqs"))]
        case _:
            return _own_number(record)


def _own_number(record: Record) -> list[Stretch]:
    return [(record.seq, record.seq)] if record.seq is not None else []


def gaps_in(stretches: Iterable[Stretch]) -> list[Gap]:
    """Return the holes in the trainer's count, which starts at 1."""
    gaps: list[Gap] = []
    seen = 0
    for first, last in sorted(stretches):
        if first > seen + 1:
            gaps.append(Gap(after_seq=seen, before_seq=first))
        seen = max(seen, last)
    return gaps


def _enter(attempt: Attempt, phase: str, reason: str, at: datetime) -> None:
    if attempt.outcome is not None:
        return
    last = attempt.phases[-1] if attempt.phases else None
    if last is not None and (last["phase"], last["reason"]) == (phase, reason):
        return
    _end_phase(attempt, at)
    opened: Phase = {"phase": phase, "from": at, "to": None, "seconds": 0.0, "reason": reason}
    attempt.phases.append(opened)


def _end_phase(attempt: Attempt, at: datetime) -> None:
    if attempt.phases and attempt.phases[-1]["to"] is None:
        last = attempt.phases[-1]
        last["to"] = at
        last["seconds"] = _seconds(last["from"], at)


def _close(attempt: Attempt, outcome: str, reason: Reason, at: datetime) -> None:
    if attempt.outcome is None:
        _end_phase(attempt, at)
        attempt.outcome, attempt.reason = outcome, reason


def _completed(attempt: Attempt | None) -> int:
    """Return how many epochs the attempt has completed."""
    return 0 if attempt is None else len(attempt.epochs) + len(attempt.lost_epochs)


def epoch_among(epochs: Sequence[Epoch], epoch: int) -> tuple[int, Epoch | None]:
    """Return the place of an epoch among others in their order, and it where it is there."""
    place = bisect_left(epochs, epoch, key=lambda known: known["epoch"])
    known = epochs[place] if place < len(epochs) else None
    return place, known if known is not None and known["epoch"] == epoch else None


def _add_epoch(epochs: list[Epoch], epoch: int, record: Record, metrics: Any, seconds: Any) -> None:
    """Note a completed epoch once; what a later callback adds to it is added."""
    numbers, lasted = numbers_in(metrics), seconds_in(seconds)
    place, known = epoch_among(epochs, epoch)
    if known is not None:
        known["metrics"] = {**known["metrics"], **numbers}
        known["seconds"] = known["seconds"] if known["seconds"] is not None else lasted
        return
    new: Epoch = {"epoch": epoch, "at": record.occurred_at, "seconds": lasted, "metrics": numbers}
    epochs.insert(place, new)


def _lose_epoch(attempt: Attempt, epoch: int) -> None:
    place, known = epoch_among(attempt.epochs, epoch)
    if known is not None:
        del attempt.epochs[place]
        attempt.lost_epochs.insert(epoch_among(attempt.lost_epochs, epoch)[0], known)


def _measure(attempt: Attempt) -> None:
    """Fill in how long epochs took of which the trainer did not say so itself."""
    in_order = sorted((*attempt.epochs, *attempt.lost_epochs), key=lambda one: one["epoch"])
    for before, epoch in pairwise(in_order):
        if epoch["seconds"] is None and epoch["epoch"] == before["epoch"] + 1:
            epoch["seconds"] = _seconds(before["at"], epoch["at"])


def _checkpoint(data: Data, record: Record) -> Checkpoint:
    saved: Checkpoint = {
        "epoch": whole_number(data.get("epoch")),
        "uri": data.get("uri") if isinstance(data.get("uri"), str) else None,
        "at": record.occurred_at,
    }
    if isinstance(data.get("sha256"), str):
        saved["sha256"] = data["sha256"]
    return saved


def _tells_something(before: JobState, record: Record) -> bool:
    """Return whether a person wants to read of this: not every heartbeat."""
    if not isinstance(record.event, Heartbeat | Heartbeats):
        return True
    return before.alive_at is None


def _entry(record: Record, *, prefix: str = "") -> Entry:
    title = title_of(record)
    return {
        "at": record.recorded_at,
        "position": record.position,
        "kind": record.type,
        "title": prefix + (title[0].lower() + title[1:] if prefix else title),
        "detail": detail_of(record),
    }


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)
