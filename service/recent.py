"""The newest messages of the feeds, made once for all who listen: pure, and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

ROOM = 16 * 1024 * 1024
LARGEST = 256 * 1024
"""Bytes that a subscriber is given at once, if a single message is not larger."""


class Place(NamedTuple):
    """Where an event stands: in the log, and in its job."""

    position: int
    version: int

    def number(self, job_id: int | None) -> int:
        """Return the number that counts in a job's stream, or in that of the log (None)."""
        return self.position if job_id is None else self.version


@dataclass(frozen=True, slots=True)
class Message:
    """Consecutive events of one job, as they are sent."""

    job_id: int
    first: Place
    last: Place
    lines: bytes
    """One line of JSON for each event."""
    frame: bytes
    """A WebSocket message with the events and their job."""

    @property
    def size(self) -> int:
        """How much memory it takes, about."""
        return len(self.lines) + len(self.frame)


@dataclass(frozen=True)
class Part:
    """What a subscriber is given at once; all who are at the same number are given the same."""

    messages: Sequence[Message]
    is_whole: bool = True
    """Nothing was left for the next part."""

    @property
    def last(self) -> Place:
        """Where it ends."""
        return self.messages[-1].last

    @cached_property
    def frames(self) -> bytes:
        """All its messages as a WebSocket carries them."""
        return b"".join([message.frame for message in self.messages])


def part_of(messages: Iterable[Message]) -> Part | None:
    """Return the first messages, as many as are given at once; None where there are none."""
    part: list[Message] = []
    size = 0
    for message in messages:
        size += len(message.frame)
        if part and size > LARGEST:
            return Part(part, is_whole=False)
        part.append(message)
    return Part(part) if part else None


@dataclass(slots=True)
class Recent:
    """The last messages, of all jobs and of each: what falls out is read from the log again.

    Numbers have no gaps, so that what follows a number is known exactly: a message follows only
    where it begins with the next one.
    """

    room: int = ROOM
    _all: deque[Message] = field(default_factory=deque)
    _of_job: dict[int, deque[Message]] = field(default_factory=dict)
    _asked: tuple[int | None, int] | None = None
    _answer: Part | None = None
    """What was asked last and what it was given: the next to ask is most often at the same."""
    size: int = 0

    def add(self, message: Message) -> None:
        """Keep the message, and let the oldest go where there is no room."""
        self._asked = None
        self._all.append(message)
        self._of_job.setdefault(message.job_id, deque()).append(message)
        self.size += message.size
        while self.size > self.room:
            self._let_go(self._all.popleft())

    def after(self, job_id: int | None, number: int) -> Part | None:
        """Return what follows a number in a job's stream, or in that of the log, if it is here."""
        if self._asked == (job_id, number):
            return self._answer
        part = self._after(job_id, number)
        if part is not None:
            self._asked, self._answer = (job_id, number), part
        return part

    def _after(self, job_id: int | None, number: int) -> Part | None:
        kept = self._all if job_id is None else self._of_job.get(job_id)
        if not kept or kept[0].first.number(job_id) > number + 1:
            return None
        found: list[Message] = []
        following = 0
        for message in reversed(kept):
            last = message.last.number(job_id)
            if last <= number:
                break
            if last + 1 != following:
                found.clear()
            found.append(message)
            following = message.first.number(job_id)
            if following == number + 1:
                return part_of(reversed(found))
        return None

    def clear(self) -> None:
        """Keep nothing: what is added next does not follow."""
        self._asked = self._answer = None
        self._all.clear()
        self._of_job.clear()
        self.size = 0

    def _let_go(self, message: Message) -> None:
        self.size -= message.size
        of_job = self._of_job[message.job_id]
        of_job.popleft()
        if not of_job:
            del self._of_job[message.job_id]
