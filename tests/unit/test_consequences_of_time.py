from dataclasses import replace

import pytest

from projections.events import (
    AttemptFailed,
    Created,
    HealthChanged,
    Heartbeat,
    Queued,
    StopRequested,
)
from projections.sighting import Gone, Unreachable
from tests.given import CREATED, POLICY, Given, a_running_job, a_submitted_job, an_external_job, at

IMPATIENT = replace(POLICY, queue_timeout=60)


def failure_of(job: Given) -> AttemptFailed:
    event = job.last("attempt_failed").event
    assert isinstance(event, AttemptFailed)
    return event


def counted(job: Given) -> tuple[str, int, int, int]:
    state = job.state
    return state.status, state.attempt, state.retry_count, state.interruptions


# Silence


def test_silence_is_first_a_verdict_and_no_change_of_status() -> None:
    job = a_running_job().tick(at=300)

    verdict = job.last("health_changed").event
    assert isinstance(verdict, HealthChanged)
    assert (verdict.previous, verdict.verdict) == ("healthy", "silent")
    assert (verdict.timeout_seconds, verdict.alive_at) == (300, at(0).isoformat())
    assert job.status == "running"


def test_a_verdict_is_recorded_once_and_so_is_its_end() -> None:
    job = a_running_job().tick(at=300).tick(at=301).hears(Heartbeat(), at=302).tick(at=303)

    verdicts = [r.event.verdict for r in job.records if isinstance(r.event, HealthChanged)]
    assert verdicts == ["silent", "healthy"]


def test_twice_the_silence_has_the_executor_told_to_stop_it() -> None:
    job = a_running_job().tick(at=599)
    assert "stop_requested" not in job.types()

    job.tick(at=600).tick(at=601)

    assert job.types().count("stop_requested") == 1
    assert (job.status, job.types()[-1]) == ("running", "stop_requested")


def test_a_stopped_trainer_that_is_seen_gone_was_lost_by_its_silence() -> None:
    job = a_running_job().tick(at=600).gone(signal=15, at=603).tick(at=605)

    failure = failure_of(job)
    assert (failure.reason, failure.failure_class) == ("heartbeat_lost", "retryable")
    assert failure.because == tuple(job.positions("stop_requested", "exited"))
    assert counted(job) == ("queued", 2, 1, 0)


@pytest.mark.parametrize("by_report", [True, False], ids=["its own word", "seen gone"])
def test_a_stopped_trainer_that_says_it_was_terminated_was_not_interrupted(
    by_report: bool,
) -> None:
    job = a_running_job().tick(at=600)

    job.done("failed", code="terminated", at=601) if by_report else job.gone(143, at=601)

    assert failure_of(job.tick(at=603)).reason == "heartbeat_lost"
    assert counted(job) == ("queued", 2, 1, 0)


def test_a_stop_that_nobody_sees_work_is_given_up() -> None:
    job = a_running_job().tick(at=600).tick(at=659)
    assert job.status == "running"

    job.tick(at=660)

    assert (failure_of(job).reason, job.status) == ("heartbeat_lost", "queued")
    assert job.state.releasing == 1


def test_a_trainer_of_somebody_else_is_lost_by_its_silence_alone() -> None:
    job = an_external_job().tick(at=599)
    assert job.status == "running"

    job.tick(at=600)

    assert "stop_requested" not in job.types()
    assert counted(job) == ("queued", 2, 1, 0)
    assert failure_of(job).reason == "heartbeat_lost"


@pytest.mark.parametrize(
    ("gone_at", "reason"), [(299, "killed"), (300, "heartbeat_lost"), (450, "heartbeat_lost")]
)
def test_a_kill_after_a_silence_is_a_lost_heartbeat(gone_at: float, reason: str) -> None:
    job = a_running_job().gone(signal=9, at=gone_at).tick(at=gone_at + 2)

    assert failure_of(job).reason == reason


