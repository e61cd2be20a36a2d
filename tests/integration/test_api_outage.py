"""The database gone and back, and more work than can be written: 503, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from projections.decide import Report, ReportCallbacks
from projections.events import Heartbeat
from service.embedded import EmbeddedPostgres
from service.errors import OverloadedError
from service.postgres import migrate
from tests.conftest import StartService
from tests.http import NEW_JOB, Answer, Api
from tests.ledger import check_ledger
from tests.polling import eventually


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[EmbeddedPostgres, str]]:
    """A PostgreSQL of the test's own, migrated; the server and its URL."""
    # Not pytest's own folder: each pytest that starts closes that one to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="epochlog-tests-"))
    server = EmbeddedPostgres(folder / "data")
    url = await server.start()
    await migrate(url)
    yield server, url
    await server.stop()
    shutil.rmtree(folder)


def _is_unavailable(answer: Answer) -> bool:
    assert answer.status == 503, answer.text
    assert answer.json["code"] == "store_unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    return True


async def test_without_its_database_the_service_says_so_and_it_recovers_by_itself(
    server: tuple[EmbeddedPostgres, str], start_service: StartService
) -> None:
    postgres, url = server
    api = await start_service(EPOCHLOG_DATABASE_URL=url)
    viewer = (await api.post("/v1/tokens", {"role": "viewer"})).json["token"]
    job = await api.create_job()
    kept = await api.call_back(job, "heartbeat", {"epoch": 1, "seq": 1})

    await postgres.stop()

    path = f"/v1/jobs/{job['id']}"
    assert _is_unavailable(await api.call_back(job, "heartbeat", {"epoch": 2, "seq": 2}))
    assert _is_unavailable(
        await api.call_back(job, "callbacks", {"callbacks": [{"kind": "heartbeat"}]})
    )
    assert _is_unavailable(await api.post("/v1/jobs", NEW_JOB))
    assert _is_unavailable(await api.post(f"{path}/cancel"))
    assert _is_unavailable(await api.post(f"{path}/token"))
    assert _is_unavailable(await api.post("/v1/tokens", {"role": "viewer"}))
    for view in ("", "/events", "/timeline", "/explain", "/logs"):
        assert _is_unavailable(await api.get(f"{path}{view}"))
    assert _is_unavailable(await api.get("/v1/jobs"))
    assert _is_unavailable(await api.call("GET", "/v1/jobs", token=viewer))
    assert _is_unavailable(await api.get("/readyz"))
    assert (await api.get("/healthz")).json == {"status": "ok"}
    assert (await api.get("/v1/openapi.json")).status == 200
    # What is wrong with a request is told, database or not.
    assert (await api.post("/v1/jobs", {})).status == 400
    assert (await api.call_back(job | {"callback_token": "x"}, "heartbeat")).status == 401

    await postgres.start()

    async def ready() -> bool:
        return (await api.get("/readyz")).status == 200

    await eventually(ready)
    again = await api.call_back(job, "heartbeat", {"epoch": 1, "seq": 1})
    assert (again.json["duplicate"], again.json["position"]) == (True, kept.json["position"])
    assert (await api.call_back(job, "heartbeat", {"epoch": 2, "seq": 2})).json["applied"] is True
    assert (await api.call("GET", "/v1/jobs", token=viewer)).status == 200
    assert (await api.get(path)).json["progress"]["epoch"] == 2
    await check_ledger(url)


async def test_what_was_acknowledged_survives_every_stop_and_is_there_once(
    server: tuple[EmbeddedPostgres, str], start_service: StartService
) -> None:
    postgres, url = server
    api = await start_service(EPOCHLOG_DATABASE_URL=url)
    stopped = asyncio.Event()

    async def trainer() -> dict[str, int]:
        job = await api.create_job()
        acknowledged: dict[str, int] = {}
        failures = 0
        while not stopped.is_set() or not failures:
            event_id = str(uuid4())
            body = {"event_id": event_id, "epoch": len(acknowledged)}
            while (answer := await api.call_back(job, "heartbeat", body)).status != 200:
                failures += _is_unavailable(answer)
                await asyncio.sleep(0.02)
            acknowledged[event_id] = answer.json["position"]
        return acknowledged

    trainers = [asyncio.create_task(trainer()) for _ in range(5)]
    try:
        for _ in range(2):
            await _more_events(url)
            await postgres.stop()
            await postgres.start()
    finally:
        stopped.set()

    acknowledged: dict[str, int] = {}
    for task in trainers:
        acknowledged |= await task
    records = await check_ledger(url)
    beats = {record.event_id: record.position for record in records if record.type == "heartbeat"}
    assert beats == acknowledged


