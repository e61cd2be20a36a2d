"""What was compacted can be verified and replayed, and nobody gets anything else out of the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from projections.anchors import AnchorKeys
from service import rebuilding
from service.anchors import Anchoring, AnchorsFile
from service.postgres import Database
from service.verifying import Verified, verify
from tests.conftest import SECRET_KEY, StartService
from tests.growth import EVENTS_A_RANGE, SEAL, compacted, restored, rows, trained
from tests.http import Api
from tests.tampering import Superuser

KEYS = AnchorKeys(SECRET_KEY)


@pytest_asyncio.fixture
async def slim(start_service: StartService, tmp_path: Path) -> Api:
    """A log of three compacted ranges, anchored before and after; two jobs ended, one runs."""
    api = await start_service(
        EPOCHLOG_PARTITION_EVENTS=str(EVENTS_A_RANGE), EPOCHLOG_ANCHOR_SECONDS="0"
    )
    anchoring = Anchoring(
        database=api.service.instance.database,
        keys=KEYS,
        file=AnchorsFile(tmp_path / "anchors.jsonl"),
        seconds=300,
    )
    for ends in ("succeeded", "failed", None):
        await trained(api, ends=ends)
        await anchoring.anchor()
    assert len(await compacted(api)) == 3
    await anchoring.anchor()
    return api


def url_of(api: Api) -> str:
    url = api.service.instance.settings.database_url
    assert url is not None
    return url


async def verified(api: Api, job_id: int | None = None) -> Verified:
    database = await Database.connect(url_of(api), size=2)
    try:
        return await verify(database, KEYS, seal=SEAL, job_id=job_id)
    finally:
        await database.close()


async def faults(api: Api, job_id: int | None = None) -> list[tuple[str, int | None]]:
    found = (await verified(api, job_id)).audit.findings.in_order()
    return [(one.fault.value, one.position) for one in found]


async def tampered(api: Api, *statements: str) -> None:
    """Change the log behind the triggers' back."""
    async with Superuser(url_of(api)) as somebody:
        await somebody.connection.execute("alter table log_archives disable trigger all")
        for statement in statements:
            await somebody.connection.execute(statement)


async def test_a_compacted_log_verifies(slim: Api) -> None:
    whole = await verified(slim)

    assert whole.audit.findings.in_order() == []
    assert whole.audit.rolled_up > 50
    assert whole.anchored_position == whole.audit.position
    for job_id in (1, 2, 3):
        assert await faults(slim, job_id) == []


async def test_a_restored_log_verifies(slim: Api) -> None:
    await restored(slim, "51-100")
    assert await faults(slim) == []
    await restored(slim)

    whole = await verified(slim)

    assert whole.audit.findings.in_order() == []
    assert whole.audit.rolled_up == 0


@pytest.mark.parametrize("job_id", [None, 1])
async def test_a_changed_roll_up_is_found(slim: Api, job_id: int | None) -> None:
    await tampered(
        slim,
        "update events set data = jsonb_set(data, '{metrics,loss}', '0.001')"
        " where position = (select min(position) from events where type = 'heartbeats')",
    )

    assert await faults(slim, job_id) == [("roll_ups_changed", 1)]


async def test_a_roll_up_where_nothing_was_archived_is_found(slim: Api) -> None:
    await tampered(
        slim,
        "create temporary table run as select * from events where job_id = 3 and position > 150"
        " and type = 'heartbeat' order by position limit 5",
        "delete from events where position in (select position from run)"
        " and position < (select max(position) from run)",
        "update events set type = 'heartbeats', data = jsonb_build_object('count', 5,"
        " 'from_version', (select min(version) from run),"
        " 'from_position', (select min(position) from run))"
        " where position = (select max(position) from run)",
    )

    assert "roll_up_wrong" in [fault for fault, _ in await faults(slim)]


async def test_a_registration_that_was_forged_is_found(slim: Api) -> None:
    await tampered(slim, "update log_archives set digest = sha256('x') where first_position = 51")

    assert await faults(slim) == [("archive_forged", 51), ("roll_ups_changed", 51)]


async def test_a_replay_over_compacted_ranges_makes_what_is_stored(slim: Api) -> None:
    assert (await rebuilding.check(url_of(slim))).first == []
    ids = await slim.select("select * from event_ids order by job_id, event_id")

    found = await rebuilding.rebuild(url_of(slim))

    assert found.first == []
    assert await slim.select("select * from event_ids order by job_id, event_id") == ids
    assert await faults(slim) == []


# What the service's role can do with it

