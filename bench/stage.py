"""Where a run takes place: one PostgreSQL server, its databases, and how long a slice lasts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from service import embedded
from service.postgres import migrate

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # generic in its stubs only

CONNECTIONS = "200"
"""More than our own service needs: the contenders of a part are connected at the same time."""
SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a slice lasts, in seconds, and how many rounds there are."""

    seconds: float
    warm_up: float
    rounds: int
    quick: bool

    def scaled(self, events: int) -> int:
        """Return how many events a history of this size has in this run."""
        return events // 10 if self.quick else events


@dataclass(slots=True)
class Stage:
    """The server of a run; what is entered on the stack lives as long as the part."""

    server: str
    folder: Path
    pace: Pace
    stack: AsyncExitStack
    shared: dict[str, Any] = field(default_factory=dict)
    """What contenders of one part share, by name."""
    numbers: count[int] = field(default_factory=lambda: count(1))

    async def database(self, template: str = "template1") -> str:
        """Make a database that lives as long as the part, and return its URL."""
        name = f"bench_{next(self.numbers)}"
        await self.on_server(f"create database {name} template {template}")
        self.stack.push_async_callback(self._drop, name)
        return with_database(self.server, name)

    async def _drop(self, name: str) -> None:
        try:
            await self.on_server(f"drop database {name} with (force)")
        except asyncpg.InsufficientPrivilegeError:
            # An autovacuum works there, which is not ours to end by force; without, it is ended.
            await self.on_server(f"drop database {name}")

    async def on_server(self, command: str) -> None:
        """Run a command that concerns the server as a whole."""
        connection = await asyncpg.connect(self.server)
        try:
            await connection.execute(command)
        finally:
            await connection.close()

    async def migrated(self) -> str:
        """Make a database that holds our empty log and return its URL."""
        url = await self.database()
        await migrate(url)
        return url

    async def connect(self, url: str) -> Connection:
        """Return a connection that lives as long as the part."""
        connection = await asyncpg.connect(url)
        self.stack.push_async_callback(connection.close)
        return connection


def sql(name: str) -> str:
    """Return the text of `bench/sql/{name}.sql`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def with_database(url: str, name: str) -> str:
    """Return the same server's URL for another database."""
    before, _, after = url.partition("?")
    return f"{before.rsplit('/', 1)[0]}/{name}?{after}"


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, Path]]:
    """Run a PostgreSQL server as the service's own, in a fresh folder; its URL and the folder."""
    folder = Path(tempfile.mkdtemp(prefix="epochlog-bench-"))
    embedded.SERVER["max_connections"] = CONNECTIONS
    postgres = embedded.EmbeddedPostgres(folder / "data")
    try:
        yield await postgres.start(), folder
    finally:
        await postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
