from dataclasses import replace

import pytest

from projections.consequences import next_decision, retry_delay
from projections.events import (
    AttemptFailed,
    Done,
    Failed,
    FailureClass,
    Heartbeat,
    RetryScheduled,
    TrainerEvent,
)
from projections.job import JobState, JobStatus
from projections.policy import Moment
from projections.sighting import Gone
from tests.given import CREATED, POLICY, Given, a_running_job, a_submitted_job, at

NO_RETRIES = replace(CREATED, max_retries=0)
ONE_RETRY = replace(CREATED, max_retries=1)
IMPATIENT = replace(POLICY, queue_timeout=60)
LOST = Gone(machine_lost=True, message="The node is gone.")


def failure_of(job: Given) -> AttemptFailed:
    event = job.last("attempt_failed").event
    assert isinstance(event, AttemptFailed)
    return event


def retry_of(job: Given) -> RetryScheduled:
    event = job.last("retry_scheduled").event
    assert isinstance(event, RetryScheduled)
    return event


def counted(job: Given) -> tuple[str, int, int, int]:
    state = job.state
    return state.status, state.attempt, state.retry_count, state.interruptions


# Success


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(Given(), id="a pending job"),
        pytest.param(a_submitted_job(), id="a queued job"),
        pytest.param(a_running_job(), id="a running job"),
        pytest.param(a_running_job().gone(0, at=9), id="an exit 0 before it"),
        pytest.param(a_running_job().gone(1, at=9), id="an exit 1 before it"),
        pytest.param(a_running_job().gone(signal=9, at=9), id="a kill before it"),
        pytest.param(a_running_job().tick(at=600), id="a stop of the silent trainer"),
    ],
)
def test_an_authentic_done_of_the_current_attempt_decides_success(job: Given) -> None:
    job.done("succeeded")

    assert (job.status, job.reason) == ("succeeded", "done")


def test_nothing_but_a_done_decides_success() -> None:
    job = a_running_job().hears(Heartbeat(epoch=10, progress=1.0), at=5).gone(0, at=10)

    assert job.tick(at=129).status == "running"
    job.tick(at=130)

    assert failure_of(job).reason == "exited_without_result"
    assert (job.status, job.reason) == ("queued", "retry_scheduled")


def test_a_done_within_the_grace_wins_over_the_exit() -> None:
    job = a_running_job().gone(0, at=10).tick(at=129)

    assert job.done("succeeded", at=129.5).status == "succeeded"


def test_a_done_after_the_grace_is_too_late() -> None:
    job = a_running_job(NO_RETRIES).gone(0, at=10).tick(at=130)

    job.done("succeeded", at=131)

    assert (job.status, job.reason) == ("failed", "exited_without_result")


# Failure


@pytest.mark.parametrize(
    ("error", "reason", "failure_class"),
    [
        ({"code": "out_of_memory", "retryable": True}, "out_of_memory", "retryable"),
        ({"code": "out_of_memory"}, "out_of_memory", "retryable"),
        ({"code": "dataset_missing", "retryable": False}, "dataset_missing", "fatal"),
        ({"code": "terminated", "retryable": True}, "terminated", "interruption"),
        ({"code": "terminated", "retryable": False}, "terminated", "fatal"),
        ({"code": 7, "message": ["x"], "retryable": "no"}, "trainer_failed", "retryable"),
        ({}, "trainer_failed", "retryable"),
    ],
    ids=[
        "retryable",
        "it does not say",
        "fatal",
        "by a signal from outside",
        "by a signal, fatal",
        "nonsense",
        "no error",
    ],
)
def test_what_a_reported_failure_means(
    error: dict[str, object], reason: str, failure_class: str
) -> None:
    job = a_running_job().hears(Done(status="failed", error=error or None))

    failure = failure_of(job)
    assert (failure.reason, failure.failure_class) == (reason, failure_class)


@pytest.mark.parametrize(
    ("seen", "reason", "failure_class"),
    [
        (Gone(exit_code=1), "exit_nonzero", "retryable"),
        (Gone(exit_code=0), "exited_without_result", "retryable"),
        (Gone(signal=9), "killed", "retryable"),
        (Gone(exit_code=137), "killed", "retryable"),
        (Gone(signal=15), "terminated", "interruption"),
        (Gone(exit_code=143), "terminated", "interruption"),
        (Gone(), "vanished", "retryable"),
        (LOST, "machine_lost", "interruption"),
        (Gone(refused=True, message="No such image."), "launch_refused", "fatal"),
    ],
    ids=[
        "exit 1",
        "exit 0",
        "SIGKILL",
        "SIGKILL as a shell says it",
        "SIGTERM",
        "SIGTERM as a shell says it",
        "unseen end",
        "machine",
        "refused",
    ],
)
def test_what_an_end_without_a_done_means(seen: Gone, reason: str, failure_class: str) -> None:
    job = a_running_job().sees(seen, at=10).tick(at=130)

    failure = failure_of(job)
    assert (failure.reason, failure.failure_class) == (reason, failure_class)
    assert failure.because == tuple(job.positions("exited"))
    assert (failure.exit_code, failure.signal) == (seen.exit_code, seen.signal)


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (LOST, "The node is gone."),
        (Gone(machine_lost=True), "The machine went away under the training."),
        (Gone(message="Its keeper died."), "Its keeper died."),
        (Gone(), "The process is gone and nobody saw its end."),
        (
            Gone(exit_code=1, message="OOMKilled"),
            "The process ended with exit code 1: OOMKilled",
        ),
        (Gone(exit_code=1), "The process ended with exit code 1."),
    ],
)
def test_who_saw_the_end_says_it_best(seen: Gone, message: str) -> None:
    job = a_running_job().sees(seen, at=10).tick(at=12)

    assert failure_of(job).message == message


