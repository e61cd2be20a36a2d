"""Kill -9 in the middle of a real training: of the service, and of the trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import ServiceProcess

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]

EPOCHS = 4
FINAL = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess(EPOCHLOG_TRAINER_COMMAND="", EPOCHLOG_RETRY_BACKOFF="0.5") as process:
        datasets = process.state / "storage" / "datasets"
        datasets.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-m", "trainer.shapes", str(datasets / "shapes.zip"), "--size", "96"],
            check=True,
        )
        process.start()
        yield process


def submit(service: ServiceProcess, **fields: Any) -> Any:
    job = {
        "dataset_id": "shapes",
        "model_name": "yolov8n",
        "epochs": EPOCHS,
        "imgsz": 96,
        "batch": 16,
        **fields,
    }
    return service.call("POST", "/v1/jobs", job)


def wait_for_checkpoint(service: ServiceProcess, job: Any) -> Any:
    """Wait until the first epoch's checkpoint is in the log; the trainer's pid then."""
    service.wait_for_trainer_event(job["id"], "checkpoint_saved", within=180)
    running = service.wait_for_event(job["id"], "running")
    return int(running["data"]["handle"].removeprefix("pid "))


def epochs_of(service: ServiceProcess, job: Any) -> list[list[int]]:
    """Return the epochs that each attempt reported."""
    timeline = service.call("GET", f"/v1/jobs/{job['id']}/timeline")
    assert all(attempt["gaps"] == [] for attempt in timeline["attempts"][-1:])
    return [[item["epoch"] for item in attempt["epochs"]] for attempt in timeline["attempts"]]


def test_a_training_survives_the_service(service: ServiceProcess) -> None:
    job = submit(service)
    wait_for_checkpoint(service, job)
    service.kill()
    service.start()

    job = service.wait_for(job["id"], *FINAL, within=180)

    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    assert epochs_of(service, job) == [list(range(1, EPOCHS + 1))]
    events = service.events(job["id"])
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["event_id"] for event in events}) == len(events)
    assert "adopted" in [event["type"] for event in events]


def test_a_killed_trainer_is_retried_from_its_checkpoint(service: ServiceProcess) -> None:
    job = submit(service)
    os.kill(wait_for_checkpoint(service, job), signal.SIGKILL)

    job = service.wait_for(job["id"], *FINAL, within=240)

    assert (job["status"], job["attempt"], job["retry_count"]) == ("succeeded", 2, 1)
    first, second = epochs_of(service, job)
    assert sorted({*first, *second}) == list(range(1, EPOCHS + 1))
    assert second[0] > 1, "attempt 2 goes on where the checkpoint ends"
    retry = service.wait_for_event(job["id"], "retry_scheduled")
    assert f"/checkpoints/job-{job['id']}/attempt-1/checkpoint-" in retry["data"]["checkpoint"]


def test_without_retries_a_killed_trainer_fails_the_job(service: ServiceProcess) -> None:
    job = submit(service, max_retries=0)
    service.wait_for(job["id"], "running")
    running = service.wait_for_event(job["id"], "running")
    os.kill(int(running["data"]["handle"].removeprefix("pid ")), signal.SIGKILL)

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["reason"]["code"]) == ("failed", "killed")
    assert "signal 9" in job["reason"]["message"]
