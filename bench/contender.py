"""What is compared: contenders that take turns, and the ratios that are told of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.stage import Stage


class BenchError(Exception):
    """Something that is to be measured cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One slice of one contender."""

    rate: float
    """How much a second, in the contender's unit."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    mib: float | None = None
    """By how much its memory grew, where that is what matters."""
    errors: Mapping[str, int] = field(default_factory=dict)
    said: str = ""
    """The first error's words."""


Measure = Callable[[], Awaitable[Measured]]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that can be measured again and again once it was opened."""

    name: str
    unit: str
    open: Callable[[Stage], Awaitable[Measure]]
    """Bring it up on the stage, for as long as the part lasts. Raises BenchError."""


@dataclass(frozen=True, slots=True)
class Compare:
    """Two contenders that are put in proportion."""

    of: Contender
    to: Contender
    by: Literal["rate", "p50_ms", "p99_ms"] = "rate"


@dataclass(frozen=True, slots=True)
class Part:
    """Contenders that take turns, and which of them are put in proportion."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    ratios: tuple[Compare, ...]
