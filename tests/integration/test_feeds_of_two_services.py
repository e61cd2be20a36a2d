"""Two services in processes of their own that write at once: every feed is the whole log."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from tests.conftest import SECRET_KEY
from tests.http import NEW_JOB
from tests.ledger import check_ledger
from tests.polling import eventually
from tests.processes import ServiceProcess
from tests.streams import Subscriber, positions, reading_lines

TOKEN = "the-same-token-for-both-of-them"
JOBS, WRITERS, BEATS = 4, 8, 40


@pytest.fixture
def services(database: str) -> Iterator[list[ServiceProcess]]:
    """Two services on one database."""
    variables = {
        "EPOCHLOG_DATABASE_URL": database,
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_API_TOKEN": TOKEN,
        "EPOCHLOG_EXECUTOR": "external",
    }
    with ExitStack() as stack:
        both = [stack.enter_context(ServiceProcess(**variables)) for _ in range(2)]
        for service in both:
            service.start()
        yield both


@pytest_asyncio.fixture
async def trainers(services: list[ServiceProcess]) -> AsyncIterator[Trainers]:
    """Whoever writes to both services."""
    async with aiohttp.ClientSession() as session:
        trainers = Trainers(services, session)
        await trainers.make_jobs()
        yield trainers


class Trainers:
    """Call back for some jobs, now at one service and now at the other, until it is heard."""

    def __init__(self, services: list[ServiceProcess], session: aiohttp.ClientSession) -> None:
        self._urls = [service.url for service in services]
        self._session = session
        self.jobs: list[Any] = []
        self.acknowledged: set[int] = set()

    async def make_jobs(self) -> None:
        for url, _ in zip(itertools.cycle(self._urls), range(JOBS), strict=False):
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with self._session.post(f"{url}/v1/jobs", json=NEW_JOB, headers=headers) as made:
                self.jobs.append(await made.json())

    async def call_back(self, beats: int = BEATS) -> None:
        """Have several trainers call back at once."""
        await asyncio.gather(*(self._train(number, beats) for number in range(WRITERS)))

    async def _train(self, number: int, beats: int) -> None:
        urls = itertools.cycle(self._urls[number % 2 :] + self._urls[: number % 2])
        job = self.jobs[number % JOBS]
        for _ in range(beats):
            await self._beat(job, {"epoch": 1, "event_id": str(uuid4())}, urls)

    async def _beat(self, job: Any, body: Any, urls: Iterator[str]) -> None:
        """Send it again until it is acknowledged: the event id makes that harmless."""
        for url in urls:
            try:
                async with self._session.post(
                    f"{url}/v1/jobs/{job['id']}/heartbeat",
                    json=body,
                    headers={"Authorization": f"Bearer {job['callback_token']}"},
                ) as answer:
                    if answer.status == 200:
                        self.acknowledged.add((await answer.json())["position"])
                        return
                    assert answer.status == 503, await answer.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.01)


async def end_of(database: str) -> int:
    """Where the log ends."""
    connection = await asyncpg.connect(database)
    try:
        position: int = await connection.fetchval("select position from log_head")
    finally:
        await connection.close()
    return position


class Followers:
    """Read a service's feeds in every way there is."""

    def __init__(self, service: ServiceProcess, job_id: int) -> None:
        self.url = service.url
        self.job_id = job_id
        self.read: dict[str, list[int]] = {"lines": [], "log": [], "job": [], "pages": []}

    async def follow(self) -> None:
        """Read until cancelled."""
        await asyncio.gather(self._lines(), self._log(), self._job(), self._pages())

    async def _lines(self) -> None:
        async with reading_lines(self.url, TOKEN) as lines:
            async for event in lines:
                self.read["lines"].append(event["position"])

    async def _log(self) -> None:
        async with Subscriber(self.url, "/v1/stream", TOKEN) as stream:
            while True:
                self.read["log"] += positions((await stream.message(60))["events"])

    async def _job(self) -> None:
        async with Subscriber(self.url, f"/v1/jobs/{self.job_id}/stream", TOKEN) as stream:
            while True:
                self.read["job"] += [one["version"] for one in (await stream.message(60))["events"]]

    async def _pages(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        after = 0
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                address = f"{self.url}/v1/events?after={after}&limit=7"
                async with session.get(address) as answer:
                    page = await answer.json()
                self.read["pages"] += positions(page["events"])
                after = page["next_after"]


async def test_every_reader_of_either_service_is_given_the_whole_log(
    database: str, services: list[ServiceProcess], trainers: Trainers
) -> None:
    followers = [Followers(service, trainers.jobs[0]["id"]) for service in services]
    tasks = [asyncio.create_task(one.follow()) for one in followers]

    await trainers.call_back()
    records = await check_ledger(database)
    whole = [record.position for record in records]
    versions = [record.version for record in records if record.job_id == trainers.jobs[0]["id"]]
    expected = {"lines": whole, "log": whole, "job": versions, "pages": whole}

    def has_read_everything() -> bool:
        return all(one.read == expected for one in followers)

    await eventually(has_read_everything, within=30)
    assert len(whole) > WRITERS * BEATS
    assert trainers.acknowledged <= set(whole)
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_replica_hears_at_once_of_what_another_has_written(
    services: list[ServiceProcess], trainers: Trainers
) -> None:
    """Polling alone would take a second; a notification does not."""
    written, read = services
    there = itertools.cycle([written.url])
    async with Subscriber(read.url, "/v1/stream", TOKEN) as stream:
        await stream.until(JOBS)
        delays = []
        for _ in range(10):
            await trainers._beat(trainers.jobs[0], {"event_id": str(uuid4())}, there)
            loop = asyncio.get_running_loop()
            start = loop.time()
            await stream.until(max(trainers.acknowledged))
            delays.append(loop.time() - start)
    assert sorted(delays)[5] < 0.5, delays


async def test_a_listener_that_was_cut_off_listens_again(
    database: str, services: list[ServiceProcess], trainers: Trainers
) -> None:
    connection = await asyncpg.connect(database)
    async with Subscriber(services[1].url, "/v1/stream", TOKEN) as stream:
        await stream.until(JOBS)
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'epochlog' and datname = current_database()"
        )
        await trainers.call_back(beats=3)
        last = await end_of(database)
        assert positions(await stream.until(last))[:last] == list(range(1, last + 1))
    await connection.close()


