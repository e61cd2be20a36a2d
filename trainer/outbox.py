"""The callbacks still to be delivered, in order, in memory."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

CAPACITY = 1000
BATCH_LIMIT = 100
# The service refuses bodies over 256 KiB; the rest is room for the envelope.
BATCH_BYTES = 200 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """One callback, encoded when it happened, so that every try sends the same."""

    kind: str
    body: dict[str, Any]
    timed: bool
    size: int


def make_item(kind: str, body: dict[str, Any], *, timed: bool = False) -> Item:
    """Return the callback; raises ValueError for what JSON cannot say."""
    return Item(kind, body, timed, len(json.dumps(body, allow_nan=False)))


def thin(items: deque[Item], capacity: int) -> int:
    """Drop the oldest timed heartbeats down to the capacity; return how many went.

    Events and `done` stay, whatever it costs: there are only a few an epoch.
    """
    excess = max(0, len(items) - capacity)
    doomed = [place for place, item in enumerate(items) if item.timed][:excess]
    for place in reversed(doomed):
        del items[place]
    return len(doomed)


def take_batch(items: deque[Item]) -> list[Item]:
    """Remove and return the next callbacks that fit one request: at least one."""
    batch = [items.popleft()]
    size = batch[0].size
    while items and len(batch) < BATCH_LIMIT and size + items[0].size <= BATCH_BYTES:
        size += items[0].size
        batch.append(items.popleft())
    return batch


class Outbox:
    """A queue between whoever has something to say and the one thread that sends it."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start empty."""
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._sending = False
        self._closed = False
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Add a callback; never waits."""
        with self._changed:
            if self._closed:
                return
            self._items.append(item)
            self.dropped += thin(self._items, self._capacity)
            self._changed.notify_all()

    def take(self) -> list[Item]:
        """Wait for callbacks and return the next batch; empty once closed.

        Asking for the next batch settles the one before.
        """
        with self._changed:
            self._sending = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._items or self._closed)
            if self._closed:
                return []
            self._sending = True
            return take_batch(self._items)

    def wait_until_empty(self, timeout: float) -> bool:
        """Return whether everything was delivered (or refused) within the time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or not (self._items or self._sending), timeout
            )

    def close(self) -> None:
        """Forget what is left, and take nothing more."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing more will be sent."""
        return self._closed
