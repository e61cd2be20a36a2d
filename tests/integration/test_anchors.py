"""Anchors as a service writes them: into the database, and into a file outside of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from projections.anchors import AnchorKeys
from service.anchors import Anchoring, AnchorsFile
from service.postgres import Database
from service.serving import serving
from service.settings import Settings
from tests.conftest import SECRET_KEY, StartService
from tests.http import Api
from tests.polling import eventually
from tests.tampering import Superuser

KEYS = AnchorKeys(SECRET_KEY)


def settings_for(database: str, state: Path, **more: str) -> Settings:
    return Settings.from_env(
        {
            "EPOCHLOG_STATE_DIR": str(state),
            "EPOCHLOG_DATABASE_URL": database,
            "EPOCHLOG_SECRET_KEY": SECRET_KEY,
            "EPOCHLOG_PORT": "0",
            "EPOCHLOG_EXECUTOR": "external",
            **more,
        }
    )


async def kept(url: str) -> list[Any]:
    """The anchors that the database holds."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select number, line from anchors order by number")
    finally:
        await connection.close()
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["line"] for row in rows]


def copied(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_a_service_anchors_what_changed_and_when_it_stops(
    database: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    async with serving(settings_for(database, state)) as service, Api(service) as api:
        jobs = [await api.create_job() for _ in range(2)]
    async with serving(settings_for(database, state)) as service, Api(service) as api:
        await api.call_back(jobs[1], "heartbeat", {"epoch": 1})
    async with serving(settings_for(database, state)):
        pass  # nothing has changed

    lines = await kept(database)
    anchors = [KEYS.read(line) for line in lines]
    positions = [anchor.position for anchor in anchors]
    connection = await asyncpg.connect(database)
    assert positions[-1] == await connection.fetchval("select max(position) from events")
    await connection.close()
    assert positions == sorted(set(positions))
    assert {head.job_id for anchor in anchors for head in anchor.heads} == {1, 2}
    assert copied(state / "anchors.jsonl") == lines
    assert (state / "anchors.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_service_anchors_as_often_as_it_is_told(start_service: StartService) -> None:
    api = await start_service(EPOCHLOG_ANCHOR_SECONDS="0.05")
    job = await api.create_job()

    async def count() -> int:
        return int((await api.select("select count(*) from anchors"))[0][0])

    async def has_grown(beyond: int) -> bool:
        return await count() > beyond

    await eventually(lambda: has_grown(0))
    before = await count()
    await api.call_back(job, "heartbeat", {"epoch": 1})
    await eventually(lambda: has_grown(before))


async def test_a_service_that_is_told_to_writes_none(database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path, EPOCHLOG_ANCHOR_SECONDS="0")
    async with serving(settings) as service, Api(service) as api:
        await api.create_job()

    assert await kept(database) == []


async def test_two_services_write_each_anchor_once_and_both_keep_a_copy(
    database: str, tmp_path: Path
) -> None:
    states = tmp_path / "one", tmp_path / "other"
    often = {"EPOCHLOG_ANCHOR_SECONDS": "0.02"}
    one, other = (serving(settings_for(database, state, **often)) for state in states)
    async with one as service, other, Api(service) as api:
        job = await api.create_job()
        for epoch in range(1, 20):
            await api.call_back(job, "heartbeat", {"epoch": epoch})
            await asyncio.sleep(0)

    lines = await kept(database)
    anchors = [KEYS.read(line) for line in lines]
    positions = [anchor.position for anchor in anchors]
    assert positions == sorted(set(positions))
    assert copied(states[0] / "anchors.jsonl") == lines
    assert copied(states[1] / "anchors.jsonl") == lines[: len(copied(states[1] / "anchors.jsonl"))]


async def test_a_copy_that_was_half_written_is_mended(api: Api, tmp_path: Path) -> None:
    copy = AnchorsFile(tmp_path / "copy" / "anchors.jsonl")
    anchoring = Anchoring(database=api.service.instance.database, keys=KEYS, file=copy, seconds=300)
    job = await api.create_job()
    await anchoring.anchor()
    await api.call_back(job, "heartbeat", {"epoch": 1})
    with copy.path.open("a") as file:
        file.write('{"heads":[[1,2,"')

    await anchoring.anchor()

    assert copied(copy.path) == await kept(_url(api))


async def test_a_new_copy_begins_with_the_first_anchor(api: Api, tmp_path: Path) -> None:
    database = api.service.instance.database
    job = await api.create_job()
    for number in range(3):
        copy = AnchorsFile(tmp_path / f"{number}.jsonl")
        await Anchoring(database=database, keys=KEYS, file=copy, seconds=300).anchor()
        await api.call_back(job, "heartbeat", {"epoch": number})

    assert copied(tmp_path / "2.jsonl") == await kept(_url(api))


async def test_a_copy_is_left_alone_that_the_database_contradicts(api: Api, tmp_path: Path) -> None:
    database, copy = api.service.instance.database, AnchorsFile(tmp_path / "anchors.jsonl")
    anchoring = Anchoring(database=database, keys=KEYS, file=copy, seconds=300)
    job = await api.create_job()
    await anchoring.anchor()
    await api.call_back(job, "heartbeat", {"epoch": 1})
    await anchoring.anchor()
    evidence = copied(copy.path)
    async with Superuser(_url(api)) as superuser:
        await superuser.run("delete from anchors where number = (select max(number) from anchors)")
    await api.call_back(job, "heartbeat", {"epoch": 2})

    await anchoring.anchor()
    await anchoring.anchor()

    assert copied(copy.path) == evidence


async def test_behind_an_anchor_that_is_not_ours_everything_is_anchored_anew(
    api: Api, tmp_path: Path
) -> None:
    database, copy = api.service.instance.database, AnchorsFile(tmp_path / "anchors.jsonl")
    anchoring = Anchoring(database=database, keys=KEYS, file=copy, seconds=300)
    for _ in range(2):
        await api.create_job()
    await anchoring.anchor()
    forged = json.dumps({**json.loads((await kept(_url(api)))[-1]), "position": 10**6})
    async with Superuser(_url(api)) as superuser:
        await superuser.run(
            "update anchors set line = $1 where number = (select max(number) from anchors)", forged
        )

    await anchoring.anchor()

    last = KEYS.read((await kept(_url(api)))[-1])
    assert {head.job_id for head in last.heads} == {1, 2}


@pytest.mark.parametrize(
    "change",
    [
        "update anchors set line = ''",
        "delete from anchors",
        "delete from anchors where false",
        "truncate anchors",
    ],
)
@pytest.mark.parametrize("user", ["epochlog", "postgres"], ids=["owner", "superuser"])
async def test_nobody_can_change_an_anchor(database: str, change: str, user: str) -> None:
    connection = await asyncpg.connect(database, user=user)
    try:
        await connection.execute("insert into anchors values (1, 'x')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change)
        assert await connection.fetchval("select count(*) from anchors") == 1
    finally:
        await connection.close()


async def test_the_last_line_is_found_however_long_the_lines_are(tmp_path: Path) -> None:
    copy = AnchorsFile(tmp_path / "anchors.jsonl")
    assert copy.last() is None
    lines = ["a" * length for length in (10, 70_000, 200_000, 5)]

    for number, line in enumerate(lines, start=1):
        copy.append([line])
        assert copy.last() == line
        assert list(copy.lines(copy.size())) == lines[:number]
    with copy.path.open("a") as file:
        file.write("b" * 100_000)
    assert copy.last() == lines[-1]
    copy.append(["c"])
    assert list(copy.lines(copy.size())) == [*lines, "c"]


async def test_a_database_that_is_away_ends_nothing(database: str, tmp_path: Path) -> None:
    connected = await Database.connect(database, size=1)
    anchoring = Anchoring(
        database=connected, keys=KEYS, file=AnchorsFile(tmp_path / "x"), seconds=0.01
    )
    async with Superuser(database) as superuser:
        await superuser.run("alter table log_head rename to elsewhere")
        running = asyncio.create_task(anchoring.run())
        await asyncio.wait([running], timeout=0.2)
        assert not running.done()
        await superuser.run("alter table elsewhere rename to log_head")
    running.cancel()
    await asyncio.wait([running])
    await anchoring.conclude()
    await connected.close()


def _url(api: Api) -> str:
    url = api.service.instance.settings.database_url
    assert url is not None
    return url
