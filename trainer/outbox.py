"""The callbacks still to be delivered, in order: in a file, or in memory where that fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from trainer.identity import new_event_id, timestamp
from trainer.journal import Item, Journal, JournalError, open_journal
from trainer.limits import MOST_BYTES, encoded, is_bare, verdict_of

log = logging.getLogger(__name__)

CAPACITY = 100_000
CAPACITY_BYTES = 64 * 1024 * 1024
# More is thinned than is needed, so that it is seldom done.
THINNED_AT_ONCE = 1000
BATCH_LIMIT = 500  # the service takes no more in one request
BATCH_BYTES = MOST_BYTES
# A callback about what was dropped has to fit a request, too.
MOST_STRETCHES = 5000

Said = tuple[str, dict[str, Any], bool]
"""A callback's kind, its body without the envelope, and whether it is a timed one."""
Stretch = list[int]
"""The first and the last of numbers without a hole."""


def make_item(seq: int, kind: str, body: dict[str, Any], *, timed: bool = False) -> Item:
    """Return the callback; raises ValueError for what JSON cannot say."""
    return Item(seq, kind, encoded(body), timed)


def fitting(items: list[Item]) -> list[Item]:
    """Return the callbacks, from the first on, that fit one request: at least one."""
    size = 0
    for count, item in enumerate(items):
        size += len(item.body)
        if count and size > BATCH_BYTES:
            return items[:count]
    return items


def lengthened(stretches: list[Stretch], numbers: Iterable[int]) -> list[Stretch]:
    """Return the stretches with further numbers, all of them higher and in order."""
    longer = [list(stretch) for stretch in stretches]
    for number in numbers:
        if longer and longer[-1][1] == number - 1:
            longer[-1][1] = number
        else:
            longer.append([number, number])
    return longer


