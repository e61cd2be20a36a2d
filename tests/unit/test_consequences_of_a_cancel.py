from collections.abc import Callable
from dataclasses import replace

import pytest

from projections.events import Cancelled, Heartbeat, StopRequested
from projections.sighting import Gone
from tests.given import (
    POLICY,
    Given,
    a_running_job,
    a_submitted_job,
    an_external_job,
)


def ending_of(job: Given) -> Cancelled:
    event = job.last("cancelled").event
    assert isinstance(event, Cancelled)
    return event


# Before anything was launched


@pytest.mark.parametrize("enqueued", [False, True], ids=["pending", "queued"])
def test_a_job_that_was_never_launched_is_cancelled_at_once(enqueued: bool) -> None:
    job = Given()
    if enqueued:
        job.submitted(executor="")

    job.cancel("not needed")

    assert (job.status, job.reason) == ("cancelled", "cancelled_before_launch")
    assert job.state.rule == "never_launched"
    assert ending_of(job).because == tuple(job.positions("cancel_requested"))


def test_a_job_between_two_attempts_is_cancelled_at_once() -> None:
    job = a_running_job().gone(1, at=1).tick(at=3)

    job.cancel("not needed", at=4)

    assert (job.status, job.reason, job.state.rule) == ("cancelled",) * 2 + ("cancel_confirmed",)


def test_a_job_whose_earlier_attempt_may_still_live_waits_for_its_end() -> None:
    job = a_running_job().done("failed").cancel(at=1).tick(at=1000)
    assert job.status == "queued"

    job.gone(1, attempt=1, at=1001)

    assert (job.status, job.reason) == ("cancelled", "cancelled")


def test_a_process_that_was_only_seen_alive_counts_as_launched() -> None:
    job = Given().alive().cancel()

    assert job.status == "running"


# A process that we started


def test_a_cancelled_job_is_over_when_its_process_is_gone() -> None:
    job = a_running_job().cancel("budget", at=10)
    assert (job.status, job.types()[-1]) == ("running", "cancel_requested")

    job.hears(Heartbeat(), at=11).done("failed", code="cancelled", at=12)
    assert job.status == "running"

    job.gone(143, at=13)

    assert (job.status, job.reason) == ("cancelled", "cancelled")
    assert job.state.rule == "cancel_confirmed"
    assert job.state.reason.message == "The job was cancelled on request (budget)."
    assert ending_of(job).because == tuple(job.positions("cancel_requested", "exited"))


def test_a_process_that_heard_of_the_cancel_has_no_other_word_to_wait_for() -> None:
    job = a_running_job().cancel(at=10).hears(Heartbeat(), at=11)

    assert job.gone(0, at=12).status == "cancelled"


@pytest.mark.parametrize(
    ("exit_code", "settled"), [(0, 120), (1, 2)], ids=["by itself", "with an error"]
)
def test_a_process_that_did_not_hear_of_it_may_have_succeeded(
    exit_code: int, settled: float
) -> None:
    job = a_running_job().cancel(at=10).gone(exit_code, at=12)

    assert job.tick(at=12 + settled - 0.5).status == "running"
    assert job.tick(at=12 + settled).status == "cancelled"


def test_a_trainer_that_does_not_end_is_stopped_after_the_grace() -> None:
    job = a_running_job().cancel(at=10).tick(at=39)
    assert "stop_requested" not in job.types()

    job.tick(at=40).tick(at=41)

    stop = job.last("stop_requested").event
    assert isinstance(stop, StopRequested)
    assert (stop.reason, job.types().count("stop_requested")) == ("cancel_requested", 1)
    assert job.gone(signal=9, at=71).tick(at=73).status == "cancelled"


def test_a_job_is_not_cancelled_before_its_process_is_gone() -> None:
    job = a_running_job().cancel(at=10).tick(at=40).tick(at=100_000)

    assert job.status == "running"
    assert job.state.holds_resources


def test_a_start_that_was_asked_for_is_stopped_and_seen_gone() -> None:
    job = a_submitted_job().cancel(at=10)
    assert job.status == "queued"

    job.sees(Gone(message="It was never started."), at=11).tick(at=13)

    assert job.status == "cancelled"


