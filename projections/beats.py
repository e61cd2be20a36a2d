"""The fold of `projections.status` without a state for each heartbeat: most of the log is those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from projections.checkpoints import DAMAGED
from projections.events import Data, Heartbeat, Record, Source, TrainerEvent, decode
from projections.job import JobState, JobStatus, changed
from projections.progress import Progress, advance
from projections.status import evolve

Glimpse = tuple[int, int, int, str, datetime, Data]
"""What a fold looks at: an event's position, version, attempt, type, recording and data."""

_LARGEST = 1e300  # what a metric's number is below
_NEWS = DAMAGED | {"checkpoint_saved", "tracking_started"}


def fold_glimpses(
    state: JobState, job_id: int, trace_id: str, glimpses: Iterable[Glimpse]
) -> JobState:
    """Return what `status.fold` makes of a job's next events, from the state before them."""
    beats: Beats | None = None
    counting = _counting(state)
    for position, version, attempt, type_name, at, data in glimpses:
        if attempt == counting and (type_name == Heartbeat.TYPE or _is_like_one(type_name, data)):
            beats = beats or Beats(state)
            beats.add(position, version, at, type_name, data)
            continue
        if beats is not None:
            state, beats = beats.state, None
        record = Record(
            position=position,
            job_id=job_id,
            version=version,
            attempt=attempt,
            event_id="",
            source=Source.TRAINER,
            trace_id=trace_id,
            seq=None,
            occurred_at=at,
            recorded_at=at,
            event=decode(type_name, data),
        )
        state = evolve(state, record)
        counting = _counting(state)
    return state if beats is None else beats.state


def _counting(state: JobState) -> int | None:
    """Return the attempt whose callbacks count, and go on to whatever callbacks of it bring."""
    return state.attempt if state.status is JobStatus.RUNNING and state.result is None else None


def _is_like_one(type_name: str, data: Data) -> bool:
    """Return whether the event moves no more of a state than a heartbeat does."""
    return type_name == TrainerEvent.TYPE and data.get("type") not in _NEWS


class Beats:
    """A run of callbacks of a job's current attempt: `state` is what `evolve` makes of them."""

    def __init__(self, state: JobState) -> None:
        """Take a state in which they count."""
        self._before = state
        self._last = state.position, state.version, state.alive_at
        self._advanced_at = state.advanced_at
        self._own = _Reached(state.attempt_progress)
        alike = state.progress == state.attempt_progress
        self._whole = self._own if alike else _Reached(state.progress)

    def add(self, position: int, version: int, at: datetime, type_name: str, data: Data) -> None:
        """Take the next callback."""
        self._last = position, version, at
        if self._own.moves(type_name, data):
            self._advanced_at = at
        if self._whole is not self._own:
            self._whole.moves(type_name, data)

    @property
    def state(self) -> JobState:
        """The job after them."""
        position, version, alive_at = self._last
        own = self._own.progress
        return changed(
            self._before,
            version=version,
            position=position,
            alive_at=alive_at,
            advanced_at=self._advanced_at,
            attempt_progress=own,
            progress=own if self._whole is self._own else self._whole.progress,
        )


class _Reached:
    """A progress that moves in place for a usual heartbeat, and by `advance` for all else."""

    __slots__ = ("batch", "batches", "epoch", "epochs", "fraction", "metrics")

    def __init__(self, progress: Progress) -> None:
        self._set(progress)

    def _set(self, progress: Progress) -> None:
        self.epoch, self.epochs = progress.epoch, progress.epochs
        self.batch, self.batches = progress.batch, progress.batches
        self.fraction = progress.fraction
        self.metrics = dict(progress.metrics)

    @property
    def progress(self) -> Progress:
        return Progress(
            epoch=self.epoch,
            epochs=self.epochs,
            batch=self.batch,
            batches=self.batches,
            fraction=self.fraction,
            metrics=dict(self.metrics),
        )

    def moves(self, type_name: str, data: Data) -> bool:
        """Take a callback; return whether it brought another epoch, batch or fraction."""
        before = self.epoch, self.batch, self.fraction
        if type_name != Heartbeat.TYPE or not self._steps(data):
            event = decode(type_name, data)
            assert isinstance(event, Heartbeat | TrainerEvent)  # noqa: S101 - for the type checker
            self._set(advance(self.progress, event))
        return before != (self.epoch, self.batch, self.fraction)

    def _steps(self, data: Data) -> bool:
        """Take a heartbeat if it is a usual one; return whether it is."""
        epoch, batch, fraction = data.get("epoch"), data.get("batch"), data.get("progress")
        metrics = data.get("metrics")
        if epoch is None or fraction is None:
            return False
        if epoch < self.epoch:  # as after a retry: what is known goes before what it says
            if metrics and not metrics.keys() <= self.metrics.keys():
                return False
        else:
            if epoch == self.epoch and (batch is None or self.batch is None or batch < self.batch):
                return False
            if metrics and not self._renews(metrics):
                return False
            if epoch != self.epoch or batch != self.batch:
                self.epoch, self.batch, self.batches = epoch, batch, data.get("batches")
        self.epochs = data.get("epochs") or self.epochs
        if fraction > self.fraction:
            self.fraction = min(float(fraction), 1.0)
        return True

    def _renews(self, metrics: Mapping[str, Any]) -> bool:
        """Take metrics if they are numbers of the same names as those before; return whether."""
        if metrics.keys() != self.metrics.keys():
            return False
        for name, value in metrics.items():
            kind = type(value)
            if (kind is not float and kind is not int) or not -_LARGEST < value < _LARGEST:
                return False  # `advance` takes all of them again
            self.metrics[name] = float(value)
        return True
