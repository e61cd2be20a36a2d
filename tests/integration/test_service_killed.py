"""The service is killed with -9 at any moment: nothing is lost, doubled or forgotten."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.processes import ServiceProcess

JOBS = 3
KILLS = 6


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess(EPOCHLOG_LOCAL_SLOTS="2") as process:
        yield process


def test_a_service_killed_again_and_again_loses_and_doubles_nothing(
    service: ServiceProcess,
) -> None:
    moments = random.Random(7)  # noqa: S311 - moments, not secrets
    service.start()
    jobs = [service.submit(epochs=40, params={"seconds": 0.1})["id"] for _ in range(JOBS)]

    for _ in range(KILLS):
        time.sleep(moments.uniform(0.0, 1.5))  # the moment of the kill is what is tested
        service.kill()
        service.start()

    for job_id in jobs:
        assert service.wait_for(job_id, "succeeded", "failed")["status"] == "succeeded"
    _everything_acknowledged_is_there_once(service, jobs)
    launched = Counter(line.split()[0] for line in service.notes("launches"))
    assert launched == {f"{job_id}/1": 1 for job_id in jobs}


def test_a_kill_while_the_service_starts_does_no_harm(service: ServiceProcess) -> None:
    service.start()
    job_id = service.submit(epochs=10)["id"]
    service.kill()
    for delay in (0.1, 0.3, 0.5, 0.8, 1.1):
        service.spawn()
        time.sleep(delay)  # somewhere between locking the folder and serving
        service.kill()

    service.start()

    assert service.wait_for(job_id, "succeeded", "failed")["attempt"] == 1
    _everything_acknowledged_is_there_once(service, [job_id])


def test_the_interruption_is_visible_in_the_timeline(service: ServiceProcess) -> None:
    service.start()
    job_id = service.submit(epochs=60, params={"seconds": 0.1})["id"]
    service.wait_for(job_id, "running")
    service.kill()
    service.start()

    service.wait_for(job_id, "succeeded")

    timeline = service.call("GET", f"/v1/jobs/{job_id}/timeline")
    assert [entry["kind"] for entry in timeline["entries"]].count("adopted") == 1
    epochs = [epoch["epoch"] for epoch in timeline["attempts"][0]["epochs"]]
    assert epochs == list(range(1, 61))
    assert timeline["attempts"][0]["gaps"] == []


def test_a_job_made_just_before_the_kill_is_launched_after_the_start(
    service: ServiceProcess,
) -> None:
    service.start()
    job_id = service.submit(epochs=2)["id"]
    service.kill()
    service.start()

    assert service.wait_for(job_id, "succeeded", "failed")["status"] == "succeeded"
    assert len(service.notes("launches")) == 1


def _everything_acknowledged_is_there_once(service: ServiceProcess, jobs: list[int]) -> None:
    positions: dict[str, list[int]] = {}
    for job_id in jobs:
        events = service.events(job_id)
        assert [event["version"] for event in events] == list(range(1, len(events) + 1))
        for event in events:
            positions.setdefault(event["event_id"], []).append(event["position"])
    for line in service.notes("acknowledged"):
        event_id, position = line.split()
        assert positions[event_id] == [int(position)]
