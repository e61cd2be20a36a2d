"""Histories in the database: made by as many processes as there are cores, loaded with COPY.

This is the one file of the bench that knows the log's tables.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from bench.cores import ALL
from bench.history import Cohort, make, plan
from bench.stage import Connection, Stage, sql, with_database
from projections.events import Record
from service.batch import Batch
from service.event_log import PARTITION_EVENTS
from service.postgres import migrate
from service.records import event_columns, job_columns
from service.writing import Span, span_columns

EVENT_IDS = ("job_id", "event_id", "position", "version", "attempt", "seq")
JOBS = (
    *("id", "version", "position", "hash", "status", "watched", "labels", "idempotency_key"),
    *("state", "first_position", "final_position", "pulse"),
)
SPANS = (
    *("position", "job_id", "version", "recorded_at", "status", "attempt", "verdict"),
    *("reason_code", "reason_message", "counts"),
)


async def history(stage: Stage, events: int, jobs: int) -> str:
    """Return the URL of a new database that holds a history; made once a run, then copied."""
    name = f"history_{events}_{jobs}"
    connection = await stage.connect(stage.server)
    if not await connection.fetchval("select 1 from pg_database where datname = $1", name):
        await stage.on_server(f"create database {name}")
        await fill(with_database(stage.server, name), events, jobs)
    return await stage.database(name)


async def fill(url: str, events: int, jobs: int) -> None:
    """Migrate a new database and load a history into it, all over an hour ago."""
    await migrate(url)
    cohorts = plan(events, jobs, datetime.now(UTC) - timedelta(hours=1))
    connection = await asyncpg.connect(url)
    try:
        for _ in range(0, events, PARTITION_EVENTS):
            await connection.execute("select add_log_partition($1)", PARTITION_EVENTS)
        await _load_all(url, cohorts)
        await _end(connection, cohorts[-1])
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


async def _load_all(url: str, cohorts: Sequence[Cohort]) -> None:
    loop = asyncio.get_running_loop()
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit this loop
    with ProcessPoolExecutor(min(len(ALL), len(cohorts)), mp_context=fresh) as pool:
        loads = [loop.run_in_executor(pool, load, url, cohort) for cohort in cohorts]
        await asyncio.gather(*loads)


def load(url: str, cohort: Cohort) -> None:
    """Make a cohort and load it, in a process of its own."""
    gc.disable()  # almost everything that is made stays until the process ends
    asyncio.run(_copy(url, make(cohort)))


async def _copy(url: str, batch: Batch) -> None:
    records, jobs = batch.records, list(batch.changed.values())
    columns = job_columns([job.state for job in jobs], [job.hash for job in jobs])
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await _copy_to(connection, "events", zip(*event_columns(records), strict=True))
            await _copy_to(connection, "event_ids", map(_id_row, records), EVENT_IDS)
            await _copy_to(connection, "jobs", zip(*columns, strict=True), JOBS)
            await _copy_to(connection, "job_spans", _span_rows(batch.spans), SPANS)
    finally:
        await connection.close()


async def _copy_to(
    connection: Connection, table: str, rows: Any, columns: Sequence[str] | None = None
) -> None:
    await connection.copy_records_to_table(table, records=rows, columns=columns)


async def _end(connection: Connection, last: Cohort) -> None:
    """Let the log end behind the last cohort."""
    await connection.execute(
        sql("end_history"),
        last.position + last.events,
        last.job_id + len(last.lengths),
        orjson.dumps(last.after()).decode(),
    )


def _id_row(record: Record) -> tuple[Any, ...]:
    return (
        record.job_id,
        record.event_id,
        record.position,
        record.version,
        record.attempt,
        record.seq,
    )


def _span_rows(spans: Sequence[Span]) -> Iterator[tuple[Any, ...]]:
    *columns, counts = span_columns(spans)
    return zip(*columns, [orjson.dumps(each).decode() for each in counts], strict=True)