def test_an_end_that_nobody_saw_after_a_silence_is_a_lost_heartbeat() -> None:
    assert failure_of(a_running_job().gone(at=450).tick(at=452)).reason == "heartbeat_lost"


def test_an_exit_code_says_more_than_the_silence_before_it() -> None:
    job = a_running_job().gone(1, at=450).tick(at=452)

    assert failure_of(job).reason == "exit_nonzero"


def test_silence_while_nobody_listened_is_not_counted() -> None:
    job = a_running_job()
    job.listening_since = 5000

    job.tick(at=5001).tick(at=5599)

    assert (job.status, "stop_requested" in job.types()) == ("running", False)
    assert job.tick(at=5600).types()[-1] == "stop_requested"


def test_an_unreachable_executor_changes_no_status() -> None:
    job = a_running_job()
    job.unreachable = True

    job.sees(Unreachable(message="timeout"), at=10).tick(at=10_000)

    assert job.types()[-1] == "health_changed"
    assert (job.status, job.health.verdict) == ("running", "unreachable")


def test_a_stop_is_not_given_up_while_the_executor_cannot_be_asked() -> None:
    job = a_running_job().tick(at=600)
    job.unreachable = True

    assert job.tick(at=10_000).status == "running"


def test_a_job_that_waits_is_never_silent() -> None:
    assert a_submitted_job().tick(at=100_000).status == "queued"


# The queue timeout


def test_without_a_queue_timeout_a_job_waits_for_ever() -> None:
    assert Given().tick(at=1e9).status == "pending"


def waiting(created: Created = CREATED) -> Given:
    """It waits for somebody else to start its trainer."""
    waits = Queued(reason="waiting_for_trainer", message="Nobody has started it.")
    return Given(created, policy=IMPATIENT).holds(waits)


def test_a_job_that_waits_too_long_fails_for_good() -> None:
    job = waiting().tick(at=59)
    assert job.status == "queued"

    job.tick(at=60)

    assert counted(job) == ("failed", 1, 0, 0)
    assert (job.reason, job.state.rule) == ("queue_timeout", "queue_timeout")
    assert "Nobody has started it." in job.state.reason.message


def test_the_wait_before_a_retry_is_not_charged_to_the_queue() -> None:
    job = waiting().done("failed", at=10)

    assert job.tick(at=99).status == "queued"
    assert job.tick(at=100).reason == "queue_timeout"


def test_what_the_executor_holds_is_stopped_before_it_times_out() -> None:
    job = a_submitted_job(policy=IMPATIENT).tick(at=60)
    assert (job.status, job.types()[-1]) == ("queued", "stop_requested")

    job.sees(Gone(message="It was never started."), at=61).tick(at=63)

    assert (job.status, job.reason) == ("failed", "queue_timeout")


def test_an_executor_that_cannot_be_asked_may_have_started_it_in_time() -> None:
    job = a_submitted_job(policy=IMPATIENT)
    job.unreachable = True

    assert "stop_requested" not in job.tick(at=60).types()


def test_a_running_job_has_no_queue_timeout() -> None:
    assert a_running_job(policy=IMPATIENT).tick(at=100).status == "running"


def test_a_suspended_job_waits_from_its_suspension_on() -> None:
    job = a_running_job(policy=IMPATIENT).tick(at=200)
    job.holds(Queued(reason="suspended", message="The cluster suspended it."))

    assert "stop_requested" not in job.tick(at=259).types()
    stop = job.tick(at=260).last("stop_requested").event
    assert isinstance(stop, StopRequested)
    assert stop.reason == "queue_timeout"


def test_a_refused_start_is_not_stopped_for_its_wait() -> None:
    job = a_submitted_job(policy=IMPATIENT)

    job.sees(Gone(refused=True, message="No such image."), at=59).tick(at=60).tick(at=61)

    assert "stop_requested" not in job.types()
    assert (job.status, job.reason) == ("failed", "launch_refused")
