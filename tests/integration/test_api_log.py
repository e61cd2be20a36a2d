"""The log itself: append only, chained, without gaps, and the jobs are what it says."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.http import Api
from tests.ledger import check_ledger, ledger

CHANGES = (
    "update events set type = 'done' where position = 1",
    "update events set type = 'done' where false",
    "delete from events where position = 1",
    "delete from events where false",
    "truncate events",
    "truncate events cascade",
    "insert into events table events on conflict (position) do update set type = 'done'",
    "merge into events e using jobs j on e.position = j.position when matched then delete",
)
ESCAPES = (
    "alter table events disable trigger all",
    "drop table events",
    "drop trigger events_are_immutable on events",
    "create or replace function refuse_change() returns trigger language sql as 'select null'",
    "drop function refuse_change() cascade",
    "create table mine (a int)",
    "delete from jobs",
    "truncate jobs",
    "delete from api_tokens",
    "update schema_migrations set sha256 = ''",
)
# A table that another refers to is not emptied alone, trigger or not.
REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)


@pytest_asyncio.fixture
async def written(api: Api) -> Api:
    """A service whose log holds a bit of everything."""
    succeeded = await api.create_job(
        params={"n": [1.0, 1e22, 1.2345678901234567e19, -0.0, "ü\u2028"]}
    )
    await api.call_back(succeeded, "heartbeat", {"epoch": 1, "metrics": {"loss": 1e-300}, "seq": 1})
    await api.call_back(succeeded, "event", {"type": "x", "data": {"deep": [{"a": [None, True]}]}})
    await api.call_back(succeeded, "done", {"status": "succeeded"})
    await api.call_back(succeeded, "heartbeat", {"late": "yes"})
    cancelled = await api.create_job()
    await api.post(f"/v1/jobs/{cancelled['id']}/cancel", {"reason": "x"})
    retried = await api.create_job()
    early = {"epoch": 1, "occurred_at": "1000-01-01T00:00:00Z"}
    await api.call_back(retried, "heartbeat", early)
    await api.call_back(
        retried, "done", {"status": "failed", "occurred_at": "9999-12-31T23:59:59Z"}
    )
    await api.post(f"/v1/jobs/{retried['id']}/token")
    await api.call_back(retried, "heartbeat", {"from": "attempt 1"})
    return api


def _url(api: Api) -> str:
    url = api.service.instance.settings.database_url
    assert url is not None
    return url


async def test_the_log_holds_what_must_always_hold(written: Api) -> None:
    records = await check_ledger(_url(written))

    assert {record.type for record in records} >= {
        "created", "heartbeat", "trainer_event", "done", "succeeded", "cancel_requested",
        "cancelled", "attempt_failed", "retry_scheduled", "token_issued",
    }  # fmt: skip
    assert {record.rule for record in records} == {None, "job_is_final", "stale_attempt"}


NUMBERS = (
    1.2345678901234567e19, 1e19, 1e22, 1e23, 1e300, 1.7976931348623157e308, 5e-324, 1e-300, -0.0,
    2**53 + 1, 2**63 - 1, 2**63 + 1, 2**64 - 1, 2**64, 10**30, -(2**63), -(2**63) - 1, 0.1, 1 / 3,
)  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
async def test_any_number_keeps_the_log_whole(shared_api: Api, number: float) -> None:
    job = await shared_api.create_job(params={"n": number})
    await shared_api.call_back(job, "heartbeat", {"metrics": {"n": number}, "gpu": {"n": [number]}})
    epoch = {"epoch": 1, "metrics": {"n": number}, "seconds": number}
    await shared_api.call_back(job, "event", {"type": "epoch_end", "data": epoch})
    await shared_api.call_back(job, "done", {"status": "succeeded", "metrics": {"m": number}})

    await check_ledger(_url(shared_api), job["id"])
    shown = (await shared_api.get(f"/v1/jobs/{job['id']}")).json
    assert float(shown["params"]["n"]) == float(number)
    kept = (await shared_api.events(job, "done"))[0]["data"]["metrics"]["m"]
    assert float(kept) == float(number)


async def test_the_api_shows_the_log_as_it_is(written: Api) -> None:
    log = (await ledger(_url(written))).entries

    for job_id in (1, 2, 3):
        shown = await written.events({"id": job_id})
        own = [entry for entry in log if entry.record.job_id == job_id]
        assert [event["data"] for event in shown] == [entry.data for entry in own]
        assert [event["hash"] for event in shown] == [entry.record.hash for entry in own]
        assert [event["position"] for event in shown] == [entry.record.position for entry in own]


@pytest.mark.parametrize("who", ["service", "owner", "superuser", "superuser as a replica"])
async def test_nobody_can_change_what_was_recorded(written: Api, who: str) -> None:
    before = (await ledger(_url(written))).entries
    connection = await _connect_as(who, _url(written))
    try:
        for change in CHANGES:
            with pytest.raises(REFUSED):
                await connection.execute(change)
    finally:
        await connection.close()

    after = (await ledger(_url(written))).entries
    assert after[: len(before)] == before


async def _connect_as(who: str, url: str) -> Any:
    user = "postgres" if who.startswith("superuser") else None
    connection = await asyncpg.connect(url, user=user)
    owner = await connection.fetchval("select tableowner from pg_tables where tablename = 'events'")
    is_super = await connection.fetchval("select rolsuper from pg_roles where rolname = user")
    assert (await connection.fetchval("select user") == owner, is_super) == (not user, bool(user))
    if who == "service":
        await connection.execute("set role epochlog_service")
    elif who == "superuser as a replica":
        await connection.execute("set session_replication_role = replica")
    return connection


async def test_the_services_role_cannot_free_itself(shared_api: Api) -> None:
    connection = await _connect_as("service", _url(shared_api))
    try:
        for statement in ESCAPES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_service_works_in_its_narrow_role(shared_api: Api) -> None:
    rows = await shared_api.select(
        "select rolsuper, rolcreaterole, rolcanlogin, rolbypassrls from pg_roles"
        " where rolname = 'epochlog_service'"
    )

    assert [tuple(row) for row in rows] == [(False, False, False, False)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("position = 999, version = 1", "one_version"),
        ("version = 999, event_id = gen_random_uuid()", "pkey"),
    ],
    ids=["version", "position"],
)
async def test_no_place_in_the_log_is_given_twice(written: Api, change: str, message: str) -> None:
    connection = await asyncpg.connect(_url(written))
    try:
        await connection.execute("create temporary table twin as select * from events limit 1")
        await connection.execute(f"update twin set {change}")  # noqa: S608 - our own text
        with pytest.raises(asyncpg.UniqueViolationError, match=message):
            await connection.execute("insert into events select * from twin")
    finally:
        await connection.close()
