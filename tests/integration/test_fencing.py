"""What was decided in an old term of the lease is not written, and nothing else suffers for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from projections.decide import Command, Enqueue, Report, ReportCallbacks, Tick
from projections.events import Heartbeat
from service.batch import Outcome
from service.errors import FencedError
from service.event_log import EventLog
from service.lease import NAME
from service.statements import statement
from tests.http import Api
from tests.ledger import check_ledger
from tests.polling import eventually


def enqueue(reason: str = "waiting_for_slot") -> Enqueue:
    return Enqueue(attempt=1, reason=reason, message="A supervisor has decided so.")


def beat(epoch: int) -> ReportCallbacks:
    report = Report(event=Heartbeat(epoch=epoch), event_id=str(uuid4()))
    return ReportCallbacks(attempt=1, reports=(report,))


async def open_term(connection: Any) -> int:
    """Let another process take the lease, whoever has it."""
    await connection.execute("update leases set holder = null, expires_at = null")
    granted = timedelta(seconds=60)
    term: int = await connection.fetchval(statement("take_lease"), NAME, uuid4(), granted, False)
    return term


async def at_once(
    log: EventLog, *asked: tuple[int, Command, int | None]
) -> Sequence[Outcome | BaseException]:
    """Ask for all of these in one batch."""
    batches: list[int] = []
    counted, log.committed = log.committed, lambda answers, _: batches.append(len(answers))
    answers = await asyncio.gather(*(log.handle(*one) for one in asked), return_exceptions=True)
    log.committed = counted
    assert batches == [len(asked)]
    return answers


async def test_an_old_term_is_refused_and_callbacks_of_the_same_batch_are_recorded(
    still_api: Api, database: str
) -> None:
    log = still_api.service.instance.log
    one, two = (await still_api.create_job())["id"], (await still_api.create_job())["id"]
    connection = await asyncpg.connect(database)
    old, new = await open_term(connection), await open_term(connection)
    before = await check_ledger(database)

    first, fenced, ticked, current, last = await at_once(
        log,
        (one, beat(1), None),
        (two, enqueue("waiting_for_trainer"), old),
        (two, Tick(), old),
        (two, enqueue("waiting_for_slot"), new),
        (one, beat(2), None),
    )

    assert isinstance(fenced, FencedError)
    assert isinstance(ticked, FencedError)
    assert isinstance(first, Outcome)
    assert isinstance(current, Outcome)
    assert isinstance(last, Outcome)
    written = (await check_ledger(database))[len(before) :]
    assert [(record.job_id, record.type) for record in written] == [
        (record.job_id, record.type)
        for outcome in (first, current, last)
        for record in outcome.records
    ]
    assert current.state.reason.code == "waiting_for_slot"
    await connection.close()


async def test_a_term_is_refused_that_ended_between_the_decision_and_its_append(
    still_api: Api, database: str
) -> None:
    log = still_api.service.instance.log
    one, two = (await still_api.create_job())["id"], (await still_api.create_job())["id"]
    connection, watching = await asyncpg.connect(database), await asyncpg.connect(database)
    old = await open_term(connection)
    await log.handle(one, beat(1), None)  # it knows the head of this term
    held = connection.transaction()
    await held.start()
    await connection.execute("select from log_head for update")

    asked = asyncio.create_task(at_once(log, (two, enqueue(), old), (one, beat(2), None)))

    async def appends() -> bool:
        waiting = "select count(*) from pg_locks where not granted"
        return bool(await watching.fetchval(waiting))

    await eventually(appends)  # all is decided, and the statement that writes it is under way
    await open_term(connection)
    await held.commit()

    fenced, recorded = await asked
    assert isinstance(fenced, FencedError)
    assert isinstance(recorded, Outcome)
    assert [record.type for record in recorded.records] == ["heartbeat"]
    assert "queued" not in [record.type for record in await check_ledger(database)]
    await connection.close()
    await watching.close()


async def test_a_new_term_counts_at_once_however_the_writer_remembers_the_head(
    still_api: Api, database: str
) -> None:
    log = still_api.service.instance.log
    job = (await still_api.create_job())["id"]
    await log.handle(job, Tick())  # its memory of the head is fresh, and of the old term
    connection = await asyncpg.connect(database)
    term = await open_term(connection)

    outcome = await log.handle(job, enqueue(), term)

    assert [record.type for record in outcome.records] == ["queued"]
    await connection.close()


async def test_a_writer_that_never_supervises_goes_on_through_new_terms(
    still_api: Api, database: str
) -> None:
    job = await still_api.create_job()
    connection = await asyncpg.connect(database)
    for epoch in range(1, 6):
        await open_term(connection)
        answer = await still_api.call_back(job, "heartbeat", {"epoch": epoch})
        assert answer.status == 200
    await connection.close()
    await check_ledger(database)


async def test_a_supervisor_records_nothing_more_once_another_has_taken_the_lease(
    api: Api, database: str
) -> None:
    candidate = api.service.instance.candidate
    await eventually(lambda: candidate.leads)
    connection = await asyncpg.connect(database)
    await open_term(connection)
    assert candidate.leads  # by its own clock, for it has not asked again yet

    job = await api.create_job()

    await eventually(lambda: not candidate.leads)
    assert [event["type"] for event in await api.events(job)] == ["created"]
    await connection.execute("update leases set holder = null, expires_at = null")
    await eventually(lambda: candidate.leads)

    async def is_queued() -> bool:
        return "queued" in [event["type"] for event in await api.events(job)]

    await eventually(is_queued)
    await connection.close()


async def test_terms_are_opened_while_others_write(still_api: Api, database: str) -> None:
    log = still_api.service.instance.log
    job = (await still_api.create_job())["id"]
    connection = await asyncpg.connect(database)

    async def write() -> None:
        for epoch in range(1, 101):
            await log.handle(job, beat(epoch))

    async def open_terms() -> list[int]:
        return [await open_term(connection) for _ in range(50)]

    _, terms = await asyncio.gather(write(), open_terms())

    assert terms == list(range(1, 51))
    assert await connection.fetchval("select term from log_head") == 50
    assert len(await check_ledger(database)) >= 101
    await connection.close()