REFUSED = (
    "update events set type = 'done' where position = 10",
    "delete from events where position = 10",
    "truncate events",
    "update events_from_1 set type = 'done' where position = 10",
    "delete from events_from_1",
    "truncate events_from_1",
    "drop table events_from_1",
    "alter table events detach partition events_from_1",
    "insert into log_archives (first_position) values (1)",
    "update log_archives set state = 'full'",
    "delete from log_archives",
    "truncate log_archives",
    "update log_partitions set end_position = 3",
    "select put_log_draft_in_place(part) from log_partitions part",
    "select keep_in_log_draft('events_from_1', 'false')",
    "select open_log_draft(); update log_draft set type = 'done'",
    "select open_log_draft(); delete from log_draft",
    "select open_log_draft(); drop table log_draft",
    (
        "create temporary table log_partitions (a int); select open_log_draft();"
        " select slim_log_partition(1, '{}', sha256(''), '{}', sha256(''));"
        " drop table events_from_1"
    ),
)


@pytest_asyncio.fixture
async def service_role(slim: Api) -> Any:
    connection = await asyncpg.connect(url_of(slim))
    await connection.execute("set role epochlog_service")
    yield connection
    await connection.close()


@pytest.mark.parametrize("statement", REFUSED)
async def test_the_services_role_changes_nothing(
    slim: Api, service_role: Any, statement: str
) -> None:
    before = await rows(slim)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service_role.execute(statement)

    assert await rows(slim) == before


@pytest.mark.parametrize("statement", REFUSED[:6])
async def test_the_owner_changes_nothing_either_in_a_range_that_was_swapped(
    slim: Api, statement: str
) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
        await slim.select(statement)


DRAFT = (
    "insert into log_draft select position, job_id, version, attempt, event_id, type, source,"
    " trace_id, seq, occurred_at, recorded_at, rule, data, hash from events"
)
ROLL_UP = (
    "insert into log_draft select last.position, last.job_id, last.version, last.attempt,"
    " last.event_id, 'heartbeats', last.source, last.trace_id, last.seq, last.occurred_at,"
    " last.recorded_at, last.rule, jsonb_build_object('count', {count}, 'from_version',"
    " last.version - {span}, 'from_position', last.position - {span}), {hash}"
    " from events last where last.position = {at}"
)


async def slimming(connection: Any, first: int, *drafts: str) -> int:
    await connection.execute("select open_log_draft()")
    for draft in drafts:
        await connection.execute(draft)
    gone: int = await connection.fetchval(
        "select slim_log_partition($1, '{}', sha256(''), '{}', sha256(''))", first
    )
    return gone


def a_roll_up(at: int, *, count: int = 3, span: int = 2, digest: str = "last.hash") -> str:
    return ROLL_UP.format(at=at, count=count, span=span, hash=digest)


@pytest.mark.parametrize(
    "drafts",
    [
        pytest.param([a_roll_up(10, digest="sha256('x')")], id="another hash"),
        pytest.param([a_roll_up(10, count=4)], id="another count"),
        pytest.param([a_roll_up(10, span=0, count=1)], id="nothing gained"),
        pytest.param([a_roll_up(10, span=9, count=10)], id="over the job's creation"),
        pytest.param([a_roll_up(24, span=5, count=6)], id="over an epoch's end"),
        pytest.param([a_roll_up(10), a_roll_up(9)], id="two over one heartbeat"),
        pytest.param([a_roll_up(60)], id="of another range"),
        pytest.param([DRAFT + " where position = 10"], id="no roll-up at all"),
        pytest.param(
            [a_roll_up(10), "update events set seq = 5 where position = 10"], id="another seq"
        ),
    ],
)
async def test_no_roll_up_takes_the_place_of_what_it_does_not_stand_for(
    slim: Api, service_role: Any, drafts: list[str]
) -> None:
    await restored(slim)
    before = await rows(slim)

    with pytest.raises((asyncpg.CheckViolationError, asyncpg.InsufficientPrivilegeError)):
        await slimming(service_role, 1, *drafts)

    assert await rows(slim) == before


async def test_a_roll_up_that_stands_for_what_it_says_is_taken(
    slim: Api, service_role: Any
) -> None:
    await restored(slim)
    before = await rows(slim)

    assert await slimming(service_role, 1, a_roll_up(10), a_roll_up(15)) == 4

    after = await rows(slim)
    assert len(after) == len(before) - 4
    assert [row for row in after if row[5] != "heartbeats"] == [
        row for row in before if row[0] not in (*range(8, 11), *range(13, 16))
    ]


@pytest.mark.parametrize(
    "drafts",
    [
        pytest.param([], id="nothing"),
        pytest.param(
            [
                DRAFT.replace("'heartbeats'", "type").replace("position, job", "position - 1, job")
                + " where type = 'heartbeats' and position <= 50"
            ],
            id="something else",
        ),
    ],
)
async def test_only_the_heartbeats_that_went_come_back(
    slim: Api, service_role: Any, drafts: list[str]
) -> None:
    before = await rows(slim)
    await service_role.execute("select open_log_draft()")
    for draft in drafts:
        await service_role.execute(draft)

    with pytest.raises(asyncpg.CheckViolationError):
        await service_role.execute("select restore_log_partition(1, '{}', sha256(''), sha256(''))")

    assert await rows(slim) == before


async def test_a_range_that_is_still_written_is_not_slimmed(slim: Api, service_role: Any) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="not complete"):
        await slimming(service_role, 151)
