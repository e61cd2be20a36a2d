"""Many callers, jobs and replicas at once: one order without gaps, and nothing is missed."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import asyncpg
import pytest_asyncio

from tests.conftest import StartService
from tests.http import NEW_JOB, Api
from tests.ledger import check_ledger

JOBS = 12
BEATS = 10


@pytest_asyncio.fixture
async def replicas(start_service: StartService, tmp_path: Any) -> list[Api]:
    """Two services on one database."""
    return [await start_service(EPOCHLOG_STATE_DIR=str(tmp_path / name)) for name in ("a", "b")]


async def _train(replicas: list[Api], first: int) -> list[tuple[int, int, int]]:
    """Run one job, each call to the other replica; what was acknowledged: job, position, epoch."""
    job = await replicas[first % 2].create_job(epochs=BEATS)
    acknowledged = []
    for epoch in range(1, BEATS + 1):
        api = replicas[(first + epoch) % 2]
        answer = await api.call_back(job, "heartbeat", {"epoch": epoch, "seq": epoch})
        assert (answer.status, answer.json["applied"]) == (200, True)
        acknowledged.append((job["id"], answer.json["position"], epoch))
    done = await replicas[first % 2].call_back(job, "done", {"status": "succeeded"})
    assert done.json["status"] == "succeeded"
    return acknowledged


async def _tail(url: str, trained: asyncio.Event) -> list[int]:
    """Read `position > N` again and again until nothing more can come; what was read."""
    connection = await asyncpg.connect(url)
    read: list[int] = []
    last_round = False
    while True:
        rows = await connection.fetch(
            "select position from events where position > $1 order by position limit 7",
            read[-1] if read else 0,
        )
        read += [row["position"] for row in rows]
        if not rows and last_round:
            await connection.close()
            return read
        last_round = trained.is_set()
        await asyncio.sleep(0)


async def test_two_replicas_write_one_log_and_a_reader_misses_nothing(
    replicas: list[Api], database: str
) -> None:
    trained = asyncio.Event()
    reader = asyncio.create_task(_tail(database, trained))

    told = await asyncio.gather(*(_train(replicas, first) for first in range(JOBS)))
    trained.set()

    read = await reader
    records = await check_ledger(database)
    assert read == [record.position for record in records][: len(read)]
    assert len(read) >= JOBS * (BEATS + 3)
    by_position = {record.position: record for record in records}
    for job_id, position, epoch in chain.from_iterable(told):
        assert (by_position[position].job_id, by_position[position].seq) == (job_id, epoch)


async def test_all_callbacks_of_one_job_at_once_are_all_recorded(
    replicas: list[Api], database: str
) -> None:
    job = await replicas[0].create_job()

    answers = await asyncio.gather(
        *(replicas[seq % 2].call_back(job, "heartbeat", {"seq": seq}) for seq in range(1, 101))
    )

    assert {answer.status for answer in answers} == {200}
    records = await check_ledger(database)
    told = {(answer.json["position"], answer.json["version"]) for answer in answers}
    beats = [record for record in records if record.type == "heartbeat"]
    assert told == {(record.position, record.version) for record in beats}
    assert {record.seq for record in beats} == set(range(1, 101))


async def test_one_key_sent_to_two_replicas_at_once_makes_one_job(
    replicas: list[Api], database: str
) -> None:
    answers = await asyncio.gather(
        *(replicas[n % 2].post("/v1/jobs", NEW_JOB, Idempotency_Key="k") for n in range(20))
    )

    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    records = await check_ledger(database)
    assert [record.type for record in records].count("created") == 1


async def test_one_callback_sent_to_two_replicas_at_once_is_recorded_once(
    replicas: list[Api], database: str
) -> None:
    job = await replicas[0].create_job()
    body = {"status": "succeeded", "seq": 1}

    answers = await asyncio.gather(
        *(replicas[n % 2].call_back(job, "done", body) for n in range(20))
    )

    assert sorted(answer.json["duplicate"] for answer in answers) == [False] + [True] * 19
    assert len({answer.json["position"] for answer in answers}) == 1
    assert {answer.json["status"] for answer in answers} == {"succeeded"}
    await check_ledger(database)


async def test_a_cancel_and_a_success_at_once_have_one_winner(
    replicas: list[Api], database: str
) -> None:
    for _ in range(10):
        job = await replicas[0].create_job()
        await replicas[0].call_back(job, "heartbeat")
        asked, done = await asyncio.gather(
            replicas[0].post(f"/v1/jobs/{job['id']}/cancel"),
            replicas[1].call_back(job, "done", {"status": "succeeded"}),
        )
        # Nothing told the trainer of the cancel before its word, so that wins either way.
        assert (done.status, done.json["status"]) == (200, "succeeded")
        assert asked.status in {202, 409}
    await check_ledger(database)
