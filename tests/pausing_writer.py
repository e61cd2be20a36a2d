"""A process that writes to a log whose transactions pause: ours, or one numbered by `bigserial`.

Run as `python -m tests.pausing_writer ours|naive URL EVENTS`, by the tests of the global order.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from projections.decide import CreateJob, Report, ReportCallbacks
from projections.events import Created, Heartbeat
from projections.policy import Policy
from service.event_log import EventLog
from service.postgres import Database
from service.senses import Senses

TASKS = 4


async def ours(url: str, events: int) -> None:
    """Append through the real log, as a service does; several jobs at once."""
    database = await Database.connect(url)
    policy = Policy()
    log = EventLog(database=database, policy=policy, senses=Senses(policy))
    running = asyncio.create_task(log.run())

    async def train() -> None:
        asked = Created(dataset_id="none", model_name="none", epochs=events)
        job = await log.handle(None, CreateJob(created=asked))
        for epoch in range(1, events + 1):
            beat = Report(event=Heartbeat(epoch=epoch))
            await log.handle(job.state.id, ReportCallbacks(attempt=1, reports=(beat,)))

    await asyncio.gather(*(train() for _ in range(TASKS)))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()


async def naive(url: str, events: int) -> None:
    """Insert into a table that numbers its rows by itself."""

    async def insert() -> None:
        connection = await asyncpg.connect(url)
        for _ in range(events):
            await connection.execute("insert into naive_log default values")
        await connection.close()

    await asyncio.gather(*(insert() for _ in range(TASKS)))


if __name__ == "__main__":
    asyncio.run({"ours": ours, "naive": naive}[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