def test_a_cancelled_job_is_not_retried() -> None:
    job = a_running_job().cancel(at=10).gone(1, at=11).tick(at=13)

    assert (job.status, job.state.attempt) == ("cancelled", 1)
    assert "attempt_failed" not in job.types()


def test_a_failure_after_the_cancel_is_the_cancels_end() -> None:
    job = a_running_job().cancel(at=10).done("failed", code="oom", retryable=False, at=11)

    assert job.gone(1, at=12).status == "cancelled"


def test_a_cancel_outranks_silence_and_the_queue() -> None:
    impatient = replace(POLICY, queue_timeout=5, cancel_grace=50_000)
    waiting = a_submitted_job(policy=impatient).cancel().tick(at=100)
    running = a_running_job(policy=impatient).cancel().tick(at=10_000)

    assert "stop_requested" not in waiting.types() + running.types()


def test_a_stop_for_silence_is_not_given_up_once_a_cancel_came() -> None:
    job = a_running_job().tick(at=600).cancel(at=601).tick(at=10_000)
    assert job.status == "running"

    assert job.gone(signal=9, at=10_001).tick(at=10_003).status == "cancelled"


# A trainer that somebody else started


def test_a_trainer_of_somebody_else_confirms_the_cancel_itself() -> None:
    job = an_external_job().cancel(at=10).hears(Heartbeat(), at=11)
    assert job.status == "running"

    job.done("failed", code="cancelled", at=12)

    assert (job.status, job.reason) == ("cancelled", "cancelled")
    assert ending_of(job).because == tuple(job.positions("cancel_requested", "done"))


@pytest.mark.parametrize(
    ("cancelled_at", "confirmed_at"),
    [
        pytest.param(10, 310, id="silent since before the cancel"),
        pytest.param(250, 550, id="silent for long already"),
    ],
)
def test_or_by_its_silence_after_the_cancel(cancelled_at: float, confirmed_at: float) -> None:
    job = an_external_job().cancel(at=cancelled_at)

    assert job.tick(at=confirmed_at - 1).status == "running"
    assert job.tick(at=confirmed_at).status == "cancelled"


def test_a_trainer_that_still_calls_back_is_not_gone() -> None:
    job = an_external_job().cancel(at=10)

    for seconds in range(100, 2000, 100):
        job.hears(Heartbeat(), at=seconds)

    assert job.status == "running"
    assert job.tick(at=2200).status == "cancelled"


def test_silence_while_nobody_listened_confirms_no_cancel() -> None:
    job = an_external_job().cancel(at=10)
    job.listening_since = 5000

    assert job.tick(at=5299).status == "running"
    assert job.tick(at=5300).status == "cancelled"


def test_a_trainer_that_comes_after_the_cancel_is_sent_away() -> None:
    job = Given().cancel(at=10).hears(Heartbeat(), at=11)

    assert (job.status, job.rules()[-1]) == ("cancelled", "job_is_final")


# Success and cancel


@pytest.mark.parametrize("start", [a_running_job, an_external_job], ids=["local", "external"])
def test_success_before_the_trainer_heard_of_the_cancel_wins(start: Callable[[], Given]) -> None:
    job = start().cancel(at=10).done("succeeded", at=11)

    assert job.status == "succeeded"


def test_success_wins_even_when_the_process_was_seen_gone_first() -> None:
    job = a_running_job().cancel(at=10).gone(0, at=11).done("succeeded", at=12)

    assert job.status == "succeeded"


def test_success_wins_over_a_stop_that_the_trainer_did_not_hear_of_as_a_cancel() -> None:
    job = a_running_job().cancel(at=10).tick(at=40).done("succeeded", at=41)

    assert (job.status, "stop_requested" in job.types()) == ("succeeded", True)


def test_success_after_the_trainer_heard_of_the_cancel_comes_too_late() -> None:
    local = a_running_job().cancel(at=10).hears(Heartbeat(), at=11).done("succeeded", at=12)
    external = an_external_job().cancel(at=10).hears(Heartbeat(), at=11).done("succeeded", at=12)

    assert local.status == "running"
    assert local.gone(0, at=13).status == external.status == "cancelled"


def test_a_cancel_after_success_changes_nothing() -> None:
    job = a_running_job().done("succeeded").gone(0, at=1).tick(at=10_000)

    assert job.status == "succeeded"
