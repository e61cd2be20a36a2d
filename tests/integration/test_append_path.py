"""The append path: ids across ranges, several writers, and one bad value among good ones."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg

from projections.decide import CreateJob, Report, ReportCallbacks
from projections.events import Created, Heartbeat
from service.errors import InvalidRequestError
from tests.conftest import StartService
from tests.http import Api
from tests.ledger import check_ledger

SMALL_RANGES = {"EPOCHLOG_PARTITION_EVENTS": "10"}


async def test_an_event_told_again_is_known_across_ranges_of_the_log(
    start_service: StartService, database: str
) -> None:
    api = await start_service(**SMALL_RANGES)
    job = await api.create_job()
    bodies = [{"event_id": str(uuid4()), "epoch": epoch} for epoch in range(1, 41)]
    first = [(await api.call_back(job, "heartbeat", body)).json for body in bodies]

    again = [(await api.call_back(job, "heartbeat", body)).json for body in bodies]
    other = await api.call_back(job, "heartbeat", {**bodies[0], "epoch": 99})

    assert [answer["duplicate"] for answer in again] == [True] * len(bodies)
    for once, twice in zip(first, again, strict=True):
        assert (once["position"], once["version"]) == (twice["position"], twice["version"])
    assert (other.status, other.json["code"]) == (409, "event_id_conflict")
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("select count(*) from log_partitions") >= 4
    await connection.close()
    assert len(await check_ledger(database)) == len(bodies) + 1


async def test_two_services_take_turns_and_new_ranges(
    start_service: StartService, database: str, tmp_path: Any
) -> None:
    services = [
        await start_service(EPOCHLOG_STATE_DIR=str(tmp_path / name), **SMALL_RANGES)
        for name in ("one", "two")
    ]
    job = await services[0].create_job()

    async def send(api: Api, number: int) -> list[int]:
        answers = []
        for seq in range(number, 60, 2):
            answer = await api.call_back(job, "heartbeat", {"epoch": seq, "event_id": str(uuid4())})
            answers.append(answer.json["position"])
        return answers

    sent = await asyncio.gather(send(services[0], 0), send(services[1], 1))

    assert sorted([*sent[0], *sent[1]]) == list(range(2, 62))
    await check_ledger(database)


async def test_one_value_that_the_database_refuses_fails_alone(
    start_service: StartService, database: str
) -> None:
    log = (await start_service()).service.instance.log
    asked = Created(dataset_id="none", model_name="none", epochs=1)
    job = (await log.handle(None, CreateJob(created=asked))).state.id

    def beat(epoch: int, note: str) -> ReportCallbacks:
        event = Heartbeat(epoch=epoch, extra={"note": note})
        return ReportCallbacks(attempt=1, reports=(Report(event=event, event_id=str(uuid4())),))

    # No request can bring a NUL this far; whatever else the database refuses is treated alike.
    notes = ["fine"] * 20 + ["\0"] + ["fine"] * 20
    outcomes = await asyncio.gather(
        *(log.handle(job, beat(epoch, note)) for epoch, note in enumerate(notes)),
        return_exceptions=True,
    )

    failed = [epoch for epoch, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
    assert failed == [20]
    assert isinstance(outcomes[20], InvalidRequestError)
    assert len(await check_ledger(database)) == len(notes)
