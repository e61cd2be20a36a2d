"""The positions of a log at which nothing stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_KEPT = 10_000


@dataclass(slots=True)
class Gaps:
    """Holes in the order of their positions, none touching another."""

    empty: int = 0
    """How many positions are empty, those included that are not kept one by one."""
    _holes: list[range] = field(default_factory=list)

    def add(self, hole: range) -> None:
        """Take a hole behind all others."""
        self.empty += len(hole)
        if hole and len(self._holes) < MOST_KEPT:
            self._holes.append(hole)

    def holes(self) -> tuple[range, ...]:
        """Return the holes that are left."""
        return tuple(self._holes)

    def between(self, after: int, before: int) -> tuple[range, ...]:
        """Return the holes, or what of them lies between two positions."""
        found: list[range] = []
        for hole in reversed(self._holes):
            if hole.stop <= after:
                break
            found.append(range(max(hole.start, after + 1), min(hole.stop, before)))
        return tuple(part for part in reversed(found) if part)

    def fill(self, parts: Iterable[range]) -> None:
        """Forget parts of holes, because it is known what stood there."""
        for part in parts:
            self._fill(part)

    def _fill(self, part: range) -> None:
        for number, hole in enumerate(self._holes):
            if part[0] in hole and part[-1] in hole:
                around = (range(hole.start, part.start), range(part.stop, hole.stop))
                self._holes[number : number + 1] = [rest for rest in around if rest]
                self.empty -= len(part)
                return
