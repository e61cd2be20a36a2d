"""The live feed: what is appended, from whichever process, handed once to all who listen.

The database is the only buffer. Each new part of the log is read once and turned into messages
that all subscribers share; one that is behind reads pages of its own until it has caught up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from projections.events import Record
from service.errors import OverloadedError, StoreUnavailableError
from service.event_log import EventLog
from service.messages import messages_of
from service.postgres import Database
from service.recent import Message, Part, Recent, part_of
from service.store import Store
from service.views import job_view, to_json

PAGE = 200
FEW = 8
"""Events that are read at once, at least: where they are large, few of a page can be sent."""
FAR = 10_000
"""So many positions ahead, the feed leaps to the end, and each subscriber reads its own way."""
PACE = 0.01
"""Seconds at least between two looks at the log."""
SHARE = 1
"""How many times as long the rest of the service has as it took to hand on."""
POLL_SECONDS = 1.0
RETRY_SECONDS = 0.5
SUBSCRIBERS = 1_000
READERS = 4
CHANNEL = "epochlog_head"

Read = TypeVar("Read")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long subscribers are waited for, in seconds."""

    ping: float = 20.0
    """Between two pings; each is to be answered before the next."""
    slow: float = 10.0
    """For what was sent to be taken."""
    goodbye: float = 20.0
    """For a close to be answered, behind what is still on its way to a slow one."""
    stopping: float = 2.0
    """The same where the service stops."""


class FeedEndedError(Exception):
    """The service is stopping."""


@dataclass(frozen=True, slots=True)
class Page:
    """What was read for one subscriber."""

    part: Part | None
    is_last: bool
    """All that comes later is handed on to everybody."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One listener's place at the feed: of one job, or of the whole log (None)."""

    feed: Feed
    job_id: int | None
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    _is_behind: bool = True
    """The log may hold what is not handed on to this."""
    _limit: int = PAGE

    async def after(self, number: int) -> Part:
        """Return what follows this number, as soon as there is something; numbers have no gaps.

        The number is a position, or a version where it is a job's. Raises FeedEndedError.
        """
        while not self.feed.has_ended:
            is_news = self.woken.is_set()
            self.woken.clear()
            found = self.feed.recent.after(self.job_id, number)
            if found is None and (is_news or self._is_behind):
                found = await self._read_after(number)
            elif found is not None and not found.is_whole:
                self.woken.set()  # the rest is news still, and may be gone from there by then
            if found is not None:
                return found
            await self.woken.wait()
        raise FeedEndedError

    def read_yourself(self) -> None:
        """Take note that there is something which is not handed on to this."""
        self._is_behind = True
        self.woken.set()

    async def _read_after(self, number: int) -> Part | None:
        self._is_behind = False  # unless it is sent to the log once more while it reads there
        read = partial(self.feed.page, self.job_id, number, self._limit)
        page = await self.feed.patiently(read)
        self._is_behind = self._is_behind or not page.is_last
        if page.part is not None:
            self._limit = limit_after(page.part.last.number(self.job_id) - number)
        return page.part


def limit_after(given: int) -> int:
    """Return how many events to read at once where so many of the last ones could be sent."""
    return min(PAGE, max(FEW, 2 * given))


