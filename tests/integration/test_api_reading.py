"""Reading jobs: the list and its pages, one job, its past, its events, its logs."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.http import Api


async def _listed(api: Api, **query: str | int) -> list[int]:
    return [job["id"] for job in (await api.get("/v1/jobs", **query)).json["jobs"]]


async def test_no_jobs_are_an_empty_list(api: Api) -> None:
    assert (await api.get("/v1/jobs")).json == {"jobs": [], "next_cursor": None}


async def test_jobs_are_listed_newest_first_and_as_each_is_shown_alone(api: Api) -> None:
    jobs = [await api.create_job() for _ in range(3)]
    await api.call_back(jobs[1], "done", {"status": "succeeded"})

    listed = (await api.get("/v1/jobs")).json["jobs"]

    assert [job["id"] for job in listed] == [3, 2, 1]
    assert listed[1] == (await api.get("/v1/jobs/2")).json


async def test_pages_show_each_job_once_while_new_ones_are_made(api: Api) -> None:
    for _ in range(7):
        await api.create_job()

    seen: list[int] = []
    cursor: str | None = None
    for _ in range(4):
        page = (await api.get("/v1/jobs", limit=2, **({"cursor": cursor} if cursor else {}))).json
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        await api.create_job()

    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert cursor is None


async def test_a_page_that_just_fits_is_the_last(api: Api) -> None:
    for _ in range(2):
        await api.create_job()

    assert (await api.get("/v1/jobs", limit=2)).json["next_cursor"] is None
    assert (await api.get("/v1/jobs", limit=1)).json["next_cursor"] is not None


async def test_jobs_are_found_by_status_and_by_all_of_the_labels(api: Api) -> None:
    red = await api.create_job(labels={"team": "red", "tier": "a=b"})
    blue = await api.create_job(labels={"team": "blue", "tier": "a=b"})
    await api.call_back(blue, "heartbeat")

    assert await _listed(api, status="running") == [blue["id"]]
    assert await _listed(api, status="failed") == []
    assert await _listed(api, label="team=red") == [red["id"]]
    assert await _listed(api, label="tier=a=b") == [blue["id"], red["id"]]
    assert await _listed(api, label="team=") == []
    assert await _listed(api, label="team=red", status="running") == []
    both = await api.get("/v1/jobs?label=team=blue&label=tier=a%3Db")
    assert [job["id"] for job in both.json["jobs"]] == [blue["id"]]
    twice = await api.get("/v1/jobs?label=team=blue&label=team=blue")
    assert [job["id"] for job in twice.json["jobs"]] == [blue["id"]]


@pytest.mark.parametrize("view", ["", "/events", "/timeline", "/explain", "/logs"])
@pytest.mark.parametrize("job_id", ["0", "999999999", str(2**63 - 1), str(2**63), "9" * 100])
async def test_what_is_not_there_is_not_found(shared_api: Api, view: str, job_id: str) -> None:
    answer = await shared_api.get(f"/v1/jobs/{job_id}{view}")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")


async def test_an_external_job_has_no_output_here(shared_api: Api) -> None:
    job = await shared_api.create_job()

    answer = await shared_api.get(f"/v1/jobs/{job['id']}/logs", attempt=1, tail=10)

    assert (answer.status, answer.json["code"]) == (404, "not_found")


@pytest_asyncio.fixture
async def past(shared_api: Api) -> Any:
    """A job that has run to its end, and all its events."""
    job = await shared_api.create_job(epochs=2)
    for epoch in (1, 2):
        await shared_api.call_back(job, "heartbeat", {"epoch": epoch, "metrics": {"loss": epoch}})
    await shared_api.call_back(job, "event", {"type": "checkpoint_saved", "data": {"epoch": 2}})
    await shared_api.call_back(job, "done", {"status": "succeeded"})
    return job, await shared_api.events(job)


async def test_a_job_is_shown_as_it_was_at_any_position(shared_api: Api, past: Any) -> None:
    job, events = past

    for event in events:
        then = (await shared_api.get(f"/v1/jobs/{job['id']}", as_of=event["position"])).json
        assert (then["version"], then["position"]) == (event["version"], event["position"])
    beats = [event["position"] for event in events if event["type"] == "heartbeat"]
    then = (await shared_api.get(f"/v1/jobs/{job['id']}", as_of=beats[0])).json
    assert (then["status"], then["progress"]["epoch"]) == ("running", 1)
    assert (then["completed_at"], then["progress"]["metrics"]) == (None, {"loss": 1})


async def test_a_job_is_shown_as_it_was_at_any_time(shared_api: Api, past: Any) -> None:
    job, events = past

    for event in events:
        at = event["recorded_at"]
        together = [other for other in events if other["recorded_at"] <= at]
        for spelling in (at, at.replace("Z", "+00:00"), at.replace("T", " ")):
            then = (await shared_api.get(f"/v1/jobs/{job['id']}", as_of=spelling)).json
            assert then["version"] == together[-1]["version"]


@pytest.mark.parametrize("view", ["", "/timeline", "/explain"])
@pytest.mark.parametrize(
    "as_of", ["0", "1970-01-01T00:00:00Z", "1000-01-01T00:00:00Z", "2020-02-29 12:00:00+05:30"]
)
async def test_before_its_creation_there_is_no_job(
    shared_api: Api, past: Any, view: str, as_of: str
) -> None:
    answer = await shared_api.get(f"/v1/jobs/{past[0]['id']}{view}", as_of=as_of)

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")


async def test_the_position_just_before_its_creation_knows_no_job(
    shared_api: Api, past: Any
) -> None:
    job, events = past

    answer = await shared_api.get(f"/v1/jobs/{job['id']}", as_of=events[0]["position"] - 1)

    assert answer.status == 404


@pytest.mark.parametrize("as_of", ["9999-12-31T23:59:59.999998Z", str(2**63 - 1)])
async def test_the_future_looks_like_now(shared_api: Api, past: Any, as_of: str) -> None:
    job = past[0]["id"]

    then = (await shared_api.get(f"/v1/jobs/{job}", as_of=as_of)).json

    assert then == (await shared_api.get(f"/v1/jobs/{job}")).json


async def test_timeline_and_explain_tell_the_past_too(shared_api: Api, past: Any) -> None:
    job, events = past
    first_beat = next(event for event in events if event["type"] == "heartbeat")
    at = first_beat["position"]

    story = (await shared_api.get(f"/v1/jobs/{job['id']}/timeline", as_of=at)).json
    why = (await shared_api.get(f"/v1/jobs/{job['id']}/explain", as_of=at)).json

    assert [epoch["epoch"] for epoch in story["attempts"][0]["epochs"]] == [1]
    assert max(entry["position"] for entry in story["entries"]) == at
    assert (why["status"], why["rule"]) == ("running", "callback_means_running")
    assert [item["position"] for item in why["because"]] == [at]


async def test_events_come_in_pages_in_version_order(shared_api: Api, past: Any) -> None:
    job, events = past
    path = f"/v1/jobs/{job['id']}/events"

    read: list[Any] = []
    after = 0
    while (page := (await shared_api.get(path, after=after, limit=2)).json)["events"]:
        assert page["next_after"] == page["events"][-1]["version"]
        read += page["events"]
        after = page["next_after"]

    assert read == events
    assert page["next_after"] == after == events[-1]["version"]
    assert [event["version"] for event in read] == list(range(1, len(read) + 1))


async def test_an_event_has_the_contracts_fields(shared_api: Api, past: Any) -> None:
    job, events = past

    for event in events:
        assert event["job_id"] == job["id"]
        assert event["trace_id"] == job["trace_id"]
        assert len(event["hash"]) == 64
        assert event["source"] in {"api", "trainer", "launcher", "supervisor"}
    kinds = {event["type"] for event in events}
    assert {"created", "heartbeat", "trainer_event", "done", "succeeded"} <= kinds
    for event in events:
        if event["type"] in {"queued", "running", "attempt_failed", "failed", "cancelled"}:
            assert {"reason", "message"} <= set(event["data"])


async def test_events_can_be_had_by_type(shared_api: Api, past: Any) -> None:
    job, _ = past
    path = f"/v1/jobs/{job['id']}/events"

    beats = (await shared_api.get(path, type="heartbeat")).json["events"]
    later = (await shared_api.get(path, type="heartbeat", after=beats[0]["version"])).json["events"]
    none = (await shared_api.get(path, type="no such type")).json

    assert [beat["data"]["epoch"] for beat in beats] == [1, 2]
    assert later == beats[1:]
    assert none == {"events": [], "next_after": 0}


async def test_what_the_trainer_calls_its_event_is_never_the_events_type(shared_api: Api) -> None:
    job = await shared_api.create_job()

    await shared_api.call_back(job, "event", {"type": "succeeded"})

    assert (await shared_api.events(job))[-1]["type"] == "trainer_event"
    assert (await shared_api.get(f"/v1/jobs/{job['id']}")).json["status"] == "running"
