"""The curves of a training, drawn from its results.csv: the only file that knows matplotlib."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from trainer.failures import brief
from trainer.metrics import tidy_name
from trainer.refusals import UnusableError

COLUMNS = 4
PANEL_INCHES = (3.2, 2.6)

Series = Mapping[str, list[float]]


def read_table(file: Path) -> dict[str, list[float]]:
    """Return the columns of a results.csv; raises OSError, or ValueError without numbers."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, skipinitialspace=True))
    if not rows:
        raise ValueError(f"{file.name} holds no epoch.")
    try:
        return {name.strip(): [float(row[name]) for row in rows] for name in rows[0]}
    except TypeError:
        raise ValueError(f"{file.name} has rows that are too short.") from None


def panels(table: Series) -> dict[str, Series]:
    """Return the series of each picture: a loss in training beside the one in validation."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, values in table.items():
        kind, _, rest = name.partition("/")
        if kind in {"train", "val"} and rest:
            found.setdefault(rest, {})[kind] = values
        elif kind == "lr":
            found.setdefault("learning rate", {})[rest] = values
        elif name not in {"epoch", "time"}:
            found.setdefault(tidy_name(name), {})[tidy_name(name)] = values
    return dict(found)


def draw(table: Path, picture: Path) -> None:
    """Write the picture; raise UnusableError where that cannot be done."""
    try:
        _draw(read_table(table), picture)
    except Exception as error:
        raise UnusableError(f"{picture.name} cannot be drawn: {brief(error)}") from error


def _draw(table: Series, picture: Path) -> None:
    # No pyplot: it keeps figures for a screen, and is for one thread only.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - takes a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    shown = panels(table)
    rows = -(-len(shown) // COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * COLUMNS, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, series) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        for label, values in series.items():
            axes.plot(table["epoch"], values, marker=".", linewidth=1, label=label)
        if len(series) > 1:
            axes.legend(fontsize=7)
    figure.savefig(picture, dpi=100)
