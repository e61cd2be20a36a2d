"""The live feed joins what is read with what is handed on: nothing skipped, nothing twice.

The log here is a list that answers whenever chance lets it, so that reading, writing and joining
meet in every order; the real one is met in the integration tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.events import Heartbeat, Record, Source
from projections.job import JobState
from projections.policy import Policy
from service import feed as feeds
from service import recent
from service.event_log import EventLog
from service.feed import Feed, FeedEndedError, Subscription
from service.recent import Message, Recent
from service.senses import Senses
from service.store import Snapshot
from tests.given import START
from tests.polling import eventually

JOBS = (1, 2, 3)
EVENTS = 60
ROOM = 12_000  # some ten messages
ENOUGH = 3_000  # turns of the loop for everybody to have read everything


@dataclass(slots=True)
class ListedLog:
    """A log in memory, which lets others go first as often as chance says."""

    chance: Random
    records: list[Record] = field(default_factory=list)
    read: int = 0
    """How many events of the log were read, again and again."""
    pages: int = 0
    """In how many pages."""
    jobs_are_readable: asyncio.Event | None = None

    async def log_page(
        self, after: int, *, upto: int | None, limit: int, job_ids: list[int] | None = None
    ) -> list[Record]:
        await self.let_others_go_first()
        wanted = [one for one in self.records[after:upto] if not job_ids or one.job_id in job_ids]
        await self.let_others_go_first()
        self.read += len(wanted[:limit])
        self.pages += 1
        return wanted[:limit]

    async def job_page(
        self, job_id: int, after: int, *, upto: int | None, limit: int
    ) -> list[Record]:
        found = [one for one in self.records[:upto] if one.job_id == job_id and one.version > after]
        await self.let_others_go_first()
        return found[:limit]

    async def jobs_named(self, job_ids: set[int]) -> dict[int, Snapshot]:
        if self.jobs_are_readable is not None:
            await self.jobs_are_readable.wait()
        await self.let_others_go_first()
        return {job_id: Snapshot(self._job(job_id), START) for job_id in job_ids}

    async def let_others_go_first(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    def append(self, job_id: int | None = None) -> int:
        """Add an event to this job, or to one by chance; where the log ends now."""
        job_id = job_id or self.chance.choice(JOBS)
        position = len(self.records) + 1
        version = sum(record.job_id == job_id for record in self.records) + 1
        self.records.append(_record(position, job_id, version))
        return position

    def _job(self, job_id: int) -> JobState:
        versions = [record.version for record in self.records if record.job_id == job_id]
        return JobState(id=job_id, version=versions[-1], created_at=START)


def _record(position: int, job_id: int, version: int) -> Record:
    return Record(
        position=position,
        job_id=job_id,
        version=version,
        attempt=1,
        event_id=f"event {position}",
        source=Source.TRAINER,
        trace_id="trace",
        seq=None,
        occurred_at=START,
        recorded_at=START,
        event=Heartbeat(),
    )


def _events(messages: Iterable[Message]) -> list[Any]:
    """What the messages hold, as who reads their frames sees it."""
    found: list[Any] = []
    for message in messages:
        text = message.frame[message.frame.index(b"{") :]
        sent = orjson.loads(text)
        assert sent["job"]["id"] == message.job_id
        assert sent["job"]["version"] >= sent["events"][-1]["version"]
        assert [orjson.loads(line) for line in message.lines.splitlines()] == sent["events"]
        found += sent["events"]
    return found


@dataclass(slots=True)
class Reader:
    """A subscriber that comes at some moment and notes what it is given."""

    job_id: int | None
    after: int
    delay: int
    numbers: list[int] = field(default_factory=list)

    async def read(self, feed: Feed, log: ListedLog) -> None:
        """Follow the feed, sometimes slowly, and sometimes leave and come back."""
        for _ in range(self.delay):
            await asyncio.sleep(0)
        number = self.after
        while True:
            with feed.subscribed(self.job_id) as subscription:
                for _ in range(log.chance.choice((1, 3, 100))):
                    number = await self._take(subscription, number)
                    for _ in range(log.chance.choice((0, 1, 30))):
                        await asyncio.sleep(0)

    async def _take(self, subscription: Subscription, number: int) -> int:
        events = _events((await subscription.after(number)).messages)
        assert self.job_id in {None, *(event["job_id"] for event in events)}
        self.numbers += [
            event["position" if self.job_id is None else "version"] for event in events
        ]
        return self.numbers[-1]

    def expects(self, log: ListedLog) -> list[int]:
        """The numbers that it is to have been given."""
        last = sum(self.job_id in {None, record.job_id} for record in log.records)
        return list(range(self.after + 1, last + 1))


async def _write(feed: Feed, log: ListedLog, chance: Random) -> None:
    """Append, and let the feed hear of it at once, late or together with what follows."""
    how_often = chance.choice((0.0, 0.1, 0.6))
    events = chance.randrange(EVENTS)
    for _ in range(events):
        position = log.append()
        if chance.random() < how_often:
            feed.reached(position)
        await log.let_others_go_first()
    for _ in range(chance.choice((0, 30, 200))):
        await asyncio.sleep(0)
    feed.reached(len(log.records))


def _feed(log: Any, no_database: Any = None) -> Feed:
    event_log = EventLog(database=no_database, policy=Policy(), senses=Senses(Policy()))
    return Feed(database=no_database, store=log, log=event_log, recent=Recent(ROOM))


async def _scenario(chance: Random, readers: list[Reader]) -> None:
    log = ListedLog(chance)
    for _ in range(10):
        log.append()
    feed = _feed(log)
    if chance.random() < 0.5:
        feed.reached(10)
    tasks = [asyncio.create_task(reader.read(feed, log)) for reader in readers]
    tasks.append(asyncio.create_task(feed._look_again_and_again(feed.store)))
    await _write(feed, log, chance)
    for _ in range(ENOUGH):  # and then it is quiet: nothing else wakes who was forgotten
        await asyncio.sleep(0)
        if all(reader.numbers == reader.expects(log) for reader in readers):
            break
    for task in tasks:
        assert not task.done() or task.exception() is None, task
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for reader in readers:
        assert reader.numbers == reader.expects(log)


readers = st.builds(
    Reader,
    job_id=st.sampled_from((None, *JOBS)),
    after=st.integers(0, 3),
    delay=st.integers(0, 150),
)


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Pages, leaps and pauses as small as the log of this test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent, "LARGEST", 2_500)
        patch.setattr(feeds, "PAGE", 4)
        patch.setattr(feeds, "FAR", 12)
        patch.setattr(feeds, "FEW", 1)
        patch.setattr(feeds, "PACE", 0)
        patch.setattr(feeds, "SHARE", 0)  # turns of the loop are counted here, and not time
        yield


@settings(max_examples=250)
@given(
    seed=st.integers(0, 2**32),
    readers=st.lists(readers, min_size=1, max_size=6),
)
def test_every_reader_is_given_everything_once_in_order(seed: int, readers: list[Reader]) -> None:
    fresh = [replace(reader, numbers=[]) for reader in readers]
    asyncio.run(_scenario(Random(seed), fresh))  # noqa: S311


def test_who_took_a_part_is_given_the_rest_though_other_jobs_have_crowded_it_out() -> None:
    async def grow(feed: Feed, log: ListedLog, job_ids: list[int]) -> None:
        for job_id in job_ids:
            log.append(job_id)
        feed.reached(len(log.records))
        await eventually(lambda: not feed.lag)

    async def scenario() -> list[int]:
        log = ListedLog(Random(1))  # noqa: S311
        feed = _feed(log)
        reader, follower = Reader(job_id=1, after=0, delay=0), Reader(job_id=2, after=0, delay=0)
        feed.reached(log.append(1))
        looking = asyncio.create_task(feed._look_again_and_again(feed.store))
        following = asyncio.create_task(follower.read(feed, log))
        with feed.subscribed(1) as subscription:
            number = await reader._take(subscription, 0)
            taking = asyncio.create_task(reader._take(subscription, number))
            await _turns()  # it knows by now that there is nothing else
            await grow(feed, log, [1, 3] * 4)
            number = await taking
            assert number < 5  # but it had all of the look at once
            for _ in range(10):
                await grow(feed, log, [2, 3] * 2)
            assert feed.recent.after(1, number) is None
            async with asyncio.timeout(5):
                while number < 5:
                    number = await reader._take(subscription, number)
        for task in (looking, following):
            task.cancel()
        await asyncio.gather(looking, following, return_exceptions=True)
        return reader.numbers

    assert asyncio.run(scenario()) == [1, 2, 3, 4, 5]


def test_a_burst_is_read_once_however_many_take_it_in_parts() -> None:
    async def scenario() -> int:
        log = ListedLog(Random(1))  # noqa: S311
        feed = _feed(log)
        feed.reached(log.append(1))
        readers = [Reader(job_id=None, after=1, delay=0) for _ in range(5)]
        with ExitStack() as stack:
            places = [stack.enter_context(feed.subscribed(None)) for _ in readers]
            for reader in readers:
                reader.numbers.append(1)
            tasks = [
                asyncio.create_task(_follow(reader, place))
                for reader, place in zip(readers, places, strict=True)
            ]
            await _turns()
            for job_id in (1, 2, 1, 2):
                log.append(job_id)
            before = log.pages
            feed.reached(5)
            await feed._look(feed.store)
            await eventually(lambda: all(reader.numbers[-1] == 5 for reader in readers))
            await _turns()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return log.pages - before

    assert asyncio.run(scenario()) == 1


async def _follow(reader: Reader, subscription: Subscription) -> None:
    while True:
        await reader._take(subscription, reader.numbers[-1])


def test_who_comes_while_only_jobs_are_looked_at_is_given_what_was_left_out_for_them() -> None:
    async def scenario() -> list[int]:
        log = ListedLog(Random(1), jobs_are_readable=asyncio.Event())  # noqa: S311
        feed = _feed(log)
        feed.reached(log.append(1))
        reader = Reader(job_id=None, after=1, delay=0)
        with feed.subscribed(1):
            log.append(1)
            feed.reached(log.append(2))
            looking = asyncio.create_task(feed._look(feed.store))
            await _turns()
            following = asyncio.create_task(reader.read(feed, log))
            await _turns()  # it finds nothing there yet, and waits
            assert log.jobs_are_readable is not None
            log.jobs_are_readable.set()
            await looking
            await eventually(lambda: reader.numbers == [2, 3], within=5)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return reader.numbers

    assert asyncio.run(scenario()) == [2, 3]


def test_large_events_are_not_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page holds more than is sent at once, the next one is read smaller."""
    monkeypatch.setattr(feeds, "PAGE", 200)

    async def scenario() -> int:
        log = ListedLog(Random(1))  # noqa: S311
        for _ in range(50):
            log.append(1)
            log.append(2)
        feed = _feed(log)
        feed.reached(100)
        reader, number = Reader(job_id=None, after=0, delay=0), 0
        with feed.subscribed(None) as subscription:
            while number < 100:
                number = await reader._take(subscription, number)
        return log.read

    assert asyncio.run(scenario()) <= 400


async def _turns() -> None:
    """Let everybody do what they can by now."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_an_ended_feed_lets_those_who_wait_go() -> None:
    async def scenario() -> None:
        feed = _feed(ListedLog(Random(1)))  # noqa: S311
        with feed.subscribed(None) as subscription:
            waiting = asyncio.create_task(subscription.after(0))
            await asyncio.sleep(0)
            feed.end()
            with pytest.raises(FeedEndedError):
                await waiting
        assert feed.subscribers == 0

    asyncio.run(scenario())
