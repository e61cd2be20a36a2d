"""Everything that can break around a training breaks, and its story is still whole."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cutting_proxy import CuttingProxy
from tests.processes import ServiceProcess
from tests.s3 import KEY, SECRET, s3_server

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(900)]

EPOCHS = 24
BUCKET = "trainings"
TOKEN_SECONDS = 3.0
MEBIBYTE = 1024 * 1024
FINAL = ("succeeded", "failed", "cancelled")
JOB = {"dataset_id": "shapes", "model_name": "yolov8n", "epochs": EPOCHS, "imgsz": 96, "batch": 8}


class Story:
    """One service, one bucket behind a line that can be cut, and what their trainer wrote."""

    def __init__(self, service: ServiceProcess, line: CuttingProxy, bucket: Path) -> None:
        self.service, self.line, self.bucket = service, line, bucket

    def log(self, job: Any, attempt: int) -> str:
        """Return what the trainer wrote; it is there while the service is not."""
        path = self.service.state / "logs" / f"job-{job['id']}" / f"attempt-{attempt}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until(self, true: Callable[[], object], within: float = 240.0) -> None:
        """Poll until it is so."""
        end = time.monotonic() + within
        while not true():
            assert time.monotonic() < end, self.service.log()[-4000:]
            time.sleep(0.05)

    def checkpoints(self, job: Any) -> list[Any]:
        return [
            event
            for event in self.service.events(job["id"])
            if event["data"].get("type") == "checkpoint_saved"
        ]

    def object_at(self, uri: str) -> bytes:
        return (self.bucket / uri.removeprefix(f"s3://{BUCKET}/")).read_bytes()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    bucket = tmp_path / "buckets" / BUCKET
    datasets = bucket / "datasets"
    datasets.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "trainer.shapes", str(datasets / "shapes.zip"), "--size", "96"],
        check=True,
    )
    with s3_server(bucket.parent) as url, CuttingProxy(url) as line:
        settings = {
            "EPOCHLOG_TRAINER_COMMAND": "",
            "EPOCHLOG_STORAGE_TYPE": "s3",
            "EPOCHLOG_STORAGE_ACCESS": "presigned",
            "EPOCHLOG_BUCKET": BUCKET,
            "EPOCHLOG_S3_ENDPOINT": line.url,
            "R2_ACCESS_KEY_ID": KEY,
            "R2_SECRET_ACCESS_KEY": SECRET,
            "EPOCHLOG_TOKEN_TTL": str(TOKEN_SECONDS),
            "EPOCHLOG_HEARTBEAT_SECONDS": "0.5",
            "EPOCHLOG_RETRY_BACKOFF": "0.5",
        }
        with ServiceProcess(**settings) as service:
            service.start()
            yield Story(service, line, bucket)


def test_service_store_token_and_trainer_fail_and_every_epoch_is_told_once(story: Story) -> None:
    service, line = story.service, story.line
    line.cuts = [20_000, 60_000]  # while the data set is fetched

    job = service.call("POST", "/v1/jobs", JOB)
    story.wait_until(lambda: story.checkpoints(job))

    # The service is away for part of the training, and for longer than a token lives.
    last = len(story.checkpoints(job))
    service.kill()
    away = time.monotonic()
    story.wait_until(lambda: f"epoch {last + 2} of" in story.log(job, 1))
    story.wait_until(lambda: time.monotonic() > away + TOKEN_SECONDS + 1)
    assert "callbacks wait" in story.log(job, 1)
    service.start()
    story.wait_until(lambda: len(story.checkpoints(job)) > last)

    # The line to the store breaks in the middle of checkpoints, and the trainer is killed.
    line.every = MEBIBYTE
    before = line.cut
    story.wait_until(lambda: line.cut >= before + 2)
    running = service.wait_for_event(job["id"], "running")
    os.kill(int(running["data"]["handle"].removeprefix("pid ")), signal.SIGKILL)
    line.every = None

    job = service.wait_for(job["id"], *FINAL, within=400)

    assert (job["status"], job["attempt"], job["retry_count"]) == ("succeeded", 2, 1), job
    timeline = service.call("GET", f"/v1/jobs/{job['id']}/timeline")
    told = [[one["epoch"] for one in attempt["epochs"]] for attempt in timeline["attempts"]]
    epochs = sorted(epoch for attempt in told for epoch in attempt)
    assert epochs == list(range(1, EPOCHS + 1)), "each epoch exactly once"
    assert told[0], "the first attempt's epochs are not trained again"
    assert [attempt["gaps"] for attempt in timeline["attempts"]] == [[], []]
    for attempt in (1, 2):
        seqs = [
            event["seq"]
            for event in service.events(job["id"])
            if event["source"] == "trainer" and event["attempt"] == attempt
        ]
        assert sorted(seqs) == list(range(1, len(seqs) + 1)), "nothing is missing or doubled"
    renewed = [event for event in service.events(job["id"]) if event["type"] == "token_issued"]
    assert renewed, "the token ended while nobody could renew it"
    (best,) = [one for one in job["artifacts"] if one["name"] == "best.pt"]
    assert hashlib.sha256(story.object_at(best["uri"])).hexdigest() == best["sha256"]
    assert best["uri"] == f"s3://{BUCKET}/checkpoints/job-{job['id']}/best.pt"
    assert line.cut >= before + 2
