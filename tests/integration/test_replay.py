"""`epochlog replay`: projections made again beside the live ones, and switched in under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from service import rebuilding
from service.errors import SettingsError, StoreUnavailableError
from service.postgres import REPLAY_LOCK
from service.rebuilding import check, rebuild
from tests.command_line import epochlog, started
from tests.conftest import SECRET_KEY, StartService
from tests.http import Api
from tests.ledger import check_ledger
from tests.polling import eventually

CATALOG = """
    select c.relname, c.relkind, c.relowner::regrole::text as owner, c.relacl::text as acl,
        c.reloptions, obj_description(c.oid, 'pg_class') as comment,
        case when c.relkind = 'i' then pg_get_indexdef(c.oid) end as index,
        (select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                || coalesce(' ' || col_description(c.oid, a.attnum), '') order by a.attnum)
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0) as columns,
        (select array_agg(k.conname || ' ' || pg_get_constraintdef(k.oid) order by k.conname)
            from pg_constraint k where k.conrelid = c.oid) as constraints
    from pg_class c
    where c.relnamespace = 'public'::regnamespace
    order by c.relname
"""


@pytest_asyncio.fixture
async def owner(database: str) -> AsyncIterator[Any]:
    """The database's owner, who may look at and spoil everything."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def environ(database: str, tmp_path: Any) -> dict[str, str]:
    return {
        "EPOCHLOG_DATABASE_URL": database,
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_STATE_DIR": str(tmp_path / "replay"),
    }


async def some_history(api: Api) -> None:
    """A job that succeeds, one that is retried, one that is cancelled, one that goes on."""
    for ending in (
        {"status": "succeeded", "metrics": {"mAP50": 0.5}},
        {"status": "failed", "error": {"code": "oom", "message": "Too much.", "retryable": True}},
    ):
        job = await api.create_job(labels={"team": "a"})
        for epoch in range(1, 4):
            await api.call_back(job, "heartbeat", {"epoch": epoch, "seq": epoch})
        await api.call_back(job, "done", ending)
        await api.call_back(job, "heartbeat", {"epoch": 9})
    job = await api.create_job()
    await api.post(f"/v1/jobs/{job['id']}/cancel")
    await api.call_back(
        await api.create_job(), "event", {"type": "epoch_end", "data": {"epoch": 1}}
    )


async def test_a_check_of_what_a_service_wrote_finds_and_changes_nothing(
    api: Api, owner: Any, environ: dict[str, str]
) -> None:
    await some_history(api)
    before = await owner.fetch(CATALOG)

    ran = await epochlog("replay", "--check", "--json", environ=environ)

    assert (ran.code, ran.json["equal"], ran.json["switched"]) == (0, True, False)
    assert ran.json["rows"]["jobs"] == 4
    events = await owner.fetchval("select count(*) from events")
    assert ran.json["rows"]["event_ids"] == events
    assert ran.json["differing"] == {"jobs": 0, "job_spans": 0, "event_ids": 0, "log_head": 0}
    assert await owner.fetch(CATALOG) == before
    assert await owner.fetchval("select generation from log_head") == 1


SPOILED = {
    "a field of a state": (
        "update jobs set state = jsonb_set(state, '{retry_count}', '7') where id = 1",
        ("jobs", "1", "state.retry_count", 7, 0),
    ),
    "a job that is not there": (
        "delete from jobs where id = 2",
        ("jobs", "2", "", "no such row", "a row"),
    ),
    "a span": (
        "update job_spans set status = 'failed' where position = 1",
        ("job_spans", "1", "status", "failed", "pending"),
    ),
    "a count": (
        """update log_head set counts = counts || '{"succeeded": 5}'""",
        ("log_head", "counts", "succeeded", 5, 1),
    ),
    "an event id": (
        "update event_ids set seq = 99 where position = 2",
        ("event_ids", None, "seq", 99, 1),
    ),
}


@pytest.mark.parametrize("what", SPOILED)
async def test_what_was_spoiled_is_named_by_a_check_and_mended_by_a_replay(
    api: Api, owner: Any, environ: dict[str, str], what: str
) -> None:
    await some_history(api)
    spoil, (table, row, field, live, made) = SPOILED[what]
    await owner.execute(spoil)

    found = await epochlog("replay", "--check", "--json", environ=environ)
    mended = await epochlog("replay", environ=environ)
    again = await epochlog("replay", "--check", environ=environ)

    assert found.code == 1
    assert found.json["differing"][table] == 1
    [first] = found.json["first"]
    assert row in {first["row"], None}
    assert (first["table"], first["field"], first["live"], first["rebuilt"]) == (
        (table, field, live, made)
    )
    assert (mended.code, "1 differ" in mended.out, "switched in" in mended.out) == (0, True, True)
    assert (again.code, again.err) == (0, "")
    await check_ledger(environ["EPOCHLOG_DATABASE_URL"])


