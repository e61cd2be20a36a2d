"""Two services on one database: the one that leads is frozen or killed, and the other goes on.

The frozen one wakes up in the middle of what it did and may change nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from projections.events import Queued
from tests.conftest import SECRET_KEY
from tests.ledger import check_ledger
from tests.polling import eventually
from tests.processes import ServiceProcess

QUEUE_TIMEOUT = 3
HANDOVER = 15.0
"""Seconds within which another has to lead."""
PAUSING = """
create function pause() returns trigger language plpgsql as $$
begin
    perform pg_sleep(1);
    return null;
end
$$;
create trigger pauses after insert on job_spans for each row when (new.status = 'queued')
    execute function pause();
"""
INSIDE = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
DECISIONS = {"attempt_failed", "retry_scheduled", "failed", "succeeded", "running", "exited"}

log = logging.getLogger(__name__)

Pair = tuple[ServiceProcess, ServiceProcess]


@pytest.fixture
def pair(database: str) -> Iterator[Pair]:
    """Two services on one database, with a state folder each; the second one is not started."""
    settings = {"EPOCHLOG_DATABASE_URL": database, "EPOCHLOG_SECRET_KEY": SECRET_KEY}
    with ServiceProcess(**settings) as first, ServiceProcess(**settings) as second:
        yield first, second


@pytest_asyncio.fixture
async def owner(database: str) -> AsyncIterator[Any]:
    """A connection of the database's owner."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def figure(service: ServiceProcess, name: str) -> int:
    """Sum up a metric of one service over its labels."""
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", service.text("/metrics"), re.MULTILINE)
    return sum(int(float(value)) for value in found)


async def leads(service: ServiceProcess, *, within: float = HANDOVER) -> None:
    """Wait until the service leads; with `-o log_cli_level=INFO` pytest shows how long it took."""
    began = time.monotonic()
    await eventually(lambda: figure(service, "epochlog_leader") == 1, within=within)
    log.info("took over in %.1f s", time.monotonic() - began)


async def at_rest(owner: Any) -> int:
    """Return where the log ends once nothing is written any more."""
    position: int = await owner.fetchval("select position from log_head")
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        before, position = position, await owner.fetchval("select position from log_head")
        if position != before:
            until = time.monotonic() + 0.5
    return position


def written(service: ServiceProcess) -> int:
    """Return how many events the service has written, by its own count."""
    return figure(service, "epochlog_events_appended_total")


def verify(service: ServiceProcess) -> None:
    """Fail unless `epochlog verify` finds nothing."""
    command = [sys.executable, "-m", "service", "verify"]
    ran = subprocess.run(command, env=service.environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def nothing_was_decided_twice(database: str) -> None:
    records = await check_ledger(database)
    decided = Counter(
        (record.job_id, record.attempt, record.type)
        for record in records
        if record.type in DECISIONS
    )
    assert set(decided.values()) <= {1}, [key for key, count in decided.items() if count > 1]
    reasons = Counter(
        (record.job_id, record.attempt, record.event.reason)
        for record in records
        if isinstance(record.event, Queued)
    )
    assert set(reasons.values()) <= {1}, reasons


async def freeze_and_wake(
    leader: ServiceProcess, other: ServiceProcess, own: dict[ServiceProcess, int], owner: Any
) -> None:
    """Freeze the leader while it decides, wake it while the other does; `own` is what each wrote.

    Nobody writes while the one is frozen and the other does not lead yet, nor at the end: so what
    the log holds there is the one's, or the other's, to the last event.
    """
    jobs = [leader.submit()["id"] for _ in range(60)]
    await eventually(lambda: leader.job(jobs[-1])["status"] == "queued")
    await asyncio.sleep(QUEUE_TIMEOUT - 0.3)  # now it decides that they waited for too long
    leader.pause()
    own[leader] += await at_rest(owner) - sum(own.values())

    await leads(other)
    jobs += [other.submit()["id"] for _ in range(40)]
    for job_id in jobs[:-20]:
        other.wait_for(job_id, "failed")
    leader.resume()
    for job_id in jobs:
        other.wait_for(job_id, "failed")
    await eventually(lambda: leader.log().count("leads_no_more") == 1)

    own[other] += await at_rest(owner) - sum(own.values())
    assert (figure(leader, "epochlog_leader"), figure(other, "epochlog_leader")) == (0, 1)
    assert (written(leader), written(other)) == (own[leader], own[other])
    assert own[other] > 0


async def test_a_frozen_leader_is_replaced_and_changes_nothing_when_it_wakes_up(
    pair: Pair, database: str, owner: Any
) -> None:
    for service in pair:  # jobs that nobody starts, so that all is up to who supervises
        service.environ |= {
            "EPOCHLOG_EXECUTOR": "external",
            "EPOCHLOG_QUEUE_TIMEOUT": str(QUEUE_TIMEOUT),
        }
    leader, other = pair
    leader.start()
    await leads(leader, within=10)
    other.start()
    own = {leader: 0, other: 0}

    await freeze_and_wake(leader, other, own, owner)
    await freeze_and_wake(other, leader, own, owner)

    await nothing_was_decided_twice(database)
    verify(leader)
    assert await owner.fetchval("select term from leases") == 3


async def test_a_leader_that_is_frozen_inside_its_transaction_is_replaced_all_the_same(
    pair: Pair, database: str, owner: Any
) -> None:
    leader, other = pair
    for service in pair:
        service.environ |= {"EPOCHLOG_EXECUTOR": "external"}
    leader.start()
    await leads(leader)
    other.start()
    await owner.execute(PAUSING)
    job_id = leader.submit()["id"]

    async def is_inside() -> bool:
        return bool(await owner.fetchval(INSIDE))

    await eventually(is_inside)
    leader.pause()  # holding the row that all who write to the log need
    await leads(other)
    other.wait_for(job_id, "queued")
    leader.resume()
    await eventually(lambda: "leads_no_more" in leader.log())

    await nothing_was_decided_twice(database)
    assert [event["type"] for event in other.events(job_id)] == ["created", "queued"]
    verify(other)


async def test_trainings_go_on_when_the_leader_is_frozen_and_when_it_is_killed(
    pair: Pair, database: str, owner: Any
) -> None:
    first, second = pair
    first.start()
    await leads(first, within=10)
    second.start()
    kept = first.submit(epochs=150, params={"seconds": 0.1})["id"]
    first.wait_for(kept, "running")

    first.pause()
    new = second.submit(epochs=3)["id"]
    await leads(second)
    assert second.wait_for(new, "succeeded", "failed")["status"] == "succeeded"
    assert second.job(kept)["health"]["verdict"] == "unreachable"  # its place is the other's
    first.resume()
    await eventually(lambda: "leads_no_more" in first.log())
    assert figure(first, "epochlog_leader") == 0
    assert second.job(kept)["status"] == "running"

    second.kill()
    await leads(first)
    assert first.wait_for(kept, "succeeded", "failed")["status"] == "succeeded"
    second.start()
    assert figure(second, "epochlog_leader") == 0
    assert first.stop() == 0
    await leads(second, within=5)  # it was given back, and nobody waits for its end

    verify(second)
    await nothing_was_decided_twice(database)
    launched = Counter(line.split()[0] for one in pair for line in one.notes("launches"))
    assert launched == {f"{kept}/1": 1, f"{new}/1": 1}
