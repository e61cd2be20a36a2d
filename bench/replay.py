"""From a million events to each job's status: by SQL alone, by `eventsourcing`, by our replay."""

from __future__ import annotations

import time

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


async def _open_ours(stage: Stage) -> Measure:
    """Do what `epochlog replay --check` does; the start of the process is not measured."""
    url, events = await shared_history(stage), stage.pace.scaled(EVENTS)

    async def measure() -> Measured:
        said = await output_of(*python("bench.rebuild"), cores=SERVER, given=url.encode())
        return Measured(events / float(said))

    return measure


def _statuses(rows: list[asyncpg.Record]) -> dict[int, str]:
    return {row["job_id"]: row["status"] for row in rows}


SQL_ALONE = Contender("pure SQL, last status of each job", "events/s", _open_sql)
OURS = Contender("Epochlog, every projection folded and compared", "events/s", _open_ours)
EVENTSOURCING = replaying(EVENTS, JOBS)
