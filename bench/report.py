"""What a run tells: tables for the terminal, the same and every single slice as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bench.machine import Machine
from bench.rounds import Figure, Result
from bench.stage import Pace

QUICK = "these figures are not for comparison"


def heading(machine: Machine, date: str, command: str, pace: Pace) -> Iterator[RenderableType]:
    """Yield what every figure below depends on."""
    yield Text(f"{date}  {command}", style="bold")
    yield Text(
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.system},"
        f" {machine.python}, PostgreSQL {machine.postgres} on {machine.filesystem}"
    )
    yield Text(
        f"{machine.placement}; {pace.rounds} rounds of {pace.seconds:g} s after"
        f" {pace.warm_up:g} s of warm-up, medians; load average before: {machine.load_average}"
        + (f"; histories of a tenth of the events: {QUICK}" if pace.quick else "")
    )


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield a part's figures and ratios."""
    table = Table(title=f"{result.part.name}: {result.part.title}", title_justify="left")
    table.add_column("what", overflow="fold")
    for column in ("a second", "p50 ms", "p99 ms", "MiB", "errors"):
        table.add_column(column, justify="right")
    for figure in result.figures:
        table.add_row(figure.name, *_cells(figure))
    yield table
    for ratio in result.ratios:
        by = "" if ratio.by == "rate" else f", {ratio.by.removesuffix('_ms')}"
        yield Text(f"  {ratio.value:8.2f} = {ratio.of}{by} / {ratio.to}{by}")
    for figure in result.figures:
        if said := next((one.said for one in figure.slices if one.said), ""):
            yield Text(f"  the first error of {figure.name}: {said}", style="red")
    yield Text("")


def _cells(figure: Figure) -> tuple[RenderableType, ...]:
    if figure.missing:
        return (Text(f"not had: {figure.missing}", style="yellow"), "", "", "", "")
    errors = ", ".join(f"{count} {name}" for name, count in figure.errors.items())
    return (
        f"{figure.rate:,.0f} {figure.unit.removesuffix('/s')}",
        _number(figure.typical("p50_ms")),
        _number(figure.typical("p99_ms")),
        _number(figure.typical("mib")),
        Text(errors or "0", style="red" if errors else ""),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def document(
    machine: Machine, date: str, command: str, pace: Pace, results: list[Result]
) -> dict[str, Any]:
    """Return the run as JSON."""
    return {
        "date": date,
        "command": command,
        "machine": asdict(machine),
        "pace": asdict(pace),
        "parts": [_part(result) for result in results],
    }


def _part(result: Result) -> dict[str, Any]:
    return {
        "name": result.part.name,
        "title": result.part.title,
        "figures": [_figure(figure) for figure in result.figures],
        "ratios": [asdict(ratio) for ratio in result.ratios],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    if figure.missing:
        return {"name": figure.name, "unit": figure.unit, "missing": figure.missing}
    return {
        "name": figure.name,
        "unit": figure.unit,
        "rate": figure.rate,
        "p50_ms": figure.typical("p50_ms"),
        "p99_ms": figure.typical("p99_ms"),
        "mib": figure.typical("mib"),
        "errors": figure.errors,
        "slices": [asdict(one) for one in figure.slices],
    }