async def test_a_subscriber_goes_on_where_it_was_at_another_service_and_after_restarts(
    database: str, services: list[ServiceProcess], trainers: Trainers
) -> None:
    read: list[int] = []
    codes: list[int | None] = []
    served = set()

    def has_read(events: int) -> bool:
        return len(read) >= events

    async def follow() -> None:
        for service in itertools.cycle(services):
            path = f"/v1/stream?after={read[-1] if read else 0}"
            try:
                async with Subscriber(service.url, path, TOKEN) as stream:
                    while (got := await stream.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                        read.extend(positions(got.json()["events"]))
                        served.add(service.url)
                    codes.append(stream.socket.close_code)
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)

    async def write() -> None:
        while not enough.is_set():
            await trainers.call_back(beats=2)

    enough = asyncio.Event()
    following, writing = asyncio.create_task(follow()), asyncio.create_task(write())
    first, second = services
    for service, end in ((first, first.stop), (second, second.kill), (first, first.kill)):
        until = len(read) + 20
        await eventually(partial(has_read, until), within=30)
        await asyncio.to_thread(end)
        await asyncio.to_thread(service.start)
    enough.set()
    await writing
    whole = [record.position for record in await check_ledger(database)]
    await eventually(partial(has_read, len(whole)), within=30)

    assert read == whole
    assert trainers.acknowledged <= set(read)
    assert served == {service.url for service in services}
    assert codes[0] == 1001
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
