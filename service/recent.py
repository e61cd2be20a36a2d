"""The newest messages of the feeds, made once for all who listen: pure, and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

ROOM = 16 * 1024 * 1024
PART = 256 * 1024
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


def part_of(messages: Iterable[Message]) -> list[Message]:
    """Return the first messages, as many as a subscriber is given at once."""
    part: list[Message] = []
    size = 0
    for message in messages:
        size += len(message.frame)
        if part and size > PART:
            break
        part.append(message)
    return part


@dataclass(slots=True)
class Recent:
    """The last messages, of all jobs and of each: what falls out is read from the log again.

    Numbers have no gaps, so that what follows a number is known exactly: a message follows only
    where it begins with the next one.
    """

    room: int = ROOM
    _all: deque[Message] = field(default_factory=deque)
    _of_job: dict[int, deque[Message]] = field(default_factory=dict)
    size: int = 0

    def add(self, message: Message) -> None:
        """Keep the message, and let the oldest go where there is no room."""
        self._all.append(message)
        self._of_job.setdefault(message.job_id, deque()).append(message)
        self.size += message.size
        while self.size > self.room:
            self._let_go(self._all.popleft())

    def after(self, job_id: int | None, number: int) -> list[Message]:
        """Return what follows a number in a job's stream, or in that of the log, if it is here."""
        found: list[Message] = []
        for message in self._newest_first(job_id):
            if message.last.number(job_id) <= number:
                break
            if found and message.last.number(job_id) + 1 != found[-1].first.number(job_id):
                found.clear()
            found.append(message)
            if message.first.number(job_id) == number + 1:
                return part_of(reversed(found))
        return []

    def clear(self) -> None:
        """Keep nothing: what is added next does not follow."""
        self._all.clear()
        self._of_job.clear()
        self.size = 0

    def _newest_first(self, job_id: int | None) -> Iterable[Message]:
        kept = self._all if job_id is None else self._of_job.get(job_id, ())
        return reversed(kept)

    def _let_go(self, message: Message) -> None:
        self.size -= message.size
        of_job = self._of_job[message.job_id]
        of_job.popleft()
        if not of_job:
            del self._of_job[message.job_id]
