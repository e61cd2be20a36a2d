"""What a checkpoint says about itself. Pure: `train` reads the file, this reads its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.errors import ResumeError


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the training in a checkpoint is."""

    epochs_done: int
    complete: bool
    is_best: bool = False  # no earlier epoch was better


def read_standing(checkpoint: Mapping[str, Any], epochs: int) -> Standing:
    """Return how far it is towards `epochs`; raise ResumeError where it cannot be continued."""
    epoch, aimed_at = checkpoint.get("epoch"), _epochs_aimed_at(checkpoint)
    if not isinstance(epoch, int) or aimed_at is None:
        raise ResumeError("The checkpoint does not say how far its training was.")
    # Ultralytics strips the optimizer, and the epoch's number, once a training has ended.
    if epoch < 0 and checkpoint.get("optimizer") is None:
        if aimed_at < epochs:
            raise ResumeError(
                f"The checkpoint's training ended at {aimed_at} epochs, and {epochs} are wanted."
            )
        return Standing(aimed_at, complete=True)
    return Standing(epoch + 1, complete=epoch + 1 >= epochs, is_best=_is_best(checkpoint))


def own_fitness(checkpoint: Mapping[str, Any]) -> Any:
    """Return how fit the checkpoint's own weights are, or None where it does not say."""
    metrics = checkpoint.get("train_metrics")
    return metrics.get("fitness") if isinstance(metrics, Mapping) else None


def results_table(checkpoint: Mapping[str, Any]) -> str | None:
    """Return the results.csv that led to the checkpoint, or None where it holds none."""
    results = checkpoint.get("train_results")
    if not isinstance(results, Mapping) or not results:
        return None
    try:
        rows = [",".join(f"{value:.6g}" for value in row) for row in _rows(results)]
    except (TypeError, ValueError):
        return None
    return "\n".join([",".join(map(str, results)), *rows]) + "\n"


def _rows(columns: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return list(zip(*columns.values(), strict=True))


def _is_best(checkpoint: Mapping[str, Any]) -> bool:
    best = checkpoint.get("best_fitness")
    return best is not None and bool(best == own_fitness(checkpoint))


def _epochs_aimed_at(checkpoint: Mapping[str, Any]) -> int | None:
    arguments = checkpoint.get("train_args")
    epochs = arguments.get("epochs") if isinstance(arguments, Mapping) else None
    return epochs if isinstance(epochs, int) else None
