"""Real servers for the tests: one embedded PostgreSQL a session, a fresh database a test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest_asyncio

from service.embedded import EmbeddedPostgres
from service.logs import configure_logs
from service.postgres import migrate
from service.serving import serving
from service.settings import Settings
from tests.cluster.cluster import Cluster, running_cluster
from tests.http import Api

configure_logs("WARNING")

pytest_plugins = ["tests.standstill"]

TEMPLATE = "template_migrated"
SECRET_KEY = "a made-up key of the tests, long enough for HS256"

StartService = Callable[..., Awaitable[Api]]


def with_database(url: str, name: str) -> str:
    """Return the same server's URL for another database."""
    before, _, after = url.partition("?")
    return f"{before.rsplit('/', 1)[0]}/{name}?{after}"


@pytest_asyncio.fixture(scope="session")
async def postgres() -> AsyncIterator[str]:
    """A real PostgreSQL with a migrated template database; its URL."""
    # Not pytest's own folder: each pytest that starts closes that one to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="epochlog-tests-"))
    server = EmbeddedPostgres(folder / "data")
    url = await server.start()
    connection = await asyncpg.connect(url)
    await connection.execute(f"create database {TEMPLATE}")
    await migrate(with_database(url, TEMPLATE))
    yield url
    await connection.close()
    await server.stop()
    shutil.rmtree(folder)


@pytest_asyncio.fixture
async def empty_database(postgres: str) -> AsyncIterator[str]:
    """An empty database of this test's own; its URL."""
    async for url in _database(postgres, "template1"):
        yield url


@pytest_asyncio.fixture
async def database(postgres: str) -> AsyncIterator[str]:
    """A migrated database of this test's own; its URL."""
    async for url in _database(postgres, TEMPLATE):
        yield url


async def _database(postgres: str, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"create database {name} template {template}")
        yield with_database(postgres, name)
        try:
            await connection.execute(f"drop database {name} with (force)")
        except asyncpg.InsufficientPrivilegeError:
            # An autovacuum works there, which is not ours to end by force; without, it is ended.
            await connection.execute(f"drop database {name}")
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def start_service(database: str, tmp_path: Path) -> AsyncIterator[StartService]:
    """Start a real service in this process, on a free port, with any settings; its API."""
    async with AsyncExitStack() as stack:

        async def start(**variables: str) -> Api:
            environ = {
                "EPOCHLOG_STATE_DIR": str(tmp_path / "state"),
                "EPOCHLOG_DATABASE_URL": database,
                "EPOCHLOG_SECRET_KEY": SECRET_KEY,
                "EPOCHLOG_PORT": "0",
                "EPOCHLOG_EXECUTOR": "external",
                **variables,
            }
            settings = Settings.from_env(environ)
            service = await stack.enter_async_context(serving(settings))
            return await stack.enter_async_context(Api(service))

        yield start
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def api(start_service: StartService) -> Api:
    """A service with executor `external` and the default settings."""
    return await start_service()


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A Kubernetes cluster of this test's own, served over HTTP."""
    async with running_cluster() as cluster:
        yield cluster