async def test_a_switch_keeps_owner_grants_indexes_constraints_and_comments(
    api: Api, owner: Any, database: str
) -> None:
    await some_history(api)
    await owner.execute("grant select (status) on jobs to pg_monitor")
    before = await owner.fetch(CATALOG)
    versions = await owner.fetch("select name, version from projections order by name")

    await rebuild(database)

    assert await owner.fetch(CATALOG) == before
    assert await owner.fetchval("select generation from log_head") == 2
    assert await owner.fetch("select name, version from projections order by name") == versions
    await some_history(api)  # the service's role can do all that it could
    assert (await check(database)).is_clean


async def test_a_service_writes_and_reads_on_while_its_projections_are_switched(
    start_service: StartService, database: str, environ: dict[str, str]
) -> None:
    api = await start_service()
    jobs = [await api.create_job(epochs=100) for _ in range(8)]
    ended = asyncio.Event()
    acknowledged: list[tuple[int, int]] = []

    async def train(job: Any) -> None:
        seq = 0
        while not ended.is_set():
            beats = [{"kind": "heartbeat", "epoch": 1, "seq": seq + n} for n in range(1, 21)]
            answer = await api.call_back(job, "callbacks", {"callbacks": beats})
            assert answer.status == 200, answer.text
            acknowledged.extend((job["id"], one["position"]) for one in answer.json["results"])
            seq += 20
        assert (await api.call_back(job, "done", {"status": "succeeded"})).status == 200

    async def look() -> None:
        while not ended.is_set():
            for path in ("/v1/jobs", "/v1/jobs/1", "/v1/fleet", "/v1/jobs/2/explain"):
                answer = await api.get(path)
                assert answer.status == 200, answer.text
            made = await api.create_job()
            assert (await api.post(f"/v1/jobs/{made['id']}/cancel")).status == 202

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(train(job))
        group.create_task(look())
        for _ in range(3):
            ran = await epochlog("replay", "--json", environ=environ)
            assert (ran.code, ran.json["equal"]) == (0, True), ran
        ended.set()

    records = {(record.job_id, record.position) for record in await check_ledger(database)}
    assert set(acknowledged) <= records
    assert len(set(acknowledged)) == len(acknowledged)
    assert (await check(database)).is_clean
    rows = await api.select("select generation from log_head")
    assert rows[0]["generation"] == 4


async def test_a_replay_that_is_killed_leaves_everything_as_it_was(
    api: Api, owner: Any, database: str, environ: dict[str, str]
) -> None:
    await some_history(api)
    live = await owner.fetch("select * from jobs order by id")
    reader = await asyncpg.connect(database)
    async with reader.transaction():
        await reader.execute("select count(*) from jobs")  # keeps the switch waiting
        async with started("replay", environ=environ) as process:
            waits = (
                "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and not granted"
            )
            await eventually(lambda: owner.fetchval(waits), within=30)
            process.kill()
            await process.wait()
    await reader.close()
    left = "select count(*) from pg_class where relname like '%\\_rebuilt'"
    assert await owner.fetchval(left) > 0

    assert await owner.fetch("select * from jobs order by id") == live
    assert (await check(database)).is_clean
    found = await eventually(lambda: rebuild_once_unlocked(database), within=30)
    assert found.is_clean
    assert await owner.fetchval(left) == 0


async def rebuild_once_unlocked(database: str) -> Any:
    """The killed one's session, and with it its lock, may end a moment after the process."""
    try:
        return await rebuild(database)
    except StoreUnavailableError:
        return None


async def test_a_switch_waits_for_a_reader_and_keeps_nobody_waiting_for_long(
    api: Api, database: str
) -> None:
    await some_history(api)
    reader = await asyncpg.connect(database)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("select count(*) from jobs")

    replaying = asyncio.create_task(rebuild(database))
    job = await api.create_job()
    for seq in range(1, 40):
        answer = await asyncio.wait_for(api.call_back(job, "heartbeat", {"seq": seq}), 5)
        assert answer.status == 200
        await asyncio.sleep(0.05)  # long enough for several tries
    assert not replaying.done()
    await transaction.rollback()
    await reader.close()

    assert (await replaying).is_clean
    await check_ledger(database)


async def test_only_one_replay_works_on_a_log_at_a_time(
    api: Api, owner: Any, database: str
) -> None:
    await some_history(api)
    await owner.execute("select pg_advisory_lock($1)", REPLAY_LOCK)

    with pytest.raises(StoreUnavailableError, match="Another replay"):
        await rebuild(database)


