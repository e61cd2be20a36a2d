"""The fleet at any moment is what folding every job up to that moment makes of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio

from projections.decide import Enqueue, RequestCancel
from projections.health import recorded_verdict
from projections.job import JobState, JobStatus
from service.fleet import fleet_at
from service.serving import serving
from service.settings import Settings
from service.views import to_json
from tests.conftest import SECRET_KEY, TEMPLATE, StartService, with_database
from tests.fleets import Moment, Past, Stand, moments
from tests.http import Api
from tests.ledger import check_ledger
from tests.polling import eventually

NOBODY = {status.value: 0 for status in JobStatus}
Told = tuple[Api, Sequence[Moment]]


@pytest_asyncio.fixture(scope="module")
async def told(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """A service whose log holds a random past, with silences and retries, and its moments."""
    url = with_database(postgres, "test_fleet")
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"create database test_fleet template {TEMPLATE}")
    await connection.close()
    settings = Settings.from_env(
        {
            "EPOCHLOG_STATE_DIR": str(tmp_path_factory.mktemp("fleet") / "state"),
            "EPOCHLOG_DATABASE_URL": url,
            "EPOCHLOG_SECRET_KEY": SECRET_KEY,
            "EPOCHLOG_PORT": "0",
            "EPOCHLOG_EXECUTOR": "external",
            "EPOCHLOG_HEARTBEAT_TIMEOUT": "1.5",
        }
    )
    async with serving(settings) as service, Api(service) as api:
        past = Past(random.Random(7))  # noqa: S311 - the same past every time
        await past.happens(service.instance.log, jobs=9, commands=130)
        await eventually(lambda: _is_heard_of(api, "silent"))
        await past.happens(service.instance.log, jobs=18, commands=250)
        yield api, list(moments(await check_ledger(url)))


async def _is_heard_of(api: Api, verdict: str) -> bool:
    found = await api.select("select count(*) from job_spans where verdict = $1", verdict)
    return bool(found[0]["count"])


def _json(value: Any) -> Any:
    """A value as the API writes it."""
    return orjson.loads(to_json(value))


def _alive(moment: Moment) -> list[dict[str, Any]]:
    """What the API is to say of each job that is not final."""
    return [
        _json(_job(stand))
        for _, stand in sorted(moment.jobs.items(), reverse=True)
        if not stand.state.status.is_final
    ]


def _job(stand: Stand) -> dict[str, Any]:
    state = stand.state
    return {
        "id": state.id,
        "status": state.status,
        "reason": state.reason,
        "trace_id": state.trace_id,
        "attempt": state.attempt,
        "dataset_id": state.dataset_id,
        "model_name": state.model_name,
        "labels": state.labels,
        "progress": state.progress,
        "health": {"verdict": recorded_verdict(state), "alive_at": state.alive_at},
        "created_at": state.created_at,
        "since": stand.since,
        "version": state.version,
        "position": state.position,
    }


def _counts(moment: Moment) -> dict[str, int]:
    return NOBODY | Counter(stand.state.status.value for stand in moment.jobs.values())


async def test_at_every_position_the_fleet_is_what_its_events_make_of_it(told: Told) -> None:
    api, past = told
    assert len(past) > 300
    verdicts = {recorded_verdict(s.state) for moment in past for s in moment.jobs.values()}
    assert verdicts == {"not_running", "unknown", "healthy", "silent"}

    for moment in past:
        fleet = (await api.get("/v1/fleet", as_of=moment.record.position)).json

        assert fleet["counts"] == _counts(moment)
        assert fleet["jobs"] == _alive(moment)
        at = _json({"position": moment.record.position, "time": moment.record.recorded_at})
        assert fleet["as_of"] == at


async def test_a_job_that_has_said_nothing_for_long_is_found_as_well(told: Told) -> None:
    api, past = told
    database = api.service.instance.database

    for moment in past[::3]:
        position = moment.record.position
        assert await fleet_at(database, position, recent=2) == await fleet_at(database, position)


async def test_a_callback_that_did_not_count_moves_nothing(api: Api) -> None:
    job = await api.create_job()
    log = api.service.instance.log
    launched = Enqueue(
        attempt=1, reason="submitted", message="Asked.", executor="kubernetes", place="elsewhere"
    )
    await log.handle(job["id"], launched)
    await api.call_back(job, "heartbeat", {"epoch": 1})
    await log.handle(job["id"], RequestCancel())
    done = (await api.call_back(job, "done", {"status": "failed"})).json["position"]
    late = (await api.call_back(job, "heartbeat", {"epoch": 9})).json
    assert (late["applied"], late["status"]) == (False, "running")

    after, before = [
        (await api.get("/v1/fleet", as_of=position)).json["jobs"][0]
        for position in (late["position"], done)
    ]

    assert after["version"] > before["version"]
    assert (after["progress"], after["health"]) == (before["progress"], before["health"])
    assert before["progress"]["epoch"] == 1


def _times(past: Sequence[Moment]) -> list[datetime]:
    """The moments of some batches, just before them, and between them and the next."""
    batches = sorted({moment.record.recorded_at for moment in past})[::12]
    tick = timedelta(microseconds=1)
    return [time for batch in batches for time in (batch - tick, batch, batch + tick)]


def _at(past: Sequence[Moment], time: datetime) -> Moment | None:
    """The last moment that was recorded by then."""
    reached = [moment for moment in past if moment.record.recorded_at <= time]
    return reached[-1] if reached else None


async def test_a_time_stands_for_the_last_position_that_was_recorded_by_then(told: Told) -> None:
    api, past = told

    for time in _times(past):
        fleet = (await api.get("/v1/fleet", as_of=time.isoformat())).json

        moment = _at(past, time)
        position = moment.record.position if moment else 0
        assert fleet["as_of"] == _json({"position": position, "time": time})
        assert fleet["counts"] == (_counts(moment) if moment else NOBODY)
        assert fleet["jobs"] == (_alive(moment) if moment else [])


async def test_before_the_first_event_there_is_nobody(told: Told) -> None:
    api, _ = told

    by_position = (await api.get("/v1/fleet", as_of=0)).json
    by_time = (await api.get("/v1/fleet", as_of="2001-02-03T04:05:06Z")).json

    assert by_position == {
        "as_of": {"position": 0, "time": None}, "counts": NOBODY, "jobs": [],
    }  # fmt: skip
    assert by_time["as_of"] == {"position": 0, "time": "2001-02-03T04:05:06Z"}
    assert (by_time["counts"], by_time["jobs"]) == (NOBODY, [])
    assert (await api.get("/v1/jobs", as_of=0)).json == {"jobs": [], "next_cursor": None}


async def test_the_fleet_of_now_is_the_jobs_of_now(api: Api) -> None:
    ended, waits, runs = [await api.create_job(labels={"n": str(number)}) for number in range(3)]
    await api.call_back(ended, "done", {"status": "succeeded"})
    for epoch in (1, 2):
        body = {"epoch": epoch, "epochs": 3, "metrics": {"loss": 0.5, f"only_{epoch}": 1}}
        await api.call_back(runs, "heartbeat", body)
    await api.call_back(runs, "heartbeat", {"batch": 3})

    fleet = (await api.get("/v1/fleet")).json

    assert fleet["counts"] == NOBODY | {"pending": 1, "running": 1, "succeeded": 1}
    assert [job["id"] for job in fleet["jobs"]] == [runs["id"], waits["id"]]
    for shown in fleet["jobs"]:
        job = (await api.get(f"/v1/jobs/{shown['id']}")).json
        job["health"] = {name: job["health"][name] for name in ("verdict", "alive_at")}
        assert {**shown, "since": None} == {name: job.get(name) for name in shown}
    assert fleet["jobs"][0]["since"] == (await api.events(runs))[1]["recorded_at"]
    assert fleet["as_of"]["position"] == (await api.events(runs))[-1]["position"]


@pytest.mark.parametrize("as_of", ["9999-12-31T00:00:00Z", str(2**63 - 1)])
async def test_the_future_is_now(api: Api, as_of: str) -> None:
    job = await api.create_job()
    await api.call_back(job, "heartbeat", {"epoch": 1})

    then = (await api.get("/v1/fleet", as_of=as_of)).json
    now = (await api.get("/v1/fleet")).json

    assert then["as_of"]["time"] <= now["as_of"]["time"]
    assert {**then, "as_of": None} == {**now, "as_of": None}
    assert (await api.get("/v1/jobs", as_of=as_of)).json == (await api.get("/v1/jobs")).json


async def test_an_alarm_is_shown_now_by_our_senses_and_later_as_it_was_recorded(
    start_service: StartService,
) -> None:
    api = await start_service(EPOCHLOG_HEARTBEAT_TIMEOUT="1.5")
    job = await api.create_job()
    await api.call_back(job, "heartbeat", {"epoch": 1})

    alarm = (await eventually(lambda: api.events(job, "health_changed")))[0]["position"]

    now = (await api.get("/v1/fleet")).json["jobs"]
    before, since = [
        (await api.get("/v1/fleet", as_of=position)).json["jobs"][0]["health"]["verdict"]
        for position in (alarm - 1, alarm)
    ]
    assert (before, since) == ("healthy", "silent")
    assert [one["health"]["verdict"] for one in now] in (["silent"], ["not_running"])
    job_then = (await api.get(f"/v1/jobs/{job['id']}", as_of=alarm)).json
    assert job_then["health"]["verdict"] == "silent"


def _changes(begin: Moment | None, end: Moment | None) -> list[dict[str, Any]]:
    """What the API is to say of two moments."""
    before, after = (moment.jobs if moment else {} for moment in (begin, end))
    changed = (
        (job_id, before.get(job_id), after[job_id])
        for job_id in sorted(after)
        if job_id not in before or _brief(before[job_id].state) != _brief(after[job_id].state)
    )
    return [
        {"id": job_id, "from": _side(was) if was else None, "to": _side(became)}
        for job_id, was, became in changed
    ]


def _brief(state: JobState) -> tuple[str, int, str]:
    return state.status, state.attempt, recorded_verdict(state)


def _side(stand: Stand) -> Any:
    status, attempt, verdict = _brief(stand.state)
    return _json(
        {
            "status": status,
            "reason": stand.state.reason,
            "attempt": attempt,
            "health": {"verdict": verdict},
            "since": stand.since,
        }
    )


async def test_a_diff_shows_whatever_is_otherwise_at_two_positions(told: Told) -> None:
    api, past = told
    dice = random.Random(1)  # noqa: S311 - the same pairs every time

    for _ in range(60):
        begin, end = sorted(dice.choices(range(len(past) + 1), k=2))
        diff = (await api.get("/v1/fleet/diff", **{"from": begin, "to": end})).json

        assert (diff["from"]["position"], diff["to"]["position"]) == (begin, end)
        sides = [past[position - 1] if position else None for position in (begin, end)]
        assert diff["jobs"] == _changes(*sides)


async def test_a_diff_takes_times_and_goes_up_to_now(told: Told) -> None:
    api, past = told
    first, last = past[40].record.recorded_at, past[-60].record.recorded_at

    diff = (await api.get("/v1/fleet/diff", **{"from": first.isoformat(), "to": str(last)})).json
    until_now = (await api.get("/v1/fleet/diff", **{"from": 0})).json

    assert diff["jobs"] == _changes(_at(past, first), _at(past, last))
    assert diff["from"]["time"] == _json(first)
    assert {job["id"] for job in until_now["jobs"]} == set(past[-1].jobs)
    assert all(job["from"] is None for job in until_now["jobs"])
    assert until_now["to"]["position"] >= past[-1].record.position


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("9", "8"),
        ("2020-01-01T00:00:01Z", "2020-01-01T00:00:00Z"),
        (str(2**63 - 1), "1"),
        (str(2**63 - 1), str(2**63 - 2)),
        ("9999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("9999-01-01T00:00:00Z", "9998-01-01T00:00:00Z"),
        ("5", "2020-01-01T00:00:00Z"),
    ],
)
async def test_a_diff_does_not_go_back(told: Told, begin: str, end: str) -> None:
    answer = await told[0].get("/v1/fleet/diff", **{"from": begin, "to": end})

    assert (answer.status, [error["field"] for error in answer.json["errors"]]) == (400, ["from"])
    assert answer.json["detail"] == "from must not be after to."


async def test_the_jobs_of_the_past_are_listed_as_each_was(told: Told) -> None:
    api, past = told

    for moment in past[3::40]:
        as_of = moment.record.position
        listed = (await api.get("/v1/jobs", as_of=as_of)).json["jobs"]

        assert [job["id"] for job in listed] == sorted(moment.jobs, reverse=True)
        for job in listed:
            assert job == (await api.get(f"/v1/jobs/{job['id']}", as_of=as_of)).json


async def test_the_past_is_filtered_by_what_was_then(told: Told) -> None:
    api, past = told
    moment = past[len(past) // 2]
    states = [stand.state for _, stand in sorted(moment.jobs.items(), reverse=True)]

    for status in JobStatus:
        answer = await api.get("/v1/jobs", as_of=moment.record.position, status=status.value)
        assert [job["id"] for job in answer.json["jobs"]] == [
            state.id for state in states if state.status is status
        ]
    red = await api.get("/v1/jobs", as_of=moment.record.position, label="team=red")
    assert [job["id"] for job in red.json["jobs"]] == [
        state.id for state in states if state.labels["team"] == "red"
    ]


async def test_the_past_comes_in_pages(told: Told) -> None:
    api, past = told
    query: dict[str, str | int] = {"as_of": past[-1].record.position, "limit": 4}

    seen: list[int] = []
    while True:
        page = (await api.get("/v1/jobs", **query)).json
        seen += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert seen == sorted(past[-1].jobs, reverse=True)
