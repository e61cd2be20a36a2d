"""What happened, as a tape: played once as it was, and again in every other legal order."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from projections.objects import Object
from tests.cluster.objects import EVENTS, Resource

if TYPE_CHECKING:
    from tests.scenarios.replay import Replay

STEP = "step"
"""The stream of what nothing overtakes: time, a launch, what the service itself had done."""


@dataclass(frozen=True, slots=True, eq=False)
class Act:
    """One thing that the service hears of, or does."""

    stream: str
    """Each stream keeps its own order."""
    do: Callable[[Replay], None]
    written: int | None = None
    """Which write it tells of, if it tells of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One change in the cluster, in the order in which the cluster made them."""

    resource: Resource
    type: str
    object: Object


@dataclass(slots=True)
class Tape:
    """All that happened in one run of a row."""

    writes: list[Write] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    def wrote(self, write: Write) -> Act | None:
        """Keep a write; the act of hearing of it, but for Events, which are asked for."""
        number = len(self.writes)
        self.writes.append(write)
        if write.resource is EVENTS:
            return None
        return Act(write.resource.plural, lambda replay: replay.hear(number), number)

    def stretches(self) -> Iterator[list[Act]]:
        """The acts between two steps, which may overtake each other; each step by itself."""
        stretch: list[Act] = []
        for act in self.acts:
            if act.stream == STEP:
                yield stretch
                yield [act]
                stretch = []
            else:
                stretch.append(act)
        yield stretch

    def merged(self, chance: random.Random) -> list[Act]:
        """The acts in another order: each stream in its own, one stream before another at will."""
        order: list[Act] = []
        for stretch in self.stretches():
            order += _merged(stretch, chance)
        return order


def _merged(stretch: Sequence[Act], chance: random.Random) -> list[Act]:
    streams: dict[str, list[Act]] = defaultdict(list)
    for act in stretch:
        streams[act.stream].append(act)
    # Most of the time one stream is late as a whole; a fair merge would hardly ever do that.
    weights = {name: chance.choice((1, 1, 30)) for name in streams}
    merged = []
    while streams:
        names = list(streams)
        name = chance.choices(names, [weights[one] for one in names])[0]
        merged.append(streams[name].pop(0))
        if not streams[name]:
            del streams[name]
    return merged