async def _more_events(url: str) -> None:
    """Wait until some more events were written than there are now."""
    connection = await asyncpg.connect(url)
    before = await connection.fetchval("select count(*) from events")
    await eventually(
        lambda: connection.fetchval("select count(*) >= $1::bigint + 20 from events", before)
    )
    await connection.close()


@pytest_asyncio.fixture
async def lock_holder(database: str) -> AsyncIterator[Any]:
    """A connection that keeps every writer waiting until it lets go of the log's lock."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


HOLD = "begin; select from log_head for update"
LET_GO = "rollback"
BEAT = ReportCallbacks(attempt=1, reports=(Report(event=Heartbeat()),))


async def _each_waiting(connection: Any, statement: str) -> bool:
    """Run the statement for each backend that waits for the log's lock; whether there was one."""
    await connection.execute("select pg_stat_clear_snapshot()")  # it is in a transaction
    return bool(
        await connection.fetch(
            f"{statement} from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        )
    )


async def test_more_than_can_be_written_is_refused_before_memory_grows(
    api: Api, lock_holder: Any
) -> None:
    job = await api.create_job()
    await lock_holder.execute(HOLD)
    log = api.service.instance.log
    try:
        waiting = [asyncio.create_task(log.handle(job["id"], BEAT))]
        while not waiting[-1].done() and len(waiting) < 50_000:
            waiting.append(asyncio.create_task(log.handle(job["id"], BEAT)))
            await asyncio.sleep(0)
        assert isinstance(waiting.pop().exception(), OverloadedError)

        for answer in (
            await api.post("/v1/jobs", NEW_JOB),
            await api.call_back(job, "heartbeat"),
            await api.post(f"/v1/jobs/{job['id']}/cancel"),
        ):
            assert (answer.status, answer.json["code"]) == (503, "overloaded")
            assert int(answer.headers["Retry-After"]) > 0
        assert (await api.get(f"/v1/jobs/{job['id']}")).status == 200
        assert not any(task.done() for task in waiting)
    finally:
        await lock_holder.execute(LET_GO)

    outcomes = await asyncio.gather(*waiting)
    assert {outcome.state.id for outcome in outcomes} == {job["id"]}
    assert (await api.call_back(job, "heartbeat")).json["applied"] is True


async def test_what_waits_for_the_lock_is_written_once_it_is_free(
    api: Api, lock_holder: Any
) -> None:
    await lock_holder.execute(HOLD)
    making = [asyncio.create_task(api.create_job()) for _ in range(20)]
    await eventually(lambda: _each_waiting(lock_holder, "select pid"))
    assert not any(task.done() for task in making)

    await lock_holder.execute(LET_GO)

    assert sorted(job["id"] for job in await asyncio.gather(*making)) == list(range(1, 21))


@pytest.mark.parametrize(
    "statement", ["select pg_terminate_backend(pid)", "select pg_cancel_backend(pid)"]
)
async def test_a_connection_that_is_cut_hurts_one_answer_at_most(
    api: Api, lock_holder: Any, statement: str
) -> None:
    job = await api.create_job()
    await lock_holder.execute(HOLD)
    waiting = asyncio.create_task(api.call_back(job, "heartbeat", {"seq": 1}))

    await eventually(lambda: _each_waiting(lock_holder, statement))
    assert _is_unavailable(await waiting)
    await lock_holder.execute(LET_GO)

    again = await api.call_back(job, "heartbeat", {"seq": 1})
    assert (again.status, again.json["duplicate"]) == (200, False)
