"""Jobs on the local executor, in every way that they can go: real processes, short timers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.processes import ServiceProcess

FINAL = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess(
        EPOCHLOG_LOCAL_SLOTS="8",
        EPOCHLOG_HEARTBEAT_TIMEOUT="2",
        EPOCHLOG_CANCEL_GRACE="1",
        EPOCHLOG_STOP_GRACE="1",
        EPOCHLOG_DONE_GRACE="1",
        EPOCHLOG_RETRY_BACKOFF="0.1",
    ) as process:
        process.start()
        yield process


def types_of(service: ServiceProcess, job: Any) -> list[str]:
    return [event["type"] for event in service.events(job["id"])]


def pid_of(service: ServiceProcess, job: Any) -> int:
    """Return the trainer's process, from the event that saw it alive."""
    for event in service.events(job["id"]):
        if event["type"] == "running":
            return int(event["data"]["handle"].removeprefix("pid "))
    raise AssertionError("never seen alive")


def test_a_trainer_that_exits_badly_is_retried_from_its_checkpoint(
    service: ServiceProcess,
) -> None:
    job = service.submit(params={"exit_after": 2, "exit_code": 3})

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["attempt"], job["retry_count"]) == ("succeeded", 2, 1)
    attempts = service.call("GET", f"/v1/jobs/{job['id']}/timeline")["attempts"]
    assert [epoch["epoch"] for epoch in attempts[0]["epochs"]] == [1, 2]
    assert [epoch["epoch"] for epoch in attempts[1]["epochs"]] == [3, 4, 5]
    assert (attempts[0]["outcome"], attempts[0]["reason"]["code"]) == ("failed", "exit_nonzero")


def test_without_retries_a_bad_exit_fails_the_job_with_what_it_printed_last(
    service: ServiceProcess,
) -> None:
    job = service.submit(max_retries=0, params={"seconds": "not a number"})

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["reason"]["code"]) == ("failed", "exit_nonzero")
    assert "TypeError" in job["reason"]["message"]
    assert "evidence" in types_of(service, job)
    why = service.call("GET", f"/v1/jobs/{job['id']}/explain")
    assert [item["type"] for item in why["because"]] == ["exited", "attempt_failed", "failed"]
    assert why["rule"] == "retries_spent"


def test_an_exit_0_without_a_result_is_no_success(service: ServiceProcess) -> None:
    job = service.submit(max_retries=0, params={"exit_after": 1, "exit_code": 0})

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["reason"]["code"]) == ("failed", "exited_without_result")


def test_a_killed_trainer_is_noticed_and_retried(service: ServiceProcess) -> None:
    job = service.submit(params={"seconds": 0.3})
    service.wait_for(job["id"], "running")
    os.kill(pid_of(service, job), signal.SIGKILL)

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    failed = next(e for e in service.events(job["id"]) if e["type"] == "attempt_failed")
    assert (failed["data"]["reason"], failed["data"]["signal"]) == ("killed", 9)


def test_a_cancel_is_told_to_the_trainer_which_ends_by_itself(service: ServiceProcess) -> None:
    job = service.submit(epochs=1000, params={"seconds": 0.05})
    service.wait_for(job["id"], "running")
    service.call("POST", f"/v1/jobs/{job['id']}/cancel", {"reason": "not needed"})

    job = service.wait_for(job["id"], *FINAL)

    assert job["status"] == "cancelled"
    types = types_of(service, job)
    asked, told, gone = (types.index(t) for t in ("cancel_requested", "cancel_delivered", "exited"))
    assert asked < told < gone < types.index("cancelled")
    assert "stop_requested" not in types


def test_a_cancel_that_the_trainer_does_not_hear_ends_its_process(
    service: ServiceProcess,
) -> None:
    job = service.submit(epochs=1, params={"seconds": 600})
    service.wait_for(job["id"], "running")
    pid = pid_of(service, job)
    service.call("POST", f"/v1/jobs/{job['id']}/cancel")

    job = service.wait_for(job["id"], *FINAL)

    assert job["status"] == "cancelled"
    assert "stop_requested" in types_of(service, job)
    assert not psutil.pid_exists(pid)


def test_a_silent_trainer_is_stopped_and_then_retried(service: ServiceProcess) -> None:
    job = service.submit(epochs=1, max_retries=0, params={"hang": True})

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["reason"]["code"]) == ("failed", "heartbeat_lost")
    types = types_of(service, job)
    silent, stop, gone = (
        types.index(t) for t in ("health_changed", "stop_requested", "attempt_failed")
    )
    assert silent < stop < gone
    assert not psutil.pid_exists(pid_of(service, job))


def test_a_frozen_trainer_that_ignores_every_signal_is_ended(service: ServiceProcess) -> None:
    job = service.submit(epochs=1000, max_retries=0, params={"seconds": 0.1})
    service.wait_for(job["id"], "running")
    os.kill(pid_of(service, job), signal.SIGSTOP)

    job = service.wait_for(job["id"], *FINAL)

    assert (job["status"], job["reason"]["code"]) == ("failed", "heartbeat_lost")
    assert not psutil.pid_exists(pid_of(service, job))


def test_a_process_that_outlives_its_success_is_ended_and_changes_nothing(
    service: ServiceProcess,
) -> None:
    job = service.submit(epochs=1, params={"linger": 600})

    job = service.wait_for(job["id"], *FINAL)
    exited = service.wait_for_event(job["id"], "exited")

    assert exited["data"]["signal"] == signal.SIGTERM
    assert service.job(job["id"])["status"] == "succeeded"
    conflicts = service.call("GET", f"/v1/jobs/{job['id']}/explain")["conflicts"]
    assert [item["verdict"] for item in conflicts] == ["succeeded"]


def test_the_logs_of_each_attempt_can_be_read(service: ServiceProcess) -> None:
    job = service.submit(max_retries=0, params={"seconds": "not a number"})
    service.wait_for(job["id"], *FINAL)

    log = service.text(f"/v1/jobs/{job['id']}/logs?attempt=1&tail=1")

    assert log.startswith("TypeError")
    assert len(log.splitlines()) == 1


def test_jobs_beyond_the_slots_wait_and_say_why() -> None:
    with ServiceProcess() as service:
        service.start()
        first = service.submit(epochs=1000, params={"seconds": 0.1})
        service.wait_for(first["id"], "running")
        second = service.submit(epochs=1)

        waiting = service.wait_for(second["id"], "queued")
        assert waiting["reason"]["code"] == "waiting_for_slot"
        service.call("POST", f"/v1/jobs/{first['id']}/cancel")

        assert service.wait_for(second["id"], *FINAL)["status"] == "succeeded"
        assert service.job(first["id"])["status"] == "cancelled"


def test_a_stopped_service_leaves_the_training_alone_and_takes_it_over_again() -> None:
    with ServiceProcess() as service:
        service.start()
        job = service.submit(epochs=60, params={"seconds": 0.1})
        service.wait_for(job["id"], "running")

        assert service.stop() == 0
        assert psutil.pid_exists(int(service.notes("launches")[0].split()[1]))
        service.start()

        assert service.wait_for(job["id"], *FINAL)["status"] == "succeeded"
        assert "adopted" in types_of(service, job)
        assert len(service.notes("launches")) == 1