def test_an_exit_waits_a_moment_for_a_report_under_way() -> None:
    job = a_running_job().gone(1, at=10).tick(at=11)
    assert job.status == "running"

    job.done("failed", at=11.5, code="dataset_missing", retryable=False)

    assert (job.status, job.reason) == ("failed", "dataset_missing")


def test_a_failure_that_would_come_again_is_not_retried() -> None:
    job = a_running_job().done("failed", code="dataset_missing", retryable=False)

    failed = job.last("failed").event
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.why) == ("dataset_missing", "not_retryable")
    assert counted(job) == ("failed", 1, 0, 0)


# The retry budget


def test_a_retry_is_an_event_with_everything_it_was_decided_from() -> None:
    saved = TrainerEvent(type="checkpoint_saved", data={"epoch": 3, "uri": "s3://b/last.pt"})
    job = a_running_job().hears(saved).done("failed", code="oom", message="Out of memory.", at=5)

    assert retry_of(job) == RetryScheduled(
        reason="retry_scheduled",
        message="Attempt 2 follows, from s3://b/last.pt: Out of memory.",
        failure_class=FailureClass.RETRYABLE,
        next_attempt=2,
        retry_count_before=0,
        retry_count_after=1,
        max_retries=3,
        interruptions_before=0,
        interruptions_after=0,
        max_interruptions=10,
        delay_seconds=30,
        checkpoint="s3://b/last.pt",
        because=tuple(job.positions("done", "attempt_failed")),
    )
    assert counted(job) == ("queued", 2, 1, 0)
    assert job.last("retry_scheduled").attempt == 1


def test_the_retry_budget_is_spent_and_then_the_job_fails() -> None:
    job = a_running_job(ONE_RETRY).done("failed", code="first")

    job.done("failed", code="second")

    assert counted(job) == ("failed", 2, 1, 0)
    assert (job.reason, job.state.rule) == ("second", "retries_spent")


def test_no_retries_means_one_attempt() -> None:
    job = a_running_job(NO_RETRIES).done("failed", code="oom")

    assert counted(job) == ("failed", 1, 0, 0)


def test_lost_infrastructure_is_not_charged_to_the_retries() -> None:
    job = a_running_job(NO_RETRIES).sees(LOST, at=10).tick(at=12)

    assert counted(job) == ("queued", 2, 0, 1)
    assert retry_of(job).failure_class is FailureClass.INTERRUPTION


def test_a_job_that_is_lost_too_often_fails() -> None:
    job = a_running_job(policy=replace(POLICY, max_interruptions=1)).sees(LOST).tick(at=2)

    job.submitted().sees(LOST).tick(at=9)

    assert counted(job) == ("failed", 2, 0, 1)
    assert (job.reason, job.state.rule) == ("machine_lost", "interruptions_spent")


@pytest.mark.parametrize(
    ("tries", "seconds"), [(0, 30), (1, 60), (2, 120), (4, 480), (5, 600), (10_000, 600)]
)
def test_the_wait_doubles_with_each_try_up_to_a_cap(tries: int, seconds: float) -> None:
    assert retry_delay(tries, POLICY) == seconds


def test_interruptions_lengthen_the_wait_as_retries_do() -> None:
    job = a_running_job().sees(LOST).tick(at=2).done("failed")

    assert retry_of(job).delay_seconds == 60
    assert job.state.retry_delay == 60


# The first cause, and the end


def test_the_first_cause_of_a_failure_stays_its_reason() -> None:
    job = a_running_job(NO_RETRIES).gone(signal=9, at=10).tick(at=12)

    job.done("failed", code="oom", at=13).done("succeeded", at=14).tick(at=10_000)

    assert (job.status, job.reason) == ("failed", "killed")


def test_an_earlier_attempt_cannot_fail_the_one_that_follows_it() -> None:
    job = a_running_job().done("failed", at=1).submitted(at=31)

    job.done("failed", attempt=1, retryable=False).gone(1, attempt=1, at=32).tick(at=40)

    assert counted(job) == ("queued", 2, 1, 0)


@pytest.mark.parametrize("status", [s for s in JobStatus if s.is_final])
def test_nothing_follows_from_the_end(status: JobStatus) -> None:
    state = replace(a_running_job().cancel().gone(1, at=1).state, status=status)

    assert next_decision(state, Moment(now=at(1e9)), IMPATIENT) is None


def test_nothing_follows_from_nothing() -> None:
    assert next_decision(JobState(), Moment(now=at(1e9)), IMPATIENT) is None
