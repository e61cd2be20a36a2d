"""From the first failure until all that waited is told: one outage, told of twice. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Over:
    """What an outage has cost: how many records came late, and how long it was, in seconds."""

    missed: int
    seconds: float


class Outage:
    """Whether somebody is away, since when, and how often that was tried in vain."""

    def __init__(self) -> None:
        """Nobody is away."""
        self._began: float | None = None
        self._missed = 0
        self._is_known = False
        self.tries = 0
        """Failures since the last success."""

    @property
    def is_on(self) -> bool:
        """Whether something still waits since a failure."""
        return self._began is not None

    def goes_on(self, began: float) -> None:
        """Take over what an earlier attempt left: it is late already, and nobody may be away."""
        self._began = began

    def failed(self, now: float) -> bool:
        """Note a failure; return whether it is the first one of an outage."""
        self.tries += 1
        if not self.is_on:
            self._began = now
        first, self._is_known = not self._is_known, True
        return first

    def told(self, count: int, now: float, *, nothing_waits: bool) -> Over | None:
        """Note that so many records were told; return what the outage was, if this is its end.

        One record that fails among others that do not is one outage until it is through, not many.
        """
        self.tries = 0
        if self._began is None:
            return None
        self._missed += count
        if not nothing_waits:
            return None
        over = Over(self._missed, round(now - self._began, 3))
        self._began, self._missed, self._is_known = None, 0, False
        return over
