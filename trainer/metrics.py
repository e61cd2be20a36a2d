"""The library's metric names and numbers, as a person and JSON want them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

# What ultralytics writes behind a metric of a task: boxes are the plain case.
SUFFIXES = {"(B)": "", "(M)": "_mask", "(P)": "_pose"}


def tidy_name(name: str) -> str:
    """Return `mAP50` for `metrics/mAP50(B)`, `train_box_loss` for `train/box_loss`."""
    name = name.removeprefix("metrics/")
    for suffix, replacement in SUFFIXES.items():
        if name.endswith(suffix):
            name = name.removesuffix(suffix) + replacement
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_")


def tidy(raw: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the finite metrics under tidy names, and the names of the others (JSON has no NaN)."""
    numbers = {tidy_name(name): _number(name, value) for name, value in raw.items()}
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return finite, sorted(numbers.keys() - finite.keys())


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor of several
        raise ValueError(f"The metric {name} must be one number, not {value!r:.100}.") from error
