"""From a million events to each job's status: by SQL alone, by `eventsourcing`, by our replay."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import asyncpg

from bench.as_of import EVENTS, JOBS, shared_history
from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import SERVER
from bench.eventsourcing_peer import replaying
from bench.process import output_of, python
from bench.stage import Stage, sql


async def _open_sql(stage: Stage) -> Measure:
    database = await stage.connect(await shared_history(stage))
    statement, events = sql("last_statuses"), stage.pace.scaled(EVENTS)
    kept = _statuses(await database.fetch("select id as job_id, status from jobs"))

    async def measure() -> Measured:
        start = time.perf_counter()
        rows = await database.fetch(statement)
        seconds = time.perf_counter() - start
        if _statuses(rows) != kept:
            raise BenchError("SQL comes to other statuses than the projections hold.")
        return Measured(events / seconds)

    return measure


def _ours(check: str) -> Callable[[Stage], Awaitable[Measure]]:
    """Do what `epochlog replay --check` does; the start of the process is not measured."""

    async def open_(stage: Stage) -> Measure:
        url, events = await shared_history(stage), stage.pace.scaled(EVENTS)

        async def measure() -> Measured:
            command = python("bench.rebuild", check)
            said = await output_of(*command, cores=SERVER, given=url.encode())
            return Measured(events / float(said))

        return measure

    return open_


def _statuses(rows: list[asyncpg.Record]) -> dict[int, str]:
    return {row["job_id"]: row["status"] for row in rows}


SQL_ALONE = Contender("pure SQL, last status of each job", "events/s", _open_sql)
STATUSES = Contender(
    "Epochlog, each job's status folded and compared", "events/s", _ours("quick_check")
)
OURS = Contender("Epochlog, every projection folded and compared", "events/s", _ours("check"))
EVENTSOURCING = replaying(EVENTS, JOBS)
