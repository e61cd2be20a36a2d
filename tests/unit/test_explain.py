from dataclasses import replace

import pytest

from projections.events import (
    AttemptFailed,
    Done,
    Evidence,
    Exited,
    FailureClass,
    Heartbeat,
    TrainerEvent,
    Unrecognised,
)
from projections.explain import explain
from projections.policy import Moment
from projections.rules import SENTENCES, Rule
from tests.given import CREATED, POLICY, Given, a_running_job, a_submitted_job, an_external_job, at

NO_RETRIES = replace(CREATED, max_retries=0)
SUCCESS = Done(status="succeeded")


def because(job: Given) -> list[str]:
    return [item.type for item in job.explained().because]


def ignored(job: Given) -> list[tuple[str, str]]:
    return [(item.type, item.rule) for item in job.explained().ignored]


def conflicts(job: Given) -> list[tuple[list[str], str]]:
    """The types of the facts that contradict each other, and what holds."""
    types = {record.position: record.type for record in job.records}
    found = job.explained().conflicts
    return [([types[position] for position in item.positions], item.verdict) for item in found]


# Because


@pytest.mark.parametrize(
    ("job", "rule", "deciding"),
    [
        pytest.param(Given(), "created", ["created"], id="pending"),
        pytest.param(a_submitted_job(), "waiting", ["queued"], id="queued"),
        pytest.param(a_submitted_job().alive(), "seen_running", ["running"], id="seen alive"),
        pytest.param(
            an_external_job(), "callback_means_running", ["heartbeat"], id="called back"
        ),
        pytest.param(
            a_running_job().done(), "done_decides_success", ["done", "succeeded"], id="succeeded"
        ),
        pytest.param(
            a_running_job().gone(1).tick(at=2),
            "retry_within_budget",
            ["exited", "attempt_failed", "retry_scheduled"],
            id="retried",
        ),
        pytest.param(
            a_running_job(NO_RETRIES).gone(1).tick(at=2),
            "retries_spent",
            ["exited", "attempt_failed", "failed"],
            id="failed",
        ),
        pytest.param(
            a_running_job(NO_RETRIES).tick(at=600).gone(signal=15).tick(at=602),
            "retries_spent",
            ["stop_requested", "exited", "attempt_failed", "failed"],
            id="failed by silence",
        ),
        pytest.param(
            Given().cancel(),
            "never_launched",
            ["cancel_requested", "cancelled"],
            id="cancelled before launch",
        ),
        pytest.param(
            a_running_job().cancel().gone(1).tick(at=2),
            "cancel_confirmed",
            ["cancel_requested", "exited", "cancelled"],
            id="cancelled",
        ),
        pytest.param(
            an_external_job().cancel().done("failed", code="cancelled"),
            "cancel_confirmed",
            ["cancel_requested", "done", "cancelled"],
            id="cancelled, by its own word",
        ),
    ],
)  # fmt: skip
def test_the_events_that_decided_the_status(job: Given, rule: str, deciding: list[str]) -> None:
    explanation = job.explained()

    assert (explanation.status, explanation.reason) == (job.status, job.state.reason)
    assert (explanation.rule, explanation.rule_text) == (rule, SENTENCES[Rule(rule)])
    assert because(job) == deciding


def test_why_an_event_decided_is_said_in_words() -> None:
    job = a_running_job(NO_RETRIES).done("failed", code="oom", message="Out of memory.")

    assert [item.why for item in job.explained().because] == [
        "The trainer reports: failed: oom: Out of memory.",
        "Attempt 1 failed (oom): Out of memory.",
        "The job failed (oom): Out of memory.",
    ]


def test_an_event_without_more_to_say_ends_with_a_full_stop() -> None:
    assert [item.why for item in a_running_job().done().explained().because] == [
        "The trainer reports: succeeded.",
        "The job succeeded.",
    ]


def test_nothing_is_explained_by_nothing() -> None:
    explanation = explain([], Moment(now=at(0)), POLICY)

    assert (explanation.rule, list(explanation.because)) == ("nothing_yet", [])


def test_the_explanation_knows_the_health() -> None:
    assert a_running_job().tick(at=300).explained().health.verdict == "silent"


# Evidence


def exhibits(job: Given) -> list[str]:
    return [exhibit.why for exhibit in job.explained().evidence]


