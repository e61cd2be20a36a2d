"""Bringing a database up to date: twice, at once, and never over an edited past."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from service.errors import SettingsError, StoreUnavailableError
from service.postgres import Database, migrate
from service.statements import migrations
from tests.conftest import StartService, with_database

NAMES = [step.name for step in migrations()]


async def test_migrating_twice_applies_everything_once(empty_database: str) -> None:
    assert await migrate(empty_database) == NAMES
    assert await migrate(empty_database) == []


async def test_migrating_from_several_replicas_at_once_applies_everything_once(
    empty_database: str,
) -> None:
    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(5)))

    assert sorted(applied, key=len) == [[], [], [], [], NAMES]


async def test_an_edited_migration_is_refused(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("update schema_migrations set sha256 = 'x' where name = $1", NAMES[0])
    await connection.close()

    with pytest.raises(SettingsError, match=f"EPOCHLOG_DATABASE_URL.*{NAMES[0]}.*edited"):
        await migrate(database)


async def test_what_a_migration_began_and_did_not_end_is_begun_again(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute("create table jobs (in_the_way int)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrate(empty_database)
    await connection.execute("drop table jobs")
    await connection.close()

    assert await migrate(empty_database) == NAMES[1:]


async def test_a_service_does_not_start_before_the_migrations(
    start_service: StartService, empty_database: str
) -> None:
    with pytest.raises(SettingsError, match="epochlog migrate"):
        await start_service(EPOCHLOG_DATABASE_URL=empty_database)


async def test_a_service_does_not_start_on_half_of_the_migrations(
    start_service: StartService, database: str
) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("delete from schema_migrations where name = $1", NAMES[-1])
    await connection.close()

    with pytest.raises(SettingsError, match="epochlog migrate"):
        await start_service()


async def test_a_database_that_is_not_there_is_told_in_a_sentence(database: str) -> None:
    for attempt in (migrate, Database.connect):
        with pytest.raises(StoreUnavailableError, match="The database cannot be reached"):
            await attempt(with_database(database, "no_such_database"))


async def test_a_user_without_rights_is_told_what_is_missing(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute("create role plain_user login")
    await connection.execute("revoke all on schema public from public")
    await connection.close()

    url = empty_database.replace("//", "//plain_user@", 1).replace("epochlog@", "", 1)
    with pytest.raises(SettingsError, match="EPOCHLOG_DATABASE_URL needs a user"):
        await migrate(url)
