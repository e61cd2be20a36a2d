"""Compaction, archives and the way back, on a real log with small ranges."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio

from projections.job import JobState
from projections.status import evolve
from service.archive_file import blocks_in
from service.folder import Folder
from service.object_store import ObjectStoreError
from service.ranges import GrowthError
from tests.conftest import StartService
from tests.growth import (
    EVENTS_A_RANGE,
    archive_files,
    compacted,
    compaction,
    restored,
    rows,
    told,
    trained,
)
from tests.http import Api
from tests.polling import eventually


@pytest_asyncio.fixture
async def small(start_service: StartService) -> Api:
    """A service whose log has small ranges."""
    return await start_service(EPOCHLOG_PARTITION_EVENTS=str(EVENTS_A_RANGE))


@pytest_asyncio.fixture
async def grown(small: Api) -> AsyncIterator[tuple[Api, list[Any]]]:
    """A log of several ranges: jobs that have ended in each way, and one that runs."""
    jobs = [
        await trained(small),
        await trained(small, ends="failed"),
        await trained(small, epochs=2, ends=None),
    ]
    yield small, jobs


async def position(api: Api) -> int:
    (row,) = await api.select("select position from log_head")
    return int(row["position"])


async def types(api: Api) -> dict[str, int]:
    found = await api.select("select type, count(*) from events group by type")
    return {row["type"]: row["count"] for row in found}


async def test_what_is_told_of_the_jobs_stays_the_same(grown: tuple[Api, list[Any]]) -> None:
    api, jobs = grown
    before = [await told(api, job) for job in jobs]
    events = await types(api)

    done = await compacted(api)

    assert [one.part.name for one in done] == ["1-50", "51-100", "101-150"]
    assert [await told(api, job) for job in jobs] == before
    after = await types(api)
    assert after["heartbeat"] < events["heartbeat"] / 2
    assert after["heartbeats"] == sum(one.roll_ups for one in done)
    kept = {name: count for name, count in after.items() if not name.startswith("heartbeat")}
    assert kept == {name: count for name, count in events.items() if name != "heartbeat"}
    assert sum(events.values()) - sum(after.values()) == sum(one.gone for one in done)


async def test_every_past_moment_between_the_runs_is_as_it_was(
    grown: tuple[Api, list[Any]],
) -> None:
    api, jobs = grown
    paths = [f"/v1/jobs/{job['id']}{view}" for job in jobs for view in ("", "/timeline")]
    first = {job["id"]: job["position"] for job in jobs}
    head = await position(api)
    before = {
        (path, at): (await api.get(path, as_of=at)).text
        for path in paths
        for at in range(1, head + 1, 7)
        if at >= first[int(path.split("/")[3])]
    }

    await compacted(api)

    within = [
        range(row["from_position"], row["position"])
        for row in await api.select(
            "select position, (data ->> 'from_position')::bigint as from_position from events"
            " where type = 'heartbeats'"
        )
    ]
    compared = 0
    for (path, at), text in before.items():
        if not any(at in run for run in within):
            compared += 1
            assert (await api.get(path, as_of=at)).text == text
    assert compared > 30


@pytest.mark.parametrize("view", ["recorded", "occurred"])
async def test_within_a_run_the_job_was_alive_and_as_far_as_it_was_before(
    small: Api, view: str
) -> None:
    job = await small.create_job()
    for batch in range(EVENTS_A_RANGE):
        beat = {"epoch": 1, "batch": batch, "seq": batch + 1}
        assert (await small.call_back(job, "heartbeat", beat)).status == 200
    await small.call_back(job, "done", {"status": "succeeded"})
    (done,) = await compacted(small)
    assert (done.roll_ups, done.gone) == (1, 47)

    (event,) = await small.events(job, "heartbeats")
    said = event["data"]
    path = f"/v1/jobs/{job['id']}"
    first, last = (datetime.fromisoformat(said[name]) for name in ("first_at", "last_at"))
    middle = first + (last - first) / 2
    then = (await small.get(path, as_of=middle.isoformat(), view=view)).json

    assert (then["status"], then["health"]["verdict"]) == ("running", "healthy")
    heard = datetime.fromisoformat(then["health"]["alive_at"])
    assert middle - timedelta(seconds=said["max_gap_seconds"]) <= heard <= middle
    assert (then["version"], then["progress"]["batch"]) == (said["from_version"], 0)
    if view == "recorded":
        then = (await small.get(path, as_of=25)).json
        assert (then["status"], then["health"]["alive_at"]) == ("running", said["first_at"])


async def test_the_log_is_folded_to_the_same_jobs(grown: tuple[Api, list[Any]]) -> None:
    api, jobs = grown
    await compacted(api)

    store = api.service.instance.store
    for job in jobs:
        state = JobState()
        async for page in store.history(job["id"]):
            for record in page:
                state = evolve(state, record)
        known = await store.job(job["id"])
        assert known is not None
        assert state == known.state


async def test_the_api_shows_the_roll_ups(grown: tuple[Api, list[Any]]) -> None:
    api, jobs = grown
    whole = await api.events(jobs[0])
    await compacted(api)

    events = await api.events(jobs[0])

    last = {event["position"]: event for event in whole}
    for event in events:
        if event["type"] == "heartbeats":
            said = event["data"]
            run = [e for e in whole if said["from_version"] <= e["version"] <= event["version"]]
            assert {one["type"] for one in run} == {"heartbeat"}
            assert said["count"] == len(run)
            assert said["metrics"] == run[-1]["data"]["metrics"]
            assert said["first_at"] == run[0]["recorded_at"]
            assert event["hash"] == last[event["position"]]["hash"]
        else:
            assert event == last[event["position"]]
    assert [event["seq"] for event in events if event["type"] == "trainer_event"]


async def test_heartbeats_of_an_attempt_that_goes_on_stay_until_it_ends(
    grown: tuple[Api, list[Any]],
) -> None:
    api, jobs = grown
    running = jobs[2]
    beats = await api.events(running, "heartbeat")
    assert [one.waiting for one in await compacted(api)][-1] > 0
    assert await api.events(running, "heartbeat") == beats
    assert await compacted(api) == []

    await api.call_back(running, "done", {"status": "succeeded"})
    before = await told(api, running)
    done = await compacted(api)

    assert [one.part.name for one in done] == ["101-150"]
    assert done[0].waiting == 0
    assert len(await api.events(running, "heartbeat")) <= len(beats) - 15
    assert await told(api, running) == before
    assert await compacted(api) == []


async def test_what_comes_back_is_what_was_there_byte_by_byte(
    grown: tuple[Api, list[Any]],
) -> None:
    api, _ = grown
    before = await rows(api)
    await compacted(api)
    assert await rows(api) != before

    back = await restored(api)

    assert await rows(api) == before
    assert set(back) == {"1-50", "51-100", "101-150"}
    assert await restored(api) == {}


async def test_one_range_can_be_restored_and_slimmed_again_from_the_same_archive(
    grown: tuple[Api, list[Any]],
) -> None:
    api, _ = grown
    await compacted(api)
    slim = await rows(api)
    files = archive_files(api)
    assert len(files) == 6

    assert list(await restored(api, "51-100")) == ["51-100"]
    assert await rows(api) != slim
    done = await compacted(api)

    assert [one.part.name for one in done] == ["51-100"]
    assert await rows(api) == slim
    assert archive_files(api) == files


async def test_an_archive_holds_the_events_as_they_were_recorded(
    grown: tuple[Api, list[Any]],
) -> None:
    api, jobs = grown
    whole = {event["position"]: event for job in jobs for event in await api.events(job)}
    done = await compacted(api)

    archive = Path(api.service.instance.settings.archive_url)
    lines: list[Any] = []
    for one in done:
        assert one.manifest is not None
        path = archive / one.manifest.file
        lines += [orjson.loads(line) for block in blocks_in(path) for line in block]
        said = orjson.loads(
            (path.parent / f"{path.name[: -len('.ndjson.gz')]}.manifest.json").read_bytes()
        )
        assert said == one.manifest.as_json()
    shown = (
        "position",
        "job_id",
        "version",
        "attempt",
        "event_id",
        "type",
        "source",
        "seq",
        "hash",
    )
    assert len(lines) == 150
    for line in lines:
        event = whole[line["position"]]
        assert {name: line[name] for name in shown} == {name: event[name] for name in shown}
        assert line["data"] == event["data"]


class InterruptedByTestError(Exception):
    """A crash, at a chosen step."""


class Fragile(Folder):
    """A folder that ends the process, as it were, before or after a file is kept."""

    def __init__(self, path: Path, *, breaks_at: int) -> None:
        super().__init__(path)
        self.steps = breaks_at

    def _step(self) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise InterruptedByTestError

    async def put(self, name: str, source: Path, **about: Any) -> None:
        self._step()
        await super().put(name, source, **about)
        self._step()

    async def fetch(self, name: str, target: Path) -> None:
        self._step()
        await super().fetch(name, target)


@pytest.mark.parametrize("step", range(1, 7))
async def test_what_was_interrupted_has_changed_nothing_and_is_continued(
    grown: tuple[Api, list[Any]], step: int
) -> None:
    api, jobs = grown
    before = await rows(api)
    views = [await told(api, job) for job in jobs]
    folder = Path(api.service.instance.settings.archive_url)

    with pytest.raises(InterruptedByTestError):
        await compacted(api, Fragile(folder, breaks_at=step))

    assert await rows(api) == before
    assert len(await compacted(api)) == 3
    assert [await told(api, job) for job in jobs] == views
    assert len(archive_files(api)) == 6
    await restored(api)
    assert await rows(api) == before


async def test_a_connection_that_is_cut_in_the_swap_changes_nothing(
    grown: tuple[Api, list[Any]],
) -> None:
    api, _ = grown
    before = await rows(api)
    settings = api.service.instance.settings
    blocker = await asyncpg.connect(settings.database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.fetch("select from events limit 1")
    running = asyncio.create_task(compacted(api))

    async def waits() -> Any:
        return await api.select(
            "select pid from pg_stat_activity"
            " where query like '%slim_log_partition%' and pid <> pg_backend_pid()"
            " and state = 'active' and datname = current_database()"
        )

    pid = (await eventually(waits))[0]["pid"]
    await blocker.fetchval("select pg_terminate_backend($1)", pid)
    with pytest.raises(Exception, match="database cannot be reached"):
        await running
    await transaction.rollback()
    await blocker.close()

    assert await rows(api) == before
    assert len(await compacted(api)) == 3


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "another manifest"])
async def test_an_archive_that_was_tampered_with_is_refused(
    grown: tuple[Api, list[Any]], damage: str
) -> None:
    api, _ = grown
    done = await compacted(api)
    slim = await rows(api)
    assert done[0].manifest is not None
    path = Path(api.service.instance.settings.archive_url) / done[0].manifest.file
    manifest = path.with_name(path.name.replace(".ndjson.gz", ".manifest.json"))
    match damage:
        case "changed":
            text = zlib.decompress(path.read_bytes(), 31).replace(b'"batch": 3,', b'"batch": 4,')
            pack = zlib.compressobj(6, zlib.DEFLATED, 31)
            path.write_bytes(pack.compress(text) + pack.flush())
        case "cut":
            path.write_bytes(path.read_bytes()[:-10])
        case "gone":
            path.unlink()
        case _:
            manifest.write_bytes(manifest.read_bytes().replace(b'"events": 50', b'"events": 51'))

    with pytest.raises((GrowthError, ObjectStoreError), match=r"archive|manifest"):
        await restored(api, "1-50")

    assert await rows(api) == slim


async def test_a_changed_event_is_not_covered_up(grown: tuple[Api, list[Any]]) -> None:
    api, _ = grown
    await api.select("alter table events disable trigger all")
    await api.select("alter table events_from_51 disable trigger all")
    await api.select(
        "update events set data = data || '{\"batch\": 7}' where position ="
        " (select min(position) from events where type = 'heartbeat' and position > 60)"
    )

    with pytest.raises(GrowthError, match=r"range 51-100 stays as it is: version \d+ of job 1"):
        await compacted(api)

    found = await api.select("select first_position from log_archives")
    assert [row["first_position"] for row in found] == [1]


async def test_the_service_answers_while_its_log_is_compacted(
    grown: tuple[Api, list[Any]],
) -> None:
    api, jobs = grown
    stop = asyncio.Event()
    answered = 0

    async def asks(job: Any) -> None:
        nonlocal answered
        while not stop.is_set():
            for view in ("", "/timeline", "/events"):
                assert (await api.get(f"/v1/jobs/{job['id']}{view}")).status == 200
            assert (
                await api.call_back(jobs[2], "heartbeat", {"epoch": 2, "batch": 1})
            ).status == 200
            answered += 1

    asking = [asyncio.create_task(asks(job)) for job in jobs]
    for _ in range(3):
        await compacted(api)
        await restored(api)
    stop.set()
    await asyncio.gather(*asking)

    assert answered > 3
    events = await api.select("select count(*), max(position) from events")
    assert events[0]["count"] == events[0]["max"] == await position(api)


async def test_a_long_reader_makes_compaction_wait_and_nobody_else(
    grown: tuple[Api, list[Any]],
) -> None:
    api, jobs = grown
    reader = await asyncpg.connect(api.service.instance.settings.database_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("select from events limit 1")
    running = asyncio.create_task(compacted(api))

    for _ in range(20):
        assert (await api.call_back(jobs[2], "heartbeat", {"epoch": 2})).status == 200
    assert not running.done()
    await transaction.rollback()
    await reader.close()

    assert len(await running) == 3


async def test_only_one_compacts_at_a_time(grown: tuple[Api, list[Any]]) -> None:
    api, _ = grown
    running = compaction(api).compacted(0)
    assert (await anext(running)).part.name == "1-50"

    with pytest.raises(GrowthError, match="Somebody else compacts"):
        await compacted(api)

    assert [one.part.name async for one in running] == ["51-100", "101-150"]


async def test_event_ids_are_forgotten_with_the_jobs_that_ended(
    grown: tuple[Api, list[Any]],
) -> None:
    api, jobs = grown
    await compacted(api)

    kept = {row["job_id"] for row in await api.select("select distinct job_id from event_ids")}

    assert kept == {jobs[2]["id"]}
    again = {"epoch": 1, "epochs": 2, "batch": 0, "batches": 20, "seq": 1,
             "metrics": {"loss": 1 / 2, "n": 1.0, "big": 10**22}}  # fmt: skip
    answer = await api.call_back(jobs[2], "heartbeat", again)
    assert answer.json["duplicate"] is True

    await api.call_back(jobs[2], "done", {"status": "succeeded"})
    await compacted(api)  # rolls its heartbeats up; its end stands in a range that is not complete
    late = await api.call_back(jobs[2], "heartbeat", again)
    assert (late.json["duplicate"], late.json["position"]) == (True, answer.json["position"])


async def test_only_old_ranges_are_compacted_and_a_dry_run_does_nothing(
    grown: tuple[Api, list[Any]],
) -> None:
    api, _ = grown
    before = await rows(api)

    assert [one async for one in compaction(api).compacted(3600)] == []
    careful = compaction(api)
    careful.token_ttl = 3600
    assert [one async for one in careful.compacted(0)] == []
    dry = [one async for one in compaction(api).compacted(0, dry_run=True)]

    assert [one.part.name for one in dry] == ["1-50", "51-100", "101-150"]
    assert sum(one.gone for one in dry) > 50
    assert await rows(api) == before
    assert archive_files(api) == {}
    assert await api.select("select from log_archives") == []