def traceback(**data: object) -> TrainerEvent:
    said = {"code": "oom", "exception": "OutOfMemoryError:\n out of memory", "lines": ["a", "b"]}
    return TrainerEvent(type="traceback", data={**said, **data})


def test_the_traceback_of_a_failed_attempt_says_where_it_was() -> None:
    job = a_running_job(NO_RETRIES).hears(Heartbeat(epoch=7, batch=12, batches=40), traceback())

    job.done("failed", code="oom")

    (exhibit,) = job.explained().evidence
    assert exhibit.why == (
        "Attempt 1 failed at epoch 7, batch 12 of 40: OutOfMemoryError: out of memory"
    )
    assert (exhibit.type, exhibit.lines) == ("trainer_event", ["a", "b"])
    assert exhibit.position in job.positions("trainer_event")


@pytest.mark.parametrize(
    ("beat", "where"),
    [
        (Heartbeat(), " before its first epoch was complete"),
        (Heartbeat(epoch=0, batch=5), " before its first epoch was complete"),
        (Heartbeat(epoch=3), " at the end of epoch 3"),
        (Heartbeat(epoch=3, batch=0), " at epoch 3, batch 0"),
    ],
)
def test_where_it_was_is_said_as_far_as_it_is_known(beat: Heartbeat, where: str) -> None:
    job = a_running_job(NO_RETRIES).hears(beat, traceback(exception="E: x")).done("failed")

    assert exhibits(job) == [f"Attempt 1 failed{where}: E: x"]


def test_it_speaks_for_as_long_as_the_failure_decides() -> None:
    job = a_running_job().hears(traceback()).done("failed")
    assert len(exhibits(job)) == 1

    assert exhibits(job.gone(1, attempt=1).submitted().alive()) == []


def test_a_garbled_traceback_is_no_obstacle() -> None:
    job = a_running_job(NO_RETRIES).hears(traceback(exception=7, lines=[1, "x"])).done("failed")

    (exhibit,) = job.explained().evidence
    assert (exhibit.why, exhibit.lines) == (
        "Attempt 1 failed before its first epoch was complete: no exception",
        ["x"],
    )


def test_a_stall_says_since_when_nothing_advanced_although_it_called_back() -> None:
    job = a_running_job().hears(Heartbeat(epoch=7, batch=12, batches=40), at=10)
    moved = job.state.position
    for second in range(200, 2000, 200):
        job.hears(Heartbeat(epoch=7, batch=12, batches=40), at=second)

    job.tick(at=1810)

    (exhibit,) = job.explained().evidence
    assert job.health.verdict == "stalled"
    assert exhibit.position == moved
    assert exhibit.why == (
        "Nothing has advanced since epoch 7, batch 12 of 40, at 2026-11-23 01:02:13 UTC,"
        " although it called back 9 times since."
    )


def test_a_stall_of_an_attempt_that_never_advanced_counts_from_its_begin() -> None:
    job = a_submitted_job().alive(at=5)
    for second in range(100, 1900, 100):
        job.hears(Heartbeat(), at=second)

    (why,) = exhibits(job.tick(at=1805))
    assert why == (
        "Nothing has advanced since the attempt began, at 2026-11-23 01:02:08 UTC,"
        " although it called back 18 times since."
    )


def test_who_advances_again_needs_no_evidence() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1, batch=1), at=10)
    for second in range(200, 2000, 200):
        job.hears(Heartbeat(epoch=1, batch=1), at=second)

    job.hears(Heartbeat(epoch=1, batch=2), at=1900)

    assert (job.health.verdict, exhibits(job)) == ("healthy", [])


# Ignored


def test_what_did_not_count_is_listed_with_its_rule() -> None:
    job = a_running_job().done("failed").hears(Heartbeat(), attempt=1)
    job.holds(Unrecognised(type="new", data={})).done().hears(Heartbeat())

    assert ignored(job) == [
        ("heartbeat", "stale_attempt"),
        ("new", "unrecognised_type"),
        ("heartbeat", "job_is_final"),
    ]
    assert job.explained().ignored[0].why == SENTENCES[Rule.STALE_ATTEMPT]


def test_what_counts_is_not_listed() -> None:
    job = a_running_job().holds(Evidence(kind="kubernetes_event")).done().gone(0)

    assert ignored(job) == []


