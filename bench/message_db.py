"""message-db on the same PostgreSQL: its `write_message` through asyncpg.

Its SQL comes from its npm package, which is fetched when the part begins; without npm, or without
a registry, there is no figure.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tarfile
import time
import uuid
from pathlib import Path

import asyncpg

from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import ALL
from bench.floors import SAID
from bench.load import quantile
from bench.process import output_of
from bench.stage import Connection, Stage

PACKAGE = "@eventide/message-db@1.3.1"
CONNECTIONS = 32
# Not extensions/pgcrypto.sql: it is there for gen_random_uuid, which PostgreSQL has by itself now.
FIRST = ("schema/message-store.sql", "tables/messages.sql")
SCRIPTS = ("install-functions.sh", "install-indexes.sh")
WRITE = "select write_message($1, $2, 'heartbeat', $3::jsonb)"


async def _open(stage: Stage) -> Measure:
    folder = await _fetched(stage.folder)
    url = await stage.database()
    connections = [await _connect(stage, url)]
    for step in _steps(folder):
        await connections[0].execute(step.read_text(encoding="utf-8"))
    connections += [await _connect(stage, url) for _ in range(CONNECTIONS - 1)]

    async def measure() -> Measured:
        await _write_for(connections, stage.pace.warm_up)
        taken = sorted(await _write_for(connections, stage.pace.seconds))
        return Measured(
            len(taken) / stage.pace.seconds,
            quantile(taken, 0.50) * 1000,
            quantile(taken, 0.99) * 1000,
        )

    return measure


async def _fetched(folder: Path) -> Path:
    """Return the folder with the package's SQL."""
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError("message-db's SQL is an npm package, and there is no npm here.")
    await output_of(npm, "pack", PACKAGE, "--silent", cores=ALL, folder=folder)
    return _unpacked(folder)


def _unpacked(folder: Path) -> Path:
    for archive in folder.glob("eventide-message-db-*.tgz"):
        with tarfile.open(archive) as package:
            package.extractall(folder / "message-db", filter="data")
    return folder / "message-db" / "package" / "database"


def _steps(folder: Path) -> list[Path]:
    """Return what its own install script runs, in its order; views and privileges left out."""
    named = [
        name
        for script in SCRIPTS
        for name in re.findall(r"\$base/(\S+\.sql)", (folder / script).read_text(encoding="utf-8"))
    ]
    return [folder / name for name in (*FIRST, *named)]


async def _connect(stage: Stage, url: str) -> Connection:
    settings = {"search_path": "message_store, public"}
    connection = await asyncpg.connect(url, server_settings=settings)
    stage.stack.push_async_callback(connection.close)
    return connection


async def _write_for(connections: list[Connection], seconds: float) -> list[float]:
    """Write on every connection, each to its own job's stream; return how long each took."""
    end = time.perf_counter() + seconds
    taken: list[float] = []

    async def write(connection: Connection, stream: str) -> None:
        while (start := time.perf_counter()) < end:
            await connection.execute(WRITE, str(uuid.uuid4()), stream, SAID)
            taken.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as tasks:
        for number, connection in enumerate(connections, start=1):
            tasks.create_task(write(connection, f"job-{number}"))
    return taken


WRITE_MESSAGE = Contender(f"message-db write_message, {CONNECTIONS} connections", "events/s", _open)
