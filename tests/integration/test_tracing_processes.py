"""A traced service as a process of its own: trees of whole jobs, and a collector that is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from uuid import UUID

import pytest

from projections.spans import attempt_span_id, epoch_span_id, job_span_id
from tests.collector import SERVER, Collector, Seen
from tests.processes import ServiceProcess, free_port

TRAINER = "import trainer.__main__, trainer.run, trainer.hooks, sys; print(*sys.modules)"


def the_only(spans: list[Seen]) -> Seen:
    assert len(spans) == 1, spans
    return spans[0]


def by_start(spans: list[Seen]) -> list[Seen]:
    return sorted(spans, key=lambda span: span.start)


def test_a_job_is_a_tree_of_its_attempts_and_their_epochs() -> None:
    with Collector() as collector, ServiceProcess(**collector.variables) as service:
        service.start()
        job = service.submit(epochs=3, params={"exit_after": 1})
        over = service.wait_for(job["id"], "succeeded")

        root = the_only(collector.wait_for("job"))
        attempts = by_start(collector.wait_for("attempt", 2))
        epochs = by_start(collector.wait_for("epoch", 3))

    trace = job["trace_id"]
    assert over["attempt"] == 2
    assert (root.trace_id, root.span_id, root.parent_id) == (
        UUID(trace).hex,
        job_span_id(trace),
        "",
    )
    assert root.attributes["epochlog.status"] == "succeeded"
    assert root.attributes["epochlog.attempts"] == 2
    assert [(one.span_id, one.parent_id, one.error is None) for one in attempts] == [
        (attempt_span_id(trace, 1), root.span_id, False),
        (attempt_span_id(trace, 2), root.span_id, True),
    ]
    assert [(one.span_id, one.parent_id) for one in epochs] == [
        (epoch_span_id(trace, attempt, epoch), attempt_span_id(trace, attempt))
        for attempt, epoch in ((1, 1), (2, 2), (2, 3))
    ]
    assert {one.service for one in (root, *attempts)} == {"epochlog-service"}
    assert {one.service for one in epochs} == {"epochlog-trainer"}
    assert {one.trace_id for one in (*attempts, *epochs)} == {root.trace_id}
    within = [one for one in collector.spans if one.parent_id == attempts[1].span_id]
    told = by_start([one for one in within if one.kind != SERVER])
    assert {"queued", "starting", "train", "epoch"} <= {one.name for one in told}
    assert all(attempts[1].start <= one.start <= one.end <= attempts[1].end for one in told)


def test_an_attempt_whose_trainer_was_killed_has_its_span_and_so_has_one_that_was_cancelled() -> (
    None
):
    with Collector() as collector, ServiceProcess(**collector.variables) as service:
        service.start()
        job = service.submit(epochs=1, max_retries=0, params={"hang": True})
        service.wait_for_trainer_event(job["id"], "checkpoint_saved")
        os.kill(int(service.notes("launches")[0].split()[1]), signal.SIGKILL)
        service.wait_for(job["id"], "failed")
        other = service.submit(epochs=500)
        service.wait_for(other["id"], "running")
        service.call("POST", f"/v1/jobs/{other['id']}/cancel", {})
        service.wait_for(other["id"], "cancelled")

        killed = the_only(collector.wait_for("attempt", job_id=job["id"]))
        failed = the_only(collector.wait_for("job", job_id=job["id"]))
        given_up = the_only(collector.wait_for("attempt", job_id=other["id"]))

    assert killed.error
    assert killed.error == failed.error
    assert killed.attributes["epochlog.reason"] == failed.attributes["epochlog.reason"]
    assert given_up.error is None
    assert given_up.attributes["epochlog.outcome"] == "cancelled"


def test_what_ends_just_before_the_service_stops_is_exported() -> None:
    with Collector() as collector:
        slow = {**collector.variables, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with ServiceProcess(**slow) as service:
            service.start()
            job = service.submit(epochs=1)
            service.wait_for(job["id"], "succeeded")
            assert not collector.spans
            assert service.stop() == 0
        assert len(collector.named("job")) == 1
        assert len(collector.named("epoch")) == 1


@pytest.mark.parametrize("state", ["gone", "hangs", "refuses"])
def test_a_collector_that_takes_nothing_costs_nobody_anything(state: str) -> None:
    with Collector(
        hangs=state == "hangs", refuses=503 if state == "refuses" else None
    ) as collector:
        variables = dict(collector.variables)
        if state == "gone":
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
        with ServiceProcess(**variables) as service:
            service.start()
            job = service.submit(epochs=3)
            service.wait_for(job["id"], "succeeded")
            assert service.stop() == 0
            log = service.log()
    assert log.count("spans_not_exported") <= 1
    assert "Traceback" not in log
    # One that hangs was not given up before the end.
    assert ("spans_lost" if state == "hangs" else "spans_not_exported") in log


def test_where_nobody_collects_spans_no_library_is_loaded() -> None:
    with ServiceProcess(PYTHONPROFILEIMPORTTIME="1") as service:
        service.start()
        job = service.submit(epochs=1)
        service.wait_for(job["id"], "succeeded")
        imported = service.log()
    assert "service.serving" in imported
    assert "opentelemetry" not in imported


def test_the_trainer_loads_no_library_for_its_traceparent() -> None:
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    loaded = subprocess.run(
        [sys.executable, "-c", TRAINER], env=environ, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "trainer.traceparent" in loaded
    assert not [name for name in loaded if name.startswith("opentelemetry")]


def test_a_variable_that_asks_for_what_there_is_not_stops_the_start() -> None:
    environ = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with ServiceProcess() as service:
        told = subprocess.run(
            [sys.executable, "-m", "service", "serve"],
            env={**service.environ, **environ, "EPOCHLOG_STATE_DIR": str(service.state)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert told.returncode == 1
    assert "OTEL_EXPORTER_OTLP_PROTOCOL needs to be `http/protobuf`" in told.stderr
    assert "Traceback" not in told.stderr
