"""`epochlog verify` on logs that somebody with every right over the database has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from projections.anchors import AnchorKeys
from projections.findings import Finding
from service.anchors import Anchoring, AnchorsFile
from service.postgres import Database
from service.verifying import Verified, verify
from tests.conftest import SECRET_KEY, StartService
from tests.tampering import Superuser

KEYS = AnchorKeys(SECRET_KEY)

Forge = Callable[[Superuser], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Written:
    """A log of three jobs whose events stand between each other, anchored after each round."""

    url: str
    copy: AnchorsFile
    at: dict[tuple[int, int], int]
    """The position of each version of each job."""
    anchored: list[int]
    """The positions of the anchors."""

    @property
    def end(self) -> int:
        return max(self.at.values())

    async def verify(self, job_id: int | None = None, *, copy: bool = False) -> Verified:
        database = await Database.connect(self.url, size=2)
        try:
            chosen = self.copy if copy else None
            return await verify(database, KEYS, job_id=job_id, copy=chosen)
        finally:
            await database.close()

    async def findings(self, job_id: int | None = None, *, copy: bool = False) -> list[Finding]:
        return (await self.verify(job_id, copy=copy)).audit.findings.in_order()


@pytest_asyncio.fixture
async def written(start_service: StartService, tmp_path: Path) -> Written:
    api = await start_service(EPOCHLOG_ANCHOR_SECONDS="0")
    database = api.service.instance.database
    copy = AnchorsFile(tmp_path / "elsewhere" / "anchors.jsonl")
    anchoring = Anchoring(database=database, keys=KEYS, file=copy, seconds=300)
    jobs = [await api.create_job() for _ in range(3)]
    anchored = []
    for epoch in (1, 2, 3):
        for job in jobs:
            await api.call_back(job, "heartbeat", {"epoch": epoch, "seq": epoch})
        await anchoring.anchor()
        anchored.append((await api.select("select max(position) from events"))[0][0])
    await api.call_back(jobs[0], "done", {"status": "succeeded"})
    await api.call_back(jobs[0], "heartbeat", {"seq": 9})  # set aside: the job is final
    await anchoring.anchor()
    rows = await api.select("select job_id, version, position from events")
    at = {(row["job_id"], row["version"]): row["position"] for row in rows}
    anchored.append(max(at.values()))
    url = api.service.instance.settings.database_url
    assert url is not None
    return Written(url, copy, at, anchored)


def places(findings: list[Finding]) -> list[tuple[str, int | None, int | None, int | None]]:
    return [(one.fault.value, one.job_id, one.version, one.position) for one in findings]


async def test_a_log_that_nobody_touched_is_whole(written: Written) -> None:
    verified = await written.verify(copy=True)

    assert verified.audit.findings.in_order() == []
    assert (verified.audit.events, len(verified.audit.chains)) == (len(written.at), 3)
    assert (verified.anchors, verified.anchored_position) == (4, written.end)
    for job_id in (1, 2, 3):
        assert await written.findings(job_id, copy=True) == []


CHANGES = {
    "data": "data = data || '{\"epoch\": 9}'",
    "data of another kind": "data = data || '{\"epoch\": true}'",
    "recorded_at": "recorded_at = recorded_at - interval '1 microsecond'",
    "occurred_at": "occurred_at = occurred_at + interval '1 hour'",
    "rule": "rule = 'stale_attempt'",
    "type": "type = 'evidence'",
    "source": "source = 'operator'",
    "attempt": "attempt = 2",
    "trace_id": "trace_id = gen_random_uuid()",
    "hash": "hash = sha256('x')",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_changed_event_is_named(written: Written, change: str) -> None:
    place = written.at[2, 3]
    async with Superuser(written.url) as superuser:
        await superuser.run(f"update events set {change} where position = {place}")  # noqa: S608

    found = await written.findings()

    assert places(found)[0] == ("hash_differs", 2, 3, place)
    assert {one.job_id for one in found} == {2}
    assert f"Version 3 of job 2, at position {place}," in found[0].message
    assert places(await written.findings(2)) == places(found)
    assert await written.findings(1) == []


async def test_a_rule_taken_away_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("update events set rule = null where rule = 'job_is_final'")

    assert places(await written.findings()) == [("hash_differs", 1, 7, written.at[1, 7])]


async def test_two_events_that_changed_places_are_named(written: Written) -> None:
    one, other = written.at[2, 3], written.at[2, 4]
    async with Superuser(written.url) as superuser:
        await superuser.run("update events set position = 1000 where position = $1", one)
        await superuser.run("update events set position = $1 where position = $2", one, other)
        await superuser.run("update events set position = $1 where position = 1000", other)

    found = places(await written.findings())
    assert ("version_misplaced", 2, 4, one) in found
    assert found[0][1:] == (2, 4, one)
    assert ("version_misplaced", 2, 3, other) in found


async def test_two_events_that_changed_what_they_say_are_named(written: Written) -> None:
    one, other = written.at[2, 3], written.at[2, 4]
    async with Superuser(written.url) as superuser:
        await superuser.run(
            "update events set data = (select data from events twin where"
            " twin.position = $1 + $2 - events.position) where position in ($1, $2)", one, other,
        )  # fmt: skip

    assert places(await written.findings()) == [
        ("hash_differs", 2, 3, one),
        ("hash_differs", 2, 4, other),
    ]


@pytest.mark.parametrize("with_id", [False, True], ids=["its id left", "its id gone too"])
async def test_a_deleted_event_is_named_and_where_it_stood(written: Written, with_id: bool) -> None:
    place = written.at[3, 3]
    async with Superuser(written.url) as superuser:
        await superuser.run("delete from events where position = $1", place)
        if with_id:
            await superuser.run("delete from event_ids where position = $1", place)

    assert places(await written.findings()) == [("version_missing", 3, 3, place)]
    [alone] = await written.findings(3)
    assert (alone.fault, alone.job_id, alone.version) == ("version_missing", 3, 3)


async def test_several_deleted_events_are_named_each(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run(
            "delete from events where position = any($1)",
            [written.at[1, 2], written.at[1, 3], written.at[2, 3]],
        )

    found = await written.findings()

    assert places(found) == [
        ("version_missing", 1, 2, written.at[1, 2]),
        ("version_missing", 2, 3, written.at[2, 3]),
    ]
    assert "versions 2 to 3 (at position 4, position 7)" in found[0].message


async def test_the_cut_off_tail_of_a_job_is_named(written: Written) -> None:
    first = written.at[2, 4]
    async with Superuser(written.url) as superuser:
        await superuser.run("delete from events where job_id = 2 and version >= 4")

    assert places(await written.findings()) == [("tail_missing", 2, 4, first)]
    assert [(one.fault, one.version) for one in await written.findings(2)] == [("tail_missing", 4)]


async def test_the_tail_is_named_though_the_jobs_row_agrees_with_the_cut(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("delete from events where job_id = 2 and version >= 4")
        await superuser.run(
            "update jobs set version = 3, position = last.position, hash = last.hash"
            " from events last where jobs.id = 2 and last.job_id = 2 and last.version = 3"
        )

    assert places(await written.findings())[0] == ("version_missing", 2, 4, written.at[2, 4])

    async with Superuser(written.url) as superuser:
        await superuser.run("delete from event_ids where job_id = 2 and version >= 4")

    found = await written.findings()
    assert places(found) == [
        ("position_missing", None, None, written.at[2, 4]),
        ("anchored_tail_missing", 2, 4, None),
    ]
    assert places(await written.findings(2)) == [("anchored_tail_missing", 2, 4, None)]


async def test_a_job_that_is_gone_altogether_is_named_by_the_anchors(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        for table, column in (("events", "job_id"), ("event_ids", "job_id"), ("jobs", "id")):
            await superuser.run(f"delete from {table} where {column} = 2")  # noqa: S608

    found = places(await written.findings())

    assert found[0] == ("position_missing", None, None, written.at[2, 1])
    assert found[-1] == ("anchored_tail_missing", 2, 1, None)


async def test_a_log_cut_off_everywhere_is_found_by_the_copy_of_the_anchors(
    written: Written,
) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.end_log_at(written.anchored[1])
        await superuser.run("delete from anchors where number > 2")

    assert await written.findings() == []

    found = await written.findings(copy=True)
    assert ("anchored_tail_missing", None, None, written.anchored[1] + 1) in places(found)
    tails = {(one.job_id, one.version) for one in found if one.fault == "anchored_tail_missing"}
    gone = {job for (job, _), place in written.at.items() if place > written.anchored[1]}
    assert {job for job, _ in tails if job} == gone
    assert {one.anchor for one in found if one.fault == "anchor_missing"} == {3, 4}
    [alone] = [one for one in await written.findings(1, copy=True) if one.job_id]
    assert (alone.fault, alone.version) == ("anchored_tail_missing", dict(tails)[1])


async def test_a_cut_log_is_found_by_the_anchors_in_the_database(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.end_log_at(written.anchored[2])

    found = places(await written.findings())

    assert found[0] == ("anchored_tail_missing", None, None, written.anchored[2] + 1)
    assert {one[1] for one in found} == {None, 1}


async def test_a_chain_that_was_computed_anew_is_found_by_the_anchors_alone(
    written: Written,
) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run(
            "update events set data = data || '{\"epoch\": 9}' where job_id = 3 and version = 3"
        )
        await superuser.chain_anew(3)

    found = await written.findings()

    assert places(found) == [("anchored_head_differs", 3, 3, None)]
    assert found[0].anchor == 2
    assert places(await written.findings(3)) == places(found)

    async with Superuser(written.url) as superuser:
        await superuser.connection.execute("truncate anchors")

    assert await written.findings() == []
    assert ("anchored_head_differs", 3, 3, None) in places(await written.findings(copy=True))


async def test_a_changed_anchor_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run(
            "update anchors set line = regexp_replace(line, '\"position\":[0-9]+',"
            " '\"position\":1') where number = 2"
        )

    found = await written.findings()

    assert [(one.fault, one.anchor) for one in found] == [
        ("anchor_forged", 2),
        ("anchor_differs", 3),
    ]
    assert ("anchor_differs", 2) in [
        (one.fault, one.anchor) for one in await written.findings(copy=True)
    ]


async def test_an_anchor_signed_with_another_key_is_named(written: Written) -> None:
    anchor = KEYS.read(list(written.copy.lines(written.copy.size()))[3])
    forged = AnchorKeys("a key that the attacker made up, long enough").sign(anchor)
    async with Superuser(written.url) as superuser:
        await superuser.run("update anchors set line = $1 where number = 4", forged)

    [found] = await written.findings()
    assert (found.fault, found.anchor) == ("anchor_key_unknown", 4)


async def test_a_deleted_anchor_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("delete from anchors where number = 2")

    [found] = await written.findings()
    assert (found.fault, found.anchor) == ("anchor_missing", 2)


async def test_an_anchor_of_another_log_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("update log_identity set id = gen_random_uuid()")

    assert {one.fault for one in await written.findings()} == {"anchor_of_another_log"}


BESIDE = {
    "a job's version": ("update jobs set version = 2 where id = 2", "job_row_differs"),
    "a job's hash": ("update jobs set hash = sha256('x') where id = 2", "job_row_differs"),
    "where a job begins": ("update jobs set first_position = 9 where id = 2", "job_row_differs"),
    "a job's row": ("delete from jobs where id = 2", "job_row_missing"),
    "an id": ("delete from event_ids where job_id = 2 and version = 2", "event_id_missing"),
    "an id's place": (
        "update event_ids set version = 9 where job_id = 2 and version = 2",
        "event_id_differs",
    ),
    "an id of nothing": (
        "insert into event_ids values (2, gen_random_uuid(), 1, 1, 1, null)",
        "event_id_stray",
    ),
}


@pytest.mark.parametrize(("change", "fault"), BESIDE.values(), ids=BESIDE)
async def test_what_is_kept_beside_the_events_is_held_against_them(
    written: Written, change: str, fault: str
) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run(change)

    for findings in (await written.findings(), await written.findings(2)):
        [found] = findings
        assert (found.fault, found.job_id) == (fault, 2)


@pytest.mark.parametrize(("by", "fault"), [(-1, "log_head_differs"), (1, "position_missing")])
async def test_a_head_that_is_elsewhere_is_named(written: Written, by: int, fault: str) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("update log_head set position = position + $1", by)

    [found] = await written.findings()
    assert (found.fault, found.position) == (fault, written.end + max(by, 0))


async def test_a_head_that_is_gone_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("delete from log_head")

    [found] = await written.findings()
    assert (found.fault, found.position) == ("log_head_differs", 1)


async def test_a_job_row_without_a_hash_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.run("alter table jobs alter hash drop not null")
        await superuser.run("update jobs set hash = null where id = 2")

    [found] = await written.findings()
    assert (found.fault, found.job_id) == ("job_row_differs", 2)


UNHEARD_OF = {
    "a time before all readers'": "occurred_at = '4000-01-01 BC'",
    "no time": "recorded_at = 'infinity'",
    "no object": "data = '[1]'",
    "a source that nobody knows": "source = 'nobody'",
}


@pytest.mark.parametrize("change", UNHEARD_OF.values(), ids=UNHEARD_OF)
async def test_a_row_that_no_build_ever_wrote_is_named(written: Written, change: str) -> None:
    place = written.at[2, 2]
    async with Superuser(written.url) as superuser:
        checks = await superuser.connection.fetch(
            "select conname from pg_constraint where conrelid = 'events'::regclass"
            " and contype = 'c'"
        )
        for check in checks:
            await superuser.run(f"alter table events drop constraint {check['conname']}")
        await superuser.run(f"update events set {change} where position = {place}")  # noqa: S608

    assert places(await written.findings())[0] == ("unreadable", 2, 2, place)


async def test_an_event_that_was_slipped_in_is_named(written: Written) -> None:
    async with Superuser(written.url) as superuser:
        await superuser.connection.execute(
            "create temporary table twin as select * from events where position = $1", written.end
        )
        await superuser.run(
            "update twin set position = position + 1, version = version + 1,"
            " event_id = gen_random_uuid()"
        )
        await superuser.run("insert into events select * from twin")

    found = places(await written.findings())

    assert ("log_head_differs", None, None, written.end + 1) in found
    assert ("hash_differs", 1, 8, written.end + 1) in found


async def test_a_service_goes_on_writing_while_its_log_is_verified(
    start_service: StartService,
) -> None:
    api = await start_service()
    job = await api.create_job()
    batch = [{"kind": "heartbeat", "batch": number} for number in range(500)]
    for _ in range(30):
        await api.call_back(job, "callbacks", {"callbacks": batch})
    told: list[tuple[int, int]] = []
    database = api.service.instance.database

    async def write_on() -> Any:
        return await api.call_back(job, "callbacks", {"callbacks": batch})

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write_on())
        verified = await verify(
            database, KEYS, tell=lambda position, end: told.append((position, end))
        )
    assert writing.result().status == 200
    assert verified.audit.findings.in_order() == []
    assert verified.audit.events >= 15_001
    assert told == sorted(told)