async def test_more_jobs_than_are_kept_in_memory_are_rebuilt_all_the_same(
    api: Api, owner: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "MOST_JOBS", 3)
    monkeypatch.setattr(rebuilding, "PAGE", 7)
    monkeypatch.setattr(rebuilding, "NEAR", 5)
    jobs = [await api.create_job() for _ in range(12)]
    for epoch in range(1, 4):
        for job in jobs:
            await api.call_back(job, "heartbeat", {"epoch": epoch})

    assert (await check(database)).is_clean
    await owner.execute("update jobs set state = '{}', pulse = '{}'")
    assert not (await rebuild(database)).is_clean
    await check_ledger(database)


async def test_what_a_replay_would_lose_stops_it_before_the_switch(
    api: Api, owner: Any, database: str
) -> None:
    await some_history(api)
    await owner.execute(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end'"
    )
    await owner.execute(
        "create trigger theirs before insert on jobs for each row execute function nothing()"
    )

    with pytest.raises(asyncpg.RaiseError, match="triggers"):
        await rebuild(database)

    assert (
        await owner.fetchval("select count(*) from pg_class where relname like '%\\_rebuilt'") == 0
    )
    assert (await check(database)).is_clean


async def test_whoever_does_not_own_the_tables_is_told_so(
    api: Api, owner: Any, database: str, environ: dict[str, str]
) -> None:
    await some_history(api)
    await owner.execute("create role only_serves login in role epochlog_service")
    url = database.replace("//epochlog@", "//only_serves@", 1)
    try:
        with pytest.raises(SettingsError, match="the user that ran `epochlog migrate`"):
            await rebuild(url)
        assert (await check(url)).is_clean  # to look, no more is needed than to serve
        ran = await epochlog("replay", environ={**environ, "EPOCHLOG_DATABASE_URL": url})
        assert ran.failed_with("EPOCHLOG_DATABASE_URL needs the user that ran")
    finally:
        await owner.execute("drop role only_serves")


# Projections of an older version


async def test_migrate_makes_the_projections_of_an_older_version_again(
    api: Api, owner: Any, environ: dict[str, str]
) -> None:
    await some_history(api)
    await owner.execute("update projections set version = 0")
    await owner.execute("delete from job_spans")

    ran = await epochlog("migrate", environ=environ)
    again = await epochlog("migrate", environ=environ)

    assert (ran.code, ran.out) == (0, "rebuilt the projections from the log\n")
    assert again.out == "The schema is up to date.\n"
    assert (await check(environ["EPOCHLOG_DATABASE_URL"])).is_clean


async def test_a_service_refuses_projections_of_an_older_version(
    start_service: StartService, owner: Any, tmp_path: Any
) -> None:
    await some_history(await start_service())
    await owner.execute("update projections set version = 0")

    with pytest.raises(SettingsError, match="run `epochlog migrate`, which makes them again"):
        await start_service(EPOCHLOG_STATE_DIR=str(tmp_path / "older"))


async def test_a_service_goes_on_with_projections_of_a_newer_version(
    start_service: StartService, owner: Any, tmp_path: Any
) -> None:
    await owner.execute("update projections set version = version + 1")

    api = await start_service(EPOCHLOG_STATE_DIR=str(tmp_path / "older"))

    await some_history(api)


async def test_a_database_without_our_schema_is_told_to_migrate(
    empty_database: str, environ: dict[str, str]
) -> None:
    there = {**environ, "EPOCHLOG_DATABASE_URL": empty_database}
    for words in (["replay"], ["replay", "--check"], ["replay", "--heartbeat-timeout", "9"]):
        ran = await epochlog(*words, environ=there)
        assert ran.failed_with("run `epochlog migrate`")


async def test_whoever_reads_several_things_as_of_one_moment_never_sees_half_a_switch(
    api: Api, owner: Any, database: str
) -> None:
    await some_history(api)
    switch = owner.transaction()
    await switch.start()
    await owner.execute("lock table jobs, job_spans, event_ids in access exclusive mode")

    async def look() -> tuple[int, int]:
        async with (
            api.service.instance.database.session() as session,
            session.transaction(isolation="repeatable_read"),
        ):
            head = await session.value("log_position")
            job = await session.row("get_job", 1)
            assert job is not None
            return head, job["state"]["position"]

    looking = asyncio.create_task(look())
    waits = "select count(*) from pg_locks where mode = 'AccessShareLock' and not granted"
    other = await asyncpg.connect(database)
    await eventually(lambda: other.fetchval(waits))
    await other.close()
    await owner.execute("update log_head set position = 1000")
    await owner.execute("update jobs set pulse = pulse || '{\"position\": 1000}' where id = 1")
    await switch.commit()

    assert await looking == (1000, 1000)