@dataclass(slots=True)
class Feed:
    """Follows the head of the log, and wakes who waits for what is new."""

    database: Database
    store: Store
    log: EventLog
    patience: Patience = field(default_factory=Patience)
    recent: Recent = field(default_factory=Recent)
    position: int | None = None
    """Up to here the log was looked through for subscribers; None until its end is known."""
    head: int = 0
    """Up to here it is known to reach."""
    has_ended: bool = False
    _subscriptions: dict[int | None, set[Subscription]] = field(default_factory=dict)
    _joined: set[Subscription] = field(default_factory=set)
    """Who came since the last look began: what it skipped may have been theirs."""
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _written: asyncio.Event = field(default_factory=asyncio.Event)
    _readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))

    @contextmanager
    def subscribed(self, job_id: int | None) -> Iterator[Subscription]:
        """Listen to a job, or to the whole log, within the block. Raises OverloadedError."""
        if self.subscribers >= SUBSCRIBERS:
            raise OverloadedError("There are too many subscribers; come again later.")
        subscription = Subscription(self, job_id)
        self._subscriptions.setdefault(job_id, set()).add(subscription)
        self._joined.add(subscription)
        try:
            yield subscription
        finally:
            self._joined.discard(subscription)
            others = self._subscriptions[job_id]
            others.remove(subscription)
            if not others:
                del self._subscriptions[job_id]

    @property
    def subscribers(self) -> int:
        """How many listen now."""
        return sum(len(group) for group in self._subscriptions.values())

    @property
    def lag(self) -> int:
        """How many positions the subscribers have not been offered yet."""
        return self.head - self.position if self.position is not None else 0

    def wrote(self, position: int) -> None:
        """Take note that this process has committed up to here."""
        self.reached(position)
        self._written.set()

    def reached(self, position: int) -> None:
        """Take note that the log reaches up to here."""
        if self.position is None:
            self.position = self.head = position
            self._wake_all()
        elif position > self.head:
            self.head = position
            self._moved.set()

    def end(self) -> None:
        """Send all subscribers away, for good."""
        self.has_ended = True
        self._wake_all()

    async def run(self) -> None:
        """Follow the log until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in (self._follow_the_head, self._tell_the_others, self._hand_on):
                tasks.create_task(_again_and_again(part))

    async def patiently(self, read: Callable[[], Awaitable[Read]]) -> Read:
        """Read in turn with the other subscribers, and again after an outage of the database.

        Raises FeedEndedError.
        """
        while not self.has_ended:
            try:
                async with self._readers:
                    return await read()
            except StoreUnavailableError:
                await asyncio.sleep(RETRY_SECONDS)
        raise FeedEndedError

    async def page(self, job_id: int | None, number: int, limit: int) -> Page:
        """Read what follows a number from the log, as far as it was looked through for all.

        So the last page ends where a message does, and the next one follows. What was handed on
        while this reader waited for its turn is not read again.
        """
        if found := self.recent.after(job_id, number):
            return Page(found, is_last=False)
        upto = self.position
        if job_id is None:
            records = await self.store.log_page(number, upto=upto, limit=limit)
        else:
            records = await self.store.job_page(job_id, number, upto=upto, limit=limit)
        part = part_of(await self._messages(self.store, records, job_id))
        is_whole = part is None or part.is_whole
        return Page(part, is_last=is_whole and len(records) < limit)

    async def _messages(
        self, store: Store, records: Sequence[Record], job_id: int | None = None
    ) -> Iterable[Message]:
        """Return the records as messages; their jobs as they stand now, which is no earlier."""
        if not records:
            return ()
        found = await store.jobs_named({record.job_id for record in records})
        senses, policy = self.log.senses, self.log.policy
        jobs = {
            number: to_json(job_view(job.state, senses.moment_of(job.state, job.now), policy))
            for number, job in found.items()
        }
        return messages_of(records, jobs, job_id)

    async def _hand_on(self) -> None:
        """Hand what is new to those who listen, a part at a time."""
        async with self.database.held() as database:
            try:
                await self._look_again_and_again(Store(database))
            except StoreUnavailableError:
                raise
            except Exception:
                self._leap()  # what cannot be handed on must not keep back what follows it
                raise

    async def _look_again_and_again(self, store: Store) -> None:
        while True:
            self._moved.clear()
            while self.lag:
                await self._look(store)
                await self._pause()
            await self._moved.wait()

    async def _pause(self) -> None:
        """Let a busy log go out in larger parts, and the rest of the service have its turn."""
        woken = time.perf_counter()
        await asyncio.sleep(0)  # when this returns, all who were woken have taken theirs
        await asyncio.sleep(max(PACE, SHARE * (time.perf_counter() - woken)))

    async def _look(self, store: Store) -> None:
        """Go a part of the way to the head, and wake those for whom there is something."""
        if not self._subscriptions or self.lag > FAR:
            self._leap()
            return
        assert self.position is not None  # noqa: S101 - there is no lag before
        upto = self.head
        jobs = [job_id for job_id in self._subscriptions if job_id is not None]
        wanted = jobs if None not in self._subscriptions else None
        self._joined.clear()
        records = await store.log_page(self.position, upto=upto, job_ids=wanted, limit=PAGE)
        messages = await self._messages(store, records)
        for message in messages:
            self.recent.add(message)
        self.position = records[-1].position if len(records) == PAGE else upto
        self._wake({record.job_id for record in records})

    def _leap(self) -> None:
        """Go to the head, and let each subscriber read its own way."""
        self.position = self.head
        self.recent.clear()
        self._wake_all()

    def _wake(self, job_ids: set[int]) -> None:
        for key in (None, *job_ids) if job_ids else ():
            for subscription in self._subscriptions.get(key, ()):
                subscription.woken.set()
        for subscription in self._joined:
            subscription.read_yourself()

    def _wake_all(self) -> None:
        for group in self._subscriptions.values():
            for subscription in group:
                subscription.read_yourself()

    async def _follow_the_head(self) -> None:
        """Look where the log ends whenever another process tells of a commit, and each second."""
        async with (
            self.database.working_session() as session,
            session.listening(CHANNEL, self._hear),
        ):
            while True:
                self._told.clear()
                self.reached(await session.value("head_position"))
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):  # wait_for eats cancels
                        await self._told.wait()

    def _hear(self, position: str) -> None:
        if position.isdecimal() and int(position) > self.head:  # no echo of our own
            self._told.set()

    async def _tell_the_others(self) -> None:
        """Tell other processes of our commits, once for all that came while the last was told."""
        await self._written.wait()
        async with self.database.working_session() as session:
            await session.run("tell_in_haste")
            while True:
                await self._written.wait()
                self._written.clear()
                await session.run("tell_head", CHANNEL, str(self.head))
                await asyncio.sleep(PACE)


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work until cancelled: it begins anew after an outage, and after a mistake of ours."""
    while True:
        try:
            await work()
        except StoreUnavailableError:
            pass
        except Exception:
            log.exception("feed_failed")
        await asyncio.sleep(RETRY_SECONDS)
