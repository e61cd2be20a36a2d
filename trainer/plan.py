"""What to train, and where to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a model does, by the end of its architecture's name; ultralytics names them so.
TASKS = {"-cls": "classify", "-seg": "segment", "-pose": "pose", "-obb": "obb"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One training, as ultralytics is to be asked for it."""

    model: str
    data: Path
    epochs: int
    imgsz: int
    batch: int
    params: Mapping[str, Any]
    folder: Path
    resumed_from: str | None = None

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.folder / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "weights" / "best.pt"


def task_named(model: str) -> str | None:
    """Return the task of an architecture by its name; None for weights: they say it themselves."""
    file = Path(model)
    if file.suffix != ".yaml":
        return None
    named = (task for ending, task in TASKS.items() if ending in file.stem)
    return next(named, "detect")
