"""How far a training is, from what its callbacks say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from projections.events import Callback, Done, Event, Heartbeat, Heartbeats, TrainerEvent

Stretch = tuple[int, int]
"""The first and the last of numbers in the trainer's count that came without a hole."""

_LARGEST_COUNT = 2**53  # what JSON's readers agree on
_LONGEST_ID = 200
_MOST_METRICS = 200  # names; a trainer that puts the step into the name would fill the state


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class Progress:
    """The furthest point that was reported; it never goes back."""

    epoch: int = 0
    """The last epoch that is complete, or under way while `batch` is set; 0 before the first."""
    epochs: int = 0
    batch: int | None = None
    """The last batch done of the epoch under way; None where the epoch is complete."""
    batches: int | None = None
    fraction: float = 0.0
    """How much of the whole training is done, from 0 to 1."""
    metrics: Mapping[str, float] = field(default_factory=dict)


def has_moved(before: Progress, after: Progress) -> bool:
    """Return whether a callback brought a new epoch or batch, and not only a sign of life."""
    return (
        after.epoch != before.epoch
        or after.batch != before.batch
        or after.fraction != before.fraction
    )


def advance(progress: Progress, event: Callback | Heartbeats) -> Progress:
    """Return the progress after one callback of the current attempt."""
    match event:
        case Heartbeat() | Heartbeats():
            return _beaten(progress, event)
        case TrainerEvent(type="epoch_end", data=data):
            ended, metrics = whole_number(data.get("epoch")), numbers_in(data.get("metrics"))
            return _after_epoch(progress, ended, metrics)
        case TrainerEvent():
            return progress
        case Done(metrics=metrics, status=status):
            fraction = 1.0 if status == "succeeded" else progress.fraction
            merged = _merged(progress, None, None, metrics)
            return replace(progress, metrics=merged, fraction=fraction)


def _after_epoch(progress: Progress, ended: int | None, metrics: Mapping[str, float]) -> Progress:
    epoch, batch, batches = _furthest(progress, ended, None, None)
    reached = _fraction(epoch, progress.epochs, batch, batches)
    return Progress(
        epoch=epoch,
        epochs=progress.epochs,
        batch=batch,
        batches=batches,
        fraction=max(progress.fraction, min(reached, 1.0)),
        metrics=_merged(progress, ended, None, metrics),
    )


def _beaten(progress: Progress, beat: Heartbeat | Heartbeats) -> Progress:
    """Return the progress after a heartbeat, in one step: most of the log is heartbeats."""
    epoch, batch, batches = _furthest(progress, beat.epoch, beat.batch, beat.batches)
    epochs = beat.epochs or progress.epochs
    fraction = beat.progress
    if fraction is None:
        fraction = _fraction(epoch, epochs, batch, batches)
    return Progress(
        epoch=epoch,
        epochs=epochs,
        batch=batch,
        batches=batches,
        fraction=max(progress.fraction, min(float(fraction), 1.0)),
        metrics=_merged(progress, beat.epoch, beat.batch, beat.metrics),
    )


def checkpoint_in(event: Callback) -> str | None:
    """Return the URI of the checkpoint from which a later attempt may resume, if one is named."""
    match event:
        case TrainerEvent(type="checkpoint_saved", data={"uri": str(uri)}):
            return uri
        case _:
            return None


def tracking_run_in(event: Event) -> str | None:
    """Return the MLflow run in which an attempt is tracked, if a callback names it."""
    match event:
        case TrainerEvent(type="tracking_started", data={"mlflow_run_id": str(run_id)}):
            return run_id if 0 < len(run_id) <= _LONGEST_ID else None
        case Done(mlflow_run_id=str(run_id)) if run_id:
            return run_id
        case _:
            return None


def completed_epoch(event: Event) -> int | None:
    """Return the epoch that a callback reports as complete, if it does."""
    match event:
        case (
            Heartbeat(epoch=int(epoch), batch=None, metrics=metrics)
            | Heartbeats(epoch=int(epoch), batch=None, metrics=metrics)
        ) if metrics and epoch > 0:
            return epoch
        case TrainerEvent(type="epoch_end", data=data):
            return whole_number(data.get("epoch"))
        case _:
            return None


def whole_number(value: Any) -> int | None:
    """Return a count that a trainer sent as free data, or None where it is none."""
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and 0 <= value <= _LARGEST_COUNT else None


def stretches_in(value: Any) -> list[Stretch]:
    """Return the stretches of its own count that a trainer sent as free data."""
    found = value if isinstance(value, list | tuple) else ()
    return [(pair[0], pair[1]) for pair in found if _is_stretch(pair)]


def _is_stretch(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    first, last = map(whole_number, value)
    return first is not None and last is not None and 0 < first <= last


def seconds_in(value: Any) -> float | None:
    """Return a duration that a trainer sent as free data, or None where it is none."""
    return float(value) if _is_number(value) and value >= 0 else None


def numbers_in(value: Any) -> dict[str, float]:
    """Return the numbers among the metrics that a trainer sent as free data."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name): float(number) for name, number in value.items() if _is_number(number)}


def _is_number(value: Any) -> bool:
    """Tell numbers that a float can hold from everything else that JSON can."""
    kind = type(value)
    return (kind is float or kind is int) and abs(value) < 1e300


def _merged(
    progress: Progress, epoch: int | None, batch: int | None, metrics: Mapping[str, float]
) -> Mapping[str, float]:
    """Add metrics; those of a point that was passed before never replace newer ones."""
    if not metrics:
        return progress.metrics
    late = epoch is not None and _is_before(progress, epoch, batch)
    older, newer = (metrics, progress.metrics) if late else (progress.metrics, metrics)
    both = {**older, **newer}
    if len(both) > _MOST_METRICS:
        # By name and not by arrival: jsonb keeps no order, and a replay must end in the same state.
        kept = [*sorted(newer), *sorted(older.keys() - newer.keys())][:_MOST_METRICS]
        both = {name: both[name] for name in kept}
    return numbers_in(both)


def _furthest(
    progress: Progress, epoch: int | None, batch: int | None, batches: int | None
) -> tuple[int, int | None, int | None]:
    """Return the epoch, batch and batches of whichever is further, the progress or this point."""
    if epoch == progress.epoch and batch is not None and progress.batch is not None:
        if batch <= progress.batch:  # as most often: a batch of the epoch under way
            return epoch, progress.batch, progress.batches
        return epoch, batch, batches
    if epoch is None:  # a trainer that only counts batches
        epoch, batch = progress.epoch, progress.batch if batch is None else batch
    if _place(epoch, batch) <= _place(progress.epoch, progress.batch):
        return progress.epoch, progress.batch, progress.batches
    return epoch, batch, batches


def _is_before(progress: Progress, epoch: int, batch: int | None) -> bool:
    """Return whether a point lies before where the training is."""
    if epoch != progress.epoch:
        return epoch < progress.epoch
    return _place(epoch, batch) < _place(epoch, progress.batch)


def _place(epoch: int, batch: int | None) -> tuple[int, bool, int]:
    """Order points of a training: within an epoch its batches come before its end.

    There is no end of epoch 0: it stands for the start, or for the first of who counts from 0.
    """
    return epoch, batch is None and epoch > 0, -1 if batch is None else batch


def _fraction(epoch: int, epochs: int, batch: int | None, batches: int | None) -> float:
    if epochs <= 0:
        return 0.0
    epoch = min(epoch, epochs)
    if batch is None:
        return epoch / epochs
    within = min(batch, batches) / batches if batches else 0.0
    return (max(epoch - 1, 0) + within) / epochs
