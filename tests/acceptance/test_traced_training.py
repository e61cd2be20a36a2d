"""A real training, launched by a traced service: its callbacks lie in the epochs they speak of."""

from __future__ import annotations

import subprocess
import sys
from uuid import UUID

import pytest

from projections.spans import attempt_span_id, epoch_span_id, job_span_id
from tests.collector import SERVER, Collector
from tests.processes import ServiceProcess

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

JOB = {
    "dataset_id": "shapes",
    "model_name": "yolov8n",
    "epochs": 2,
    "imgsz": 64,
    "batch": 16,
}


def test_a_training_is_one_tree_from_the_job_to_the_append_of_a_callback() -> None:
    with (
        Collector() as collector,
        ServiceProcess(EPOCHLOG_TRAINER_COMMAND="", **collector.variables) as service,
    ):
        datasets = service.state / "storage" / "datasets"
        datasets.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-m", "trainer.shapes", str(datasets / "shapes.zip"), "--size", "64"],
            check=True,
        )
        service.start()
        job = service.call("POST", "/v1/jobs", JOB)
        over = service.wait_for(job["id"], "succeeded", "failed", within=240)
        collector.wait_for("job")
    trace = job["trace_id"]
    attempt = attempt_span_id(trace, 1)
    epochs = [epoch_span_id(trace, 1, epoch) for epoch in (1, 2)]
    spans = {one.span_id: one for one in collector.spans if one.trace_id == UUID(trace).hex}
    requests = [one for one in spans.values() if one.kind == SERVER]

    assert over["status"] == "succeeded"
    assert {one.service for one in collector.spans} == {"epochlog-service", "epochlog-trainer"}
    assert spans[attempt].parent_id == job_span_id(trace)
    assert [spans[epoch].parent_id for epoch in epochs] == [attempt, attempt]
    assert all(spans[epoch].attributes["epochlog.metrics.mAP50"] >= 0 for epoch in epochs)
    phases = {one.name for one in spans.values() if one.parent_id == attempt}
    assert {"fetch_dataset", "prepare", "train", "upload"} <= phases
    assert {one.parent_id for one in requests} == {attempt, *epochs, job_span_id(trace)}
    appends = {one.parent_id for one in spans.values() if one.name == "append"}
    told = ("/heartbeat", "/event", "/callbacks", "/done")
    assert {one.span_id for one in requests if one.name.endswith(told)} <= appends
    assert any(one.name.endswith(told) for one in requests)
    assert all(one.parent_id in spans for one in spans.values() if one.parent_id)
