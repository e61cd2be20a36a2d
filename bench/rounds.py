"""One part of a run: its contenders take turns, round by round; medians are what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from statistics import median

from bench.contender import BenchError, Contender, Measure, Measured, Part
from bench.stage import Stage


@dataclass(slots=True)
class Figure:
    """What was measured of one contender, or why nothing could be."""

    name: str
    unit: str
    slices: list[Measured] = field(default_factory=list)
    missing: str = ""

    @property
    def rate(self) -> float:
        """The median of the slices."""
        return median(one.rate for one in self.slices)

    @property
    def errors(self) -> dict[str, int]:
        """Everything that went wrong, in all slices."""
        return dict(sum((Counter(one.errors) for one in self.slices), Counter()))

    def typical(self, which: str) -> float | None:
        """Return the median of the slices' `p50_ms`, `p99_ms` or `mib`, where they have one."""
        found = [value for one in self.slices if (value := getattr(one, which)) is not None]
        return median(found) if found else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How one figure stands to another: the median of what it was in each round."""

    of: str
    to: str
    by: str
    value: float


@dataclass(frozen=True, slots=True)
class Result:
    """A part that was run."""

    part: Part
    figures: list[Figure]
    ratios: list[Ratio]


async def run(part: Part, stage: Stage, say: Callable[[str], None]) -> Result:
    """Open the part's contenders, measure them in turn, and put them in proportion."""
    figures = [Figure(one.name, one.unit) for one in part.contenders]
    async with AsyncExitStack() as stack:
        own = replace(stage, stack=stack, shared={})
        say("preparing")
        measures = [
            await _open(one, figure, own)
            for one, figure in zip(part.contenders, figures, strict=True)
        ]
        for number in range(1, stage.pace.rounds + 1):
            for figure, measure in zip(figures, measures, strict=True):
                say(f"round {number} of {stage.pace.rounds}: {figure.name}")
                await _measure(figure, measure)
    return Result(part, figures, _ratios(part, figures))


async def _open(contender: Contender, figure: Figure, stage: Stage) -> Measure | None:
    try:
        return await contender.open(stage)
    except Exception as error:
        figure.missing = _why(error)
        return None


async def _measure(figure: Figure, measure: Measure | None) -> None:
    if measure is None or figure.missing:
        return
    try:
        figure.slices.append(await measure())
    except Exception as error:
        figure.missing = _why(error)


def _why(error: Exception) -> str:
    """Say why a figure is missing; whatever it was, the other contenders are measured."""
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


def _ratios(part: Part, figures: list[Figure]) -> list[Ratio]:
    by_name = {figure.name: figure for figure in figures if not figure.missing}
    return [
        Ratio(one.of.name, one.to.name, one.by, median(quotients))
        for one in part.ratios
        if one.of.name in by_name and one.to.name in by_name
        if (quotients := _quotients(by_name[one.of.name], by_name[one.to.name], one.by))
    ]


def _quotients(one: Figure, other: Figure, by: str) -> list[float]:
    pairs = [
        (getattr(a, by), getattr(b, by)) for a, b in zip(one.slices, other.slices, strict=True)
    ]
    return [a / b for a, b in pairs if a is not None and b]
