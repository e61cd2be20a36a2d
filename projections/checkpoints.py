"""Which checkpoints a training can go on from: the newest first, and none that is damaged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from projections.events import Event, Record, TrainerEvent
from projections.progress import checkpoint_in, whole_number

MOST_KEPT = 5
"""How many a job's state holds; the log holds them all."""
LONGEST_URI = 4096
DAMAGED = frozenset({"checkpoint_damaged", "resume_failed"})
"""What a trainer says of a checkpoint that it could not go on from."""


class Checkpoint(Protocol):
    """Where it lies, and who wrote it when."""

    @property
    def uri(self) -> str: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def position(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that a trainer has reported."""

    uri: str
    epoch: int | None
    attempt: int
    position: int


Some = TypeVar("Some", bound=Checkpoint)


def saved_in(record: Record) -> Saved | None:
    """Return the checkpoint that an event reports, if it does."""
    event = record.event
    if not isinstance(event, TrainerEvent):
        return None
    uri = checkpoint_in(event)
    if not uri or len(uri) > LONGEST_URI:
        return None
    epoch = whole_number(event.data.get("epoch"))
    return Saved(uri=uri, epoch=epoch, attempt=record.attempt, position=record.position)


def damaged_in(event: Event) -> str | None:
    """Return the address of a checkpoint that an event reports as of no use, if it does."""
    match event:
        case TrainerEvent(type=name, data={"uri": str(uri)}) if name in DAMAGED:
            return uri
        case _:
            return None


def newest_first(saved: Iterable[Some]) -> list[Some]:
    """Return checkpoints so that each is further than the next."""
    return sorted(saved, key=_reach, reverse=True)


def replaces(new: Checkpoint, old: Checkpoint) -> bool:
    """Return whether one at the same address was written over the other."""
    return _writing(new) >= _writing(old)


def with_saved(known: tuple[Saved, ...], new: Saved) -> tuple[Saved, ...]:
    """Return the newest checkpoints after one more was saved, in whatever order that is told."""
    if any(old.uri == new.uri and not replaces(new, old) for old in known):
        return known
    others = (old for old in known if old.uri != new.uri)
    return tuple(newest_first((*others, new))[:MOST_KEPT])


def without_damaged(known: tuple[Saved, ...], uri: str, record: Record) -> tuple[Saved, ...]:
    """Return the checkpoints that are left after one was found to be of no use."""
    found = record.attempt, record.position
    return tuple(one for one in known if one.uri != uri or (one.attempt, one.position) > found)


def _reach(one: Checkpoint) -> tuple[int, int, int]:
    return _number(one.epoch), one.attempt, one.position


def _writing(one: Checkpoint) -> tuple[int, int, int]:
    """Order what was written to one address: by attempts, and in each of them by epochs."""
    return one.attempt, _number(one.epoch), one.position


def _number(epoch: int | None) -> int:
    return -1 if epoch is None else epoch
