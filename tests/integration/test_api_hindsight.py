"""Two views of a moment over HTTP: what was recorded by then, and what had occurred by then."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from projections.decide import Enqueue, Observe
from projections.sighting import Gone
from tests.conftest import StartService
from tests.http import Api

MINUTE = timedelta(minutes=1)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest_asyncio.fixture
async def late(api: Api) -> Any:
    """A job whose last words, by their own clock, came after the first in no time."""
    job = await api.create_job(epochs=2)
    await api.call_back(job, "heartbeat", {"epoch": 1})
    began = _time((await api.events(job))[1]["recorded_at"])
    last = {"epoch": 2, "occurred_at": (began + timedelta(microseconds=1)).isoformat()}
    await api.call_back(job, "heartbeat", last)
    done = {"status": "succeeded", "occurred_at": (began + timedelta(microseconds=2)).isoformat()}
    await api.call_back(job, "done", done)
    return job, began


async def test_what_came_late_is_true_and_was_not_believed(api: Api, late: Any) -> None:
    job, began = late
    path = f"/v1/jobs/{job['id']}"
    then: dict[str, str | int] = {"as_of": (began + timedelta(microseconds=2)).isoformat()}

    believed = (await api.get(path, **then)).json
    recorded = (await api.get(path, **then, view="recorded")).json
    true = (await api.get(path, **then, view="occurred")).json

    assert believed == recorded
    assert (believed["status"], believed["progress"]["epoch"]) == ("running", 1)
    assert (believed["health"]["verdict"], true["health"]["verdict"]) == ("healthy", "not_running")
    assert (true["status"], true["progress"]["epoch"]) == ("succeeded", 2)
    assert _time(true["completed_at"]) == began + timedelta(microseconds=2)


async def test_the_story_and_the_reasons_have_both_views(api: Api, late: Any) -> None:
    job, began = late
    then: dict[str, str | int] = {"as_of": (began + timedelta(microseconds=1)).isoformat()}

    for view, epoch in (("recorded", 1), ("occurred", 2)):
        path = f"/v1/jobs/{job['id']}"
        story = (await api.get(f"{path}/timeline", **then, view=view)).json
        why = (await api.get(f"{path}/explain", **then, view=view)).json
        assert (story["job"]["progress"]["epoch"], why["status"]) == (epoch, "running")
        assert story["attempts"][0]["outcome"] is None


async def test_the_whole_story_is_told_as_it_happened(api: Api, late: Any) -> None:
    job, began = late

    story = (await api.get(f"/v1/jobs/{job['id']}/timeline", view="occurred")).json
    now = (await api.get(f"/v1/jobs/{job['id']}", view="occurred")).json

    assert story["job"] == now
    assert (now["status"], _time(now["completed_at"])) == (
        ("succeeded", began + timedelta(microseconds=2))
    )
    assert story["attempts"][0]["phases"][-1]["seconds"] == pytest.approx(2e-6)


async def test_before_its_creation_there_is_no_job_in_either_view(api: Api, late: Any) -> None:
    job, began = late
    for view in ("recorded", "occurred"):
        query: dict[str, str | int] = {"as_of": (began - MINUTE).isoformat(), "view": view}
        answer = await api.get(f"/v1/jobs/{job['id']}", **query)
        assert (answer.status, answer.json["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("view", ["", "/timeline", "/explain"])
async def test_a_position_says_nothing_of_what_had_happened(api: Api, view: str) -> None:
    answer = await api.get(f"/v1/jobs/1{view}", as_of=1, view="occurred")

    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "as_of")
    assert answer.json["detail"] == (
        "view=occurred needs a time as as_of: a position says when something was recorded,"
        " not when it happened."
    )


async def test_a_process_was_dead_before_anybody_saw_it(start_service: StartService) -> None:
    api = await start_service()
    log = api.service.instance.log
    job = await api.create_job()
    launched = Enqueue(
        attempt=1, reason="submitted", message="Asked.", executor="kubernetes", place="elsewhere"
    )
    await log.handle(job["id"], launched)
    await api.call_back(job, "heartbeat", {"epoch": 1})
    died = _time((await api.events(job))[-1]["recorded_at"]) + timedelta(microseconds=1)
    await log.handle(job["id"], Observe(attempt=1, sighting=Gone(signal=9, at=died)))

    path, then = f"/v1/jobs/{job['id']}", died.isoformat()
    believed = (await api.get(path, as_of=then)).json
    true = (await api.get(path, as_of=then, view="occurred")).json
    story = (await api.get(f"{path}/timeline", as_of=then, view="occurred")).json

    assert (believed["status"], believed["health"]["verdict"]) == ("running", "healthy")
    assert (true["status"], true["health"]["verdict"]) == ("running", "not_running")
    assert story["attempts"][0]["phases"][-1]["phase"] == "exited"
    assert _time(story["attempts"][0]["phases"][-1]["from"]) == died
    assert (await api.events(job, "exited"))[0]["occurred_at"] == (
        died.isoformat().replace("+00:00", "Z")
    )
