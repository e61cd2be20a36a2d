"""The golden log in a real database: it folds to the same; so does the short way to a status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.chain import GENESIS, link
from projections.events import Evidence, Heartbeats, Record
from projections.job import JobState
from projections.status import evolve, ruling
from service.postgres import Database, owner_session
from service.rebuilding import check, rebuild
from service.records import event_columns
from service.standings import Standing, quick_check, standing, statuses
from service.store import Store
from tests import generated
from tests.command_line import epochlog
from tests.conftest import SECRET_KEY
from tests.given import CREATED, START
from tests.golden import reading
from tests.unit.test_properties import jobs, walk, walks

COLUMNS = (
    *("position", "job_id", "version", "attempt", "event_id", "type", "source", "trace_id"),
    *("seq", "occurred_at", "recorded_at", "rule", "data", "hash"),
)
HISTORIES = 120


async def load(url: str, records: Iterable[Record]) -> None:
    """Put events into an empty log as its owner, and let the log end behind them."""
    kept = sorted(records, key=lambda record: record.position)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("select add_log_partition(1000000)")
        rows = zip(*event_columns(kept), strict=True)
        await connection.copy_records_to_table("events", records=rows, columns=COLUMNS)
        await connection.execute(
            "update log_head set position = $1, job_id = $2, recorded_at = $3",
            *(kept[-1].position, max(record.job_id for record in kept), kept[-1].recorded_at),
        )
    finally:
        await connection.close()


async def by_the_log(url: str) -> dict[int, Standing]:
    async with owner_session(url) as session, session.transaction():
        return await statuses(session)


async def test_the_golden_log_is_rebuilt_to_what_was_always_folded_from_it(
    database: str, tmp_path: Any
) -> None:
    await load(database, [record for job in reading.jobs() for record in job.records])
    environ = {
        "EPOCHLOG_DATABASE_URL": database,
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_STATE_DIR": str(tmp_path / "golden"),
    }

    before = await epochlog("replay", "--check", environ=environ)
    rebuilt = await epochlog("replay", environ=environ)
    after = await epochlog("replay", "--check", environ=environ)
    quick = await epochlog("replay", "--check", "--quick", environ=environ)

    assert [before.code, rebuilt.code, after.code, quick.code] == [1, 0, 0, 0]
    stored = await Database.connect(database)
    try:
        for job in reading.jobs():
            found = await Store(stored).job(job.id)
            assert found is not None
            expected = reading.expected()["jobs"][str(job.id)]["state"]
            assert orjson.loads(orjson.dumps(found.state)) == expected
    finally:
        await stored.close()


async def test_the_golden_log_reads_back_with_the_hashes_that_it_was_written_with(
    database: str,
) -> None:
    held = [record for job in reading.jobs() for record in job.records]
    await load(database, held)
    await rebuild(database)
    stored = await Database.connect(database)
    try:
        for job in reading.jobs():
            read = [one async for page in Store(stored).history(job.id) for one in page]
            assert read == list(job.records)
            previous = GENESIS
            for record in read:
                if not isinstance(record.event, Heartbeats):  # what it stands for is in an archive
                    assert record.hash == link(record, previous)
                previous = record.hash
    finally:
        await stored.close()


# The shortcut


def as_job(number: int, records: Iterable[Record]) -> list[Record]:
    """Return the records as those of another job, somewhere else in the log."""
    return [
        replace(
            record,
            job_id=number,
            position=(record.version - 1) * HISTORIES + number,
            event_id=f"00000000-0000-4000-8000-{number:06}{record.version:06}",
            trace_id="00000000-0000-4000-8000-000000000000",
            hash="0" * 64,
        )
        for record in records
    ]


def ruled(records: Iterable[Record]) -> list[Record]:
    """Return the records with the rules that a service would have recorded with them."""
    state, kept = JobState(), []
    for record in records:
        kept.append(replace(record, rule=ruling(state, record)))
        state = evolve(state, record)
    return kept


@pytest.mark.parametrize("kind", ["walks", "strange logs"])
async def test_the_few_deciding_events_fold_to_where_all_events_do(
    database: str, kind: str
) -> None:
    histories = walked() if kind == "walks" else strange()
    logs = [as_job(number, ruled(one)) for number, one in enumerate(histories, start=1)]
    await load(database, [record for log in logs for record in log])

    found = await by_the_log(database)

    assert len(found) == HISTORIES
    for log in logs:
        state = JobState()
        for record in log:
            state = evolve(state, record)
        assert found[log[0].job_id] == standing(state, state.version, state.position), log
    assert not (await check(database)).is_clean  # no projection was made of it yet
    await rebuild(database)
    assert (await quick_check(database)).is_clean
    assert (await check(database)).is_clean


def walked() -> list[list[Record]]:
    """Histories that the rules have written."""
    drawn: list[list[Record]] = []

    @settings(max_examples=HISTORIES, database=None, suppress_health_check=list(HealthCheck))
    @given(jobs(), walks)
    def draw(job: Any, steps: Any) -> None:
        drawn.append(walk(job, steps).records)

    draw()
    return drawn[:HISTORIES]


def strange() -> list[list[Record]]:
    """Logs that no build of ours would write."""
    drawn: list[list[Record]] = []
    logs = st.lists(
        st.tuples(st.integers(1, 3), generated.callbacks | generated.decisions), max_size=14
    )

    @settings(max_examples=HISTORIES, database=None, suppress_health_check=list(HealthCheck))
    @given(logs)
    def draw(log: Any) -> None:
        drawn.append(generated.as_log([(1, CREATED), *log, (1, Evidence(kind="x"))], START))

    draw()
    return drawn[:HISTORIES]


async def test_a_quick_check_names_where_a_job_does_not_stand_as_its_log_says(
    database: str,
) -> None:
    await load(database, [record for job in reading.jobs() for record in job.records])
    await rebuild(database)
    connection = await asyncpg.connect(database)
    await connection.execute("update jobs set status = 'queued' where id = 1")
    await connection.execute("delete from jobs where id = 2")
    await connection.close()

    found = await quick_check(database)

    assert found.differing == {"jobs": 2}
    told = [(one.row, one.field, one.live, one.rebuilt) for one in found.first]
    assert told == [("1", "status", "queued", "succeeded"), ("2", "", "no such row", "a row")]
