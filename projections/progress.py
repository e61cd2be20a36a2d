"""How far a training is, from what its callbacks say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from projections.events import Callback, Done, Heartbeat, TrainerEvent


@dataclass(frozen=True, slots=True, kw_only=True)
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


def advance(progress: Progress, event: Callback) -> Progress:
    """Return the progress after one callback of the current attempt."""
    match event:
        case Heartbeat(epoch=epoch):
            progress = replace(progress, metrics={**progress.metrics, **event.metrics})
            if event.epochs:
                progress = replace(progress, epochs=event.epochs)
            progress = _to(progress, epoch, event.batch, event.batches)
            return _with_fraction(progress, event.progress)
        case TrainerEvent(type="epoch_end", data=data):
            metrics = {**progress.metrics, **_numbers(data.get("metrics"))}
            progress = replace(progress, metrics=metrics)
            return _with_fraction(_to(progress, whole_number(data.get("epoch")), None, None), None)
        case TrainerEvent():
            return progress
        case Done(metrics=metrics, status=status):
            progress = replace(progress, metrics={**progress.metrics, **metrics})
            return replace(progress, fraction=1.0) if status == "succeeded" else progress


def checkpoint_in(event: Callback) -> str | None:
    """Return the URI of the checkpoint from which a later attempt may resume, if one is named."""
    match event:
        case TrainerEvent(type="checkpoint_saved", data={"uri": str(uri)}):
            return uri
        case _:
            return None


def whole_number(value: Any) -> int | None:
    """Return a count that a trainer sent as free data, or None where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    return {
        str(name): number
        for name, number in value.items()
        if isinstance(number, int | float) and not isinstance(number, bool)
    }


def _to(progress: Progress, epoch: int | None, batch: int | None, batches: int | None) -> Progress:
    if epoch is None or _place(epoch, batch) <= _place(progress.epoch, progress.batch):
        return progress
    return replace(progress, epoch=epoch, batch=batch, batches=batches)


def _place(epoch: int, batch: int | None) -> tuple[int, bool, int]:
    """Order points of a training: within an epoch its batches come before its end."""
    return epoch, batch is None, batch or 0


def _with_fraction(progress: Progress, said: float | None) -> Progress:
    reached = said if said is not None else _fraction(progress)
    return replace(progress, fraction=max(progress.fraction, min(reached, 1.0)))


def _fraction(progress: Progress) -> float:
    if progress.epochs <= 0:
        return 0.0
    if progress.batch is None:
        return progress.epoch / progress.epochs
    within = progress.batch / progress.batches if progress.batches else 0.0
    return (max(progress.epoch - 1, 0) + within) / progress.epochs