class Outbox:
    """A queue between whoever has something to say and the one thread that sends it.

    Putting never waits for the network. Where the file fails, what waits moves into memory.
    """

    def __init__(
        self,
        journal: Journal | None = None,
        *,
        trace_id: str = "",
        capacity: int = CAPACITY,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> None:
        """Go on where this journal ends; without one, everything stays in memory."""
        self._trace_id = trace_id
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._changed = threading.Condition()  # its lock may be taken again by who holds it
        self._sending = 0  # the last number of the batch under way
        self._closed = False
        self._journal = journal or Journal(None)
        self._seq = self._journal.last_seq
        self._dropped: list[Stretch] = json.loads(self._journal.fact("dropped") or "[]")

    def put(self, *said: Said) -> None:
        """Add callbacks, all or none; never waits. Raises ValueError for what JSON cannot say."""
        with self._changed:
            if self._closed:
                return
            self._put(said)
            if self._journal.count > self._capacity or self._journal.size > self._capacity_bytes:
                self._thin()
            self._changed.notify_all()

    def take(self) -> list[Item]:
        """Wait for callbacks and return what one request takes; empty once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._journal.count or self._closed)
            return [] if self._closed else self._first()

    def settle(self, items: list[Item]) -> None:
        """Forget callbacks that were recorded; all before them were, too."""
        with self._changed:
            if not self._closed:
                self._tell_dropped()
                self._settle(items[-1].seq)

    def refuse(self, item: Item, **why: Any) -> None:
        """Forget a callback that the service will never take, and say so behind the others.

        Of a `done` the bare verdict is said in its place.
        """
        with self._changed:
            if self._closed:
                return
            # Said before it is forgotten: killed between the two, it is at worst said twice.
            if b'"callbacks_dropped"' not in item.body:
                told = {"seqs": [[item.seq, item.seq]], "count": 1, "why": "refused"}
                dropped = _event("callbacks_dropped", {**told, "kind": item.kind, **why})
                self._put([dropped, *_said_instead(item)])
            self._settle(item.seq)

    def wait_until_empty(self, timeout: float) -> bool:
        """Return whether everything was delivered (or refused) within the time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or not (self._journal.count or self._sending), timeout
            )

    def note(self, **facts: str) -> None:
        """Keep facts about the attempt beside its callbacks."""
        with self._changed:
            if not self._closed:
                self._change(lambda journal: journal.note(**facts))

    def sync(self) -> None:
        """Have the disk hold what waits."""
        with self._changed:
            if not self._closed:
                self._change(Journal.sync)

    def lament(self, error: JournalError) -> None:
        """Say that callbacks are in memory only, from here on."""
        log.error("the journal of callbacks fails, they wait in memory: %s", error)
        with self._changed:
            self._put([_event("journal_unavailable", {"message": str(error)[:500]})])

    def close(self) -> None:
        """Take nothing more; what is left stays in the file, and an empty one is removed."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            if self._journal.count:
                self._journal.close()
            else:
                self._journal.remove()
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing more will be sent."""
        return self._closed

    def _put(self, said: Iterable[Said]) -> None:
        items = [self._item(self._seq + count, *one) for count, one in enumerate(said, start=1)]
        self._seq += len(items)
        self._change(lambda journal: journal.append(items))

    def _item(self, seq: int, kind: str, body: dict[str, Any], timed: bool) -> Item:
        envelope = {
            "event_id": new_event_id(),
            "seq": seq,
            "occurred_at": timestamp(),
            "trace_id": self._trace_id,
        }
        return make_item(seq, kind, {**envelope, **body}, timed=timed)

    def _first(self) -> list[Item]:
        try:
            batch = fitting(self._journal.first(BATCH_LIMIT))
        except JournalError as error:
            self._retreat(error)
            batch = fitting(self._journal.first(BATCH_LIMIT))
        self._sending = batch[-1].seq
        return batch

    def _settle(self, through: int) -> None:
        self._change(lambda journal: journal.settle(through))
        if through >= self._sending:
            self._sending = 0
        self._changed.notify_all()

    def _thin(self) -> None:
        """Drop the oldest timed heartbeats; events and `done` stay, whatever it costs."""
        most = max(1, min(THINNED_AT_ONCE, self._capacity // 10))
        dropped = self._dropped

        def facts(numbers: list[int]) -> dict[str, str]:
            nonlocal dropped
            dropped = lengthened(self._dropped, numbers)
            return {"dropped": json.dumps(dropped)}

        try:
            self._journal.thin(most, self._sending, facts)
        except JournalError as error:
            self._retreat(error)
        else:
            self._dropped = dropped

    def _tell_dropped(self) -> None:
        """Say which numbers will never come, now that somebody listens again."""
        while self._dropped:
            told, self._dropped = self._dropped[:MOST_STRETCHES], self._dropped[MOST_STRETCHES:]
            count = sum(last - first + 1 for first, last in told)
            log.warning("%d timed heartbeats were dropped while nobody listened", count)
            data = {"seqs": told, "count": count, "why": "thinned"}
            self._put([_event("callbacks_dropped", data)])
            self._change(partial(Journal.note, dropped=json.dumps(self._dropped)))

    def _change(self, change: Callable[[Journal], None]) -> None:
        try:
            change(self._journal)
        except JournalError as error:
            self._retreat(error)
            change(self._journal)

    def _retreat(self, error: JournalError) -> None:
        """Go on in memory. The file stays as it is: to send it once more would do no harm."""
        failed, self._journal = self._journal, Journal(None)
        try:
            if items := failed.first(failed.count):
                self._journal.append(items)
        except JournalError:
            log.exception("%d callbacks in the journal cannot be read", failed.count)
        failed.close()
        self.lament(error)


def open_outbox(path: Path | None, trace_id: str) -> Outbox:
    """Return the outbox with its journal at this path, or in memory where there can be none."""
    if path is None:
        return Outbox(trace_id=trace_id)
    try:
        return Outbox(open_journal(path), trace_id=trace_id)
    except JournalError as error:
        outbox = Outbox(trace_id=trace_id)
        outbox.lament(error)
        return outbox


def _event(name: str, data: dict[str, Any]) -> Said:
    return "event", {"type": name, "data": data}, False


def _said_instead(item: Item) -> list[Said]:
    """Return what is said in the place of a refused callback: nothing, but of a verdict."""
    body: dict[str, Any] = json.loads(item.body)
    if item.kind != "done" or is_bare(body):
        return []
    log.warning("the last word is said again, with its verdict only")
    message = "The service refused the last word; it was said again with its verdict only."
    reduced = _event("done_reduced", {"message": message})
    return [reduced, ("done", {**verdict_of(body), "occurred_at": body["occurred_at"]}, False)]