def test_an_end_that_was_known_already_is_listed() -> None:
    job = a_running_job().gone(0).holds(Exited(exit_code=1))

    assert ignored(job) == [("exited", "attempt_is_gone")]


# Conflicts


def test_facts_that_agree_are_no_conflict() -> None:
    assert conflicts(a_running_job().done().gone(0)) == []
    assert conflicts(a_running_job(NO_RETRIES).done("failed", code="oom").gone(1)) == []


@pytest.mark.parametrize("seen_first", [False, True], ids=["after", "before"])
def test_a_bad_exit_beside_a_success(seen_first: bool) -> None:
    job = a_running_job()

    _ = job.gone(1, at=9).done(at=10) if seen_first else job.done(at=9).gone(1, at=10)

    types = ["exited", "done"] if seen_first else ["done", "exited"]
    assert conflicts(job) == [(types, "succeeded")]
    assert "the report holds" in job.explained().conflicts[0].why


def test_a_success_that_the_trainer_reported_before_it_heard_of_the_cancel() -> None:
    job = a_running_job().cancel().done()

    assert conflicts(job) == [(["cancel_requested", "done"], "succeeded")]
    assert "before the trainer heard of the cancel" in job.explained().conflicts[0].why


def test_a_success_that_the_trainer_reported_after_it_heard_of_the_cancel() -> None:
    job = a_running_job().cancel().hears(Heartbeat()).done().gone(0)

    assert conflicts(job) == [(["done", "cancelled"], "cancelled")]
    assert job.explained().conflicts[0].why == SENTENCES[Rule.CANCEL_WAS_HEARD]
    assert [(item.type, item.rule) for item in job.explained().ignored] == [
        ("done", Rule.CANCEL_WAS_HEARD)
    ]


def test_a_success_that_comes_after_the_job_was_cancelled() -> None:
    job = a_running_job().cancel().gone(1).tick(at=2).done(at=3)

    assert conflicts(job) == [(["cancelled", "done"], "cancelled")]


def test_a_success_that_comes_after_the_job_has_failed() -> None:
    job = a_running_job(NO_RETRIES).gone(0).tick(at=120).done(at=121)

    assert conflicts(job) == [(["attempt_failed", "done"], "failed")]
    assert "exited_without_result" in job.explained().conflicts[0].why


def test_a_success_of_an_attempt_that_was_given_up() -> None:
    job = an_external_job().tick(at=600).hears(SUCCESS, attempt=1, at=601)

    assert conflicts(job) == [(["attempt_failed", "done"], "queued")]


def test_a_later_cause_of_the_same_failure() -> None:
    job = a_running_job(NO_RETRIES).gone(signal=9).tick(at=2).done("failed", code="oom")

    assert conflicts(job) == [(["attempt_failed", "done"], "failed")]


def test_a_second_failure_of_one_attempt_in_the_log() -> None:
    late = AttemptFailed(reason="late", message="", failure_class=FailureClass.FATAL)
    job = a_running_job(NO_RETRIES).gone(1).tick(at=2).holds(late)

    assert conflicts(job) == [(["attempt_failed", "attempt_failed"], "failed")]


@pytest.mark.parametrize("code", ["heartbeat_lost", "terminated", "cancelled", None])
def test_a_late_word_that_only_repeats_the_cause_is_no_conflict(code: str | None) -> None:
    job = an_external_job().tick(at=600)

    job.done("failed", code=code, attempt=1, at=601)

    assert conflicts(job) == []


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [("succeeded", "failed", "succeeded"), ("failed", "succeeded", "failed")],
)
def test_two_last_words_that_contradict_each_other(first: str, second: str, verdict: str) -> None:
    words = [SUCCESS if said == "succeeded" else Done(status="failed") for said in (first, second)]
    job = a_running_job(NO_RETRIES).hears(*words)

    assert conflicts(job) == [(["done", "done"], verdict)]
    assert job.explained().conflicts[0].why == SENTENCES[Rule.ATTEMPT_IS_DONE]


def test_a_cancelled_trainer_that_calls_itself_failed_is_no_conflict() -> None:
    job = a_running_job().cancel().hears(Heartbeat()).gone(1).done("failed", code="cancelled")

    assert (job.status, conflicts(job)) == ("cancelled", [])
