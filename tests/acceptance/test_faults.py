"""The story of a bad night: a replica dies, the database restarts, and the log is whole.

Two replicas take callbacks under load, subscribers follow both. One replica is killed by -9 and
comes back, then PostgreSQL is killed by -9 and comes back. Afterwards every acknowledged event is
there once, the chains verify, the projections equal a fresh replay, and every subscriber that
reconnected has the whole sequence.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import psutil
import pytest_asyncio

from service.embedded import EmbeddedPostgres
from service.postgres import migrate
from tests.command_line import epochlog
from tests.conftest import SECRET_KEY
from tests.http import NEW_JOB
from tests.ledger import check_ledger
from tests.polling import eventually
from tests.processes import ServiceProcess
from tests.streams import Subscriber, positions

API_TOKEN = "the-same-token-for-both-replicas-of-this-test"
TRAINERS, SUBSCRIBERS = 6, 4
GONE = (aiohttp.ClientError, OSError, TimeoutError, AssertionError)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[EmbeddedPostgres, str, Path]]:
    """A PostgreSQL of the test's own, migrated; the server, its URL and its folder."""
    # Not pytest's own folder: each pytest that starts closes that one to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="epochlog-tests-"))
    server = EmbeddedPostgres(folder / "data")
    url = await server.start()
    await migrate(url)
    yield server, url, folder / "data"
    await server.stop()
    shutil.rmtree(folder)


@dataclass
class Trainer:
    """Calls whichever replica answers, and writes down what was acknowledged."""

    urls: list[str]
    acknowledged: dict[str, int] = field(default_factory=dict)

    async def train(self, ended: asyncio.Event) -> None:
        """Send one heartbeat after the other until told to end, then `done`."""
        admin = {"Authorization": f"Bearer {API_TOKEN}"}
        body = {**NEW_JOB, "epochs": 1_000_000}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            key = {"Idempotency-Key": uuid4().hex}
            job = await self._insist(session, "/v1/jobs", body, {**admin, **key})
            token = {"Authorization": f"Bearer {job['callback_token']}"}
            at = f"/v1/jobs/{job['id']}"
            while not ended.is_set():
                await self._tell(session, f"{at}/heartbeat", token, epoch=len(self.acknowledged))
            await self._tell(session, f"{at}/done", token, status="succeeded")

    async def _tell(
        self, session: aiohttp.ClientSession, path: str, token: dict[str, str], **body: Any
    ) -> None:
        event_id = str(uuid4())
        answer = await self._insist(session, path, {"event_id": event_id, **body}, token)
        self.acknowledged[event_id] = answer["position"]

    async def _insist(
        self, session: aiohttp.ClientSession, path: str, body: Any, headers: dict[str, str]
    ) -> Any:
        for url in cycle(self.urls):
            try:
                async with session.post(url + path, json=body, headers=headers) as response:
                    if response.status in {200, 201}:
                        return await response.json()
                    assert response.status == 503, await response.text()
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.02)
        raise AssertionError


async def follow(urls: list[str], number: int, until: Callable[[int], bool]) -> list[int]:
    """Follow the whole log, over whichever replica is there, until its end; the positions."""
    seen: list[int] = []
    for url in cycle(urls[number % 2 :] + urls[: number % 2]):
        path = f"/v1/stream?after={seen[-1] if seen else 0}"
        try:
            async with Subscriber(url, path, API_TOKEN) as subscriber:
                while not until(seen[-1] if seen else 0):
                    message = await subscriber.message(within=1.0)
                    seen += positions(message["events"])
        except GONE:
            await asyncio.sleep(0.02)
        if until(seen[-1] if seen else 0):
            return seen
    raise AssertionError


async def test_after_a_bad_night_the_log_is_whole_and_everybody_has_all_of_it(
    server: tuple[EmbeddedPostgres, str, Path],
) -> None:
    postgres, url, data = server
    shared = {
        "EPOCHLOG_DATABASE_URL": url,
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_API_TOKEN": API_TOKEN,
        "EPOCHLOG_EXECUTOR": "external",
        "EPOCHLOG_ANCHOR_SECONDS": "1",
    }
    with ExitStack() as stack:
        replicas = [stack.enter_context(ServiceProcess(**shared)) for _ in range(2)]
        await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in replicas))
        urls = [replica.url for replica in replicas]
        ended, head = asyncio.Event(), [-1]
        trainers = [Trainer(urls[i % 2 :] + urls[: i % 2]) for i in range(TRAINERS)]
        training = [asyncio.create_task(trainer.train(ended)) for trainer in trainers]
        following = [
            asyncio.create_task(follow(urls, number, lambda at: at == head[0]))
            for number in range(SUBSCRIBERS)
        ]

        await _more_is_acknowledged(trainers)
        replicas[0].kill()
        await _more_is_acknowledged(trainers)
        await asyncio.to_thread(replicas[0].start)
        await _more_is_acknowledged(trainers)
        _kill_the_server_in(data)
        await postgres.start()
        await _more_is_acknowledged(trainers)
        ended.set()
        await asyncio.wait_for(asyncio.gather(*training), 60)
        head[0] = await _head(url)

        everything = list(range(1, head[0] + 1))
        for seen in await asyncio.wait_for(asyncio.gather(*following), 60):
            assert seen == everything
        environ = {**replicas[0].environ, **shared}
        for words in (["verify"], ["replay", "--check"]):
            checked = await epochlog(*words, environ=environ)
            assert checked.code == 0, (words, checked)

    records = await check_ledger(url)
    stored = [(record.event_id, record.position) for record in records]
    for trainer in trainers:
        assert set(trainer.acknowledged.items()) <= set(stored)
    assert len({event_id for event_id, _ in stored}) == len(stored)


async def _more_is_acknowledged(trainers: list[Trainer]) -> None:
    """Wait until each trainer has some more acknowledged events than now."""
    goals = [len(trainer.acknowledged) + 15 for trainer in trainers]

    def reached() -> bool:
        return all(
            len(trainer.acknowledged) >= goal for trainer, goal in zip(trainers, goals, strict=True)
        )

    await eventually(reached, within=60)


def _kill_the_server_in(folder: Path) -> None:
    """End the database as a power cut would: the server and every process of it."""
    pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
    server = psutil.Process(pid)
    for process in [server, *server.children(recursive=True)]:
        process.kill()
    psutil.wait_procs([server], timeout=10)


async def _head(url: str) -> int:
    connection = await asyncpg.connect(url)
    position: int = await connection.fetchval("select position from log_head")
    await connection.close()
    return position
