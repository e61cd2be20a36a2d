"""A service that many tests share: those that leave nothing behind which another could see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from service.serving import serving
from service.settings import Settings
from tests.cluster.clients import Kube, kube_of
from tests.cluster.cluster import Cluster
from tests.conftest import SECRET_KEY, TEMPLATE, with_database
from tests.http import Api

SHARED = "test_shared"


@pytest_asyncio.fixture(scope="session")
async def shared_api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One service with executor `external` for all tests of a session."""
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"create database {SHARED} template {TEMPLATE}")
    await connection.close()
    settings = Settings.from_env(
        {
            "EPOCHLOG_STATE_DIR": str(tmp_path_factory.mktemp("shared") / "state"),
            "EPOCHLOG_DATABASE_URL": with_database(postgres, SHARED),
            "EPOCHLOG_SECRET_KEY": SECRET_KEY,
            "EPOCHLOG_PORT": "0",
            "EPOCHLOG_EXECUTOR": "external",
        }
    )
    async with serving(settings) as service, Api(service) as api:
        yield api


@pytest_asyncio.fixture
async def still_api(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A service that writes nothing by itself: each event is of the test's own making."""
    settings = Settings.from_env(
        {
            "EPOCHLOG_STATE_DIR": str(tmp_path / "state"),
            "EPOCHLOG_DATABASE_URL": database,
            "EPOCHLOG_SECRET_KEY": SECRET_KEY,
            "EPOCHLOG_EXECUTOR": "external",
        }
    )
    async with serving(settings, drive=False) as service, Api(service) as api:
        yield api


@pytest_asyncio.fixture
async def kube(cluster: Cluster) -> AsyncIterator[Kube]:
    """The cluster's administrator's client."""
    async with kube_of(cluster) as kube:
        yield kube
