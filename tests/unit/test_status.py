from collections.abc import Callable
from typing import Any

import pytest

from projections.events import (
    Adopted,
    AttemptFailed,
    CancelDelivered,
    Cancelled,
    CancelRequested,
    Created,
    Done,
    Event,
    Evidence,
    Exited,
    Failed,
    FailureClass,
    HealthChanged,
    Heartbeat,
    Queued,
    RetryScheduled,
    Running,
    StopRequested,
    Succeeded,
    TokenIssued,
    TrainerEvent,
    Unrecognised,
)
from projections.job import JobState, JobStatus
from projections.rules import Rule
from projections.status import fold
from tests.given import CREATED, Given, a_running_job, a_submitted_job, at

QUEUED = Queued(reason="suspended", message="The cluster suspended it.")
RUNNING = Running(reason="seen_alive", message="It is alive.", handle="pod train-7-x")
FAILURE = AttemptFailed(reason="killed", message="Gone.", failure_class=FailureClass.RETRYABLE)
FINAL: dict[str, Event] = {
    "succeeded": Succeeded(),
    "failed": Failed(reason="killed", message="Gone.", why="retries_spent"),
    "cancelled": Cancelled(reason="cancelled", message="On request."),
}


def damaged(uri: str) -> TrainerEvent:
    return TrainerEvent(type="checkpoint_damaged", data={"uri": uri, "message": "Not its hash."})


def tracked(run_id: object) -> TrainerEvent:
    return TrainerEvent(type="tracking_started", data={"mlflow_run_id": run_id})


def checkpoint(epoch: int | None, uri: str) -> TrainerEvent:
    data: dict[str, Any] = {"uri": uri} | ({} if epoch is None else {"epoch": epoch})
    return TrainerEvent(type="checkpoint_saved", data=data)


def test_nothing_in_the_log_is_no_job() -> None:
    assert fold([]) == JobState()
    assert not fold([]).exists


def test_a_created_job_is_pending() -> None:
    state = Given(CREATED, first_position=40).state

    assert (state.status, state.reason.code, state.rule) == ("pending", "created", "created")
    assert (state.id, state.attempt, state.version, state.position) == (7, 1, 1, 40)
    assert (state.dataset_id, state.model_name, state.epochs) == ("coco8", "yolo11n", 10)
    assert (state.progress.epochs, state.created_at) == (10, at(0))


def test_a_queued_job_has_the_reason_for_which_it_waits() -> None:
    job = Given().holds(QUEUED)

    assert (job.status, job.reason, job.state.rule) == ("queued", "suspended", "waiting")


def test_a_job_seen_alive_is_running() -> None:
    job = Given().holds(QUEUED).holds(RUNNING)

    assert (job.status, job.reason, job.state.rule) == ("running", "seen_alive", "seen_running")


def test_a_job_taken_over_after_a_restart_is_running() -> None:
    job = Given().holds(QUEUED).holds(Adopted(handle="pid 3", message="Still there."))

    assert (job.status, job.reason) == ("running", "adopted")


@pytest.mark.parametrize(
    "callback",
    [Heartbeat(), TrainerEvent(type="phase_started"), Done(status="failed")],
    ids=lambda event: event.TYPE,
)
@pytest.mark.parametrize("before", [Given, a_submitted_job], ids=["pending", "queued"])
def test_any_callback_of_the_current_attempt_means_that_it_runs(
    before: Callable[[], Given], callback: Event
) -> None:
    job = before().holds(callback)

    assert (job.status, job.reason) == ("running", "called_back")
    assert job.state.rule is Rule.CALLBACK_MEANS_RUNNING


def test_a_running_job_that_is_suspended_waits_again() -> None:
    job = a_running_job()
    job.now = 50

    job.holds(QUEUED)

    assert (job.status, job.reason) == ("queued", "suspended")
    assert (job.state.attempt_queued_at, job.state.running_since) == (at(50), None)
    assert (job.state.queued_at, job.state.started_at) == (at(0), at(0))


def test_a_suspended_job_that_calls_back_runs_again() -> None:
    job = a_running_job().holds(QUEUED).hears(Heartbeat(), at=90)

    assert (job.status, job.state.running_since) == ("running", at(90))


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize(
    "late",
    [
        QUEUED,
        RUNNING,
        Heartbeat(epoch=9),
        checkpoint(9, "s3://late"),
        Done(status="succeeded", mlflow_run_id="late"),
        Done(status="failed"),
        CancelRequested(),
        CancelDelivered(),
        StopRequested(reason="late", message=""),
        HealthChanged(verdict="silent", previous="healthy"),
        FAILURE,
        *FINAL.values(),
    ],
    ids=lambda event: event.TYPE,
)
def test_a_finished_job_never_changes_again(status: str, late: Event) -> None:
    job = a_running_job().holds(FINAL[status])
    before = job.state

    job.holds(late)

    assert job.rules()[-1] == Rule.JOB_IS_FINAL
    assert changed(before, job.state) == set()


@pytest.mark.parametrize("status", FINAL)
def test_a_finished_jobs_process_may_still_be_seen_gone(status: str) -> None:
    job = a_running_job().holds(FINAL[status])
    assert job.state.holds_resources

    job.holds(Exited(exit_code=0))

    assert (job.status, job.state.holds_resources) == (status, False)


def test_a_second_creation_changes_nothing() -> None:
    job = a_running_job()
    before = job.state

    job.holds(Created(dataset_id="other", model_name="other", epochs=1))

    assert job.rules()[-1] == Rule.ALREADY_REQUESTED
    assert changed(before, job.state) == set()


@pytest.mark.parametrize(
    "event",
    [
        RUNNING,
        QUEUED,
        Heartbeat(epoch=9, metrics={"loss": 1.0}),
        checkpoint(9, "s3://stale"),
        Done(status="succeeded"),
        Done(status="failed"),
        Exited(exit_code=1),
        Succeeded(),
    ],
    ids=lambda event: event.TYPE,
)
@pytest.mark.parametrize(
    ("attempt", "rule"), [(1, Rule.STALE_ATTEMPT), (3, Rule.UNKNOWN_ATTEMPT)], ids=["old", "new"]
)
def test_what_another_attempt_says_never_changes_the_job(
    event: Event, attempt: int, rule: Rule
) -> None:
    job = a_running_job().gone(1, at=10).tick(at=12)
    before = job.state
    assert (before.attempt, before.releasing) == (2, None)

    job.holds(event, attempt=attempt)

    assert job.rules()[-1] == rule
    assert changed(before, job.state) == set()


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        (CancelRequested(reason="a"), CancelRequested(reason="b"), Rule.ALREADY_REQUESTED),
        (
            StopRequested(reason="a", message=""),
            StopRequested(reason="b", message=""),
            Rule.ALREADY_REQUESTED,
        ),
        (Done(status="succeeded"), Done(status="failed"), Rule.ATTEMPT_IS_DONE),
        (Done(status="failed"), Done(status="succeeded"), Rule.ATTEMPT_IS_DONE),
        (Done(status="failed"), Heartbeat(epoch=9), Rule.ATTEMPT_IS_DONE),
        (Exited(exit_code=1), Exited(exit_code=0), Rule.ATTEMPT_IS_GONE),
        (Exited(exit_code=1), RUNNING, Rule.ATTEMPT_IS_GONE),
        (Exited(exit_code=1), QUEUED, Rule.ATTEMPT_IS_GONE),
        (FAILURE, AttemptFailed(reason="late", message="", failure_class=FailureClass.FATAL),
         Rule.FIRST_CAUSE_STAYS),
    ],
    ids=lambda value: value if isinstance(value, str) else value.TYPE,
)  # fmt: skip
def test_of_two_that_say_the_same_kind_of_thing_the_first_counts(
    first: Event, second: Event, rule: Rule
) -> None:
    job = a_running_job().holds(first)
    before = job.state

    job.holds(second)

    assert job.rules()[-2:] == [None, rule]
    assert changed(before, job.state) == set()


def test_the_trainer_is_told_of_a_cancel_once() -> None:
    job = a_running_job().holds(CancelRequested()).holds(CancelDelivered())
    before = job.state

    job.holds(CancelDelivered())

    assert job.rules()[-1] == Rule.ALREADY_REQUESTED
    assert changed(before, job.state) == set()


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        (Evidence(kind="kubernetes_event", data={"reason": "OOMKilling"}), None),
        (TokenIssued(jti="j", expires_at="later"), None),
        (Unrecognised(type="from_the_future", data={}), Rule.UNRECOGNISED_TYPE),
    ],
    ids=["evidence", "token_issued", "unrecognised"],
)
def test_what_decides_nothing_changes_nothing(event: Event, rule: Rule | None) -> None:
    job = a_running_job()
    before = job.state

    job.holds(event)

    assert job.rules()[-1] == rule
    assert changed(before, job.state) == set()


def test_every_event_moves_the_version_and_the_position() -> None:
    job = a_running_job().holds(Unrecognised(type="new", data={}), attempt=9)

    assert job.state.version == len(job.records) == job.records[-1].version
    assert job.state.position == job.records[-1].position


@pytest.mark.parametrize(
    ("saved", "newest"),
    [
        pytest.param([(1, "a"), (2, "b")], "b", id="in order"),
        pytest.param([(2, "b"), (1, "a")], "b", id="out of order"),
        pytest.param([(2, "a"), (2, "b")], "b", id="the same epoch again"),
        pytest.param([(None, "a"), (None, "b")], "b", id="without epochs"),
    ],
)
def test_the_newest_checkpoint_is_kept(saved: list[tuple[int | None, str]], newest: str) -> None:
    job = a_running_job().hears(*(checkpoint(epoch, uri) for epoch, uri in saved))

    assert job.state.checkpoint == newest


def test_the_furthest_checkpoint_of_all_attempts_is_kept() -> None:
    job = a_running_job().hears(checkpoint(5, "first")).done("failed")

    job.hears(checkpoint(1, "second"))
    assert job.state.checkpoint == "first"

    job.hears(checkpoint(5, "third"))
    assert (job.state.checkpoint, job.state.checkpoint_epoch) == ("third", 5)


def test_what_a_later_attempt_writes_to_the_same_place_is_what_lies_there() -> None:
    job = a_running_job().hears(checkpoint(5, "last.pt"), checkpoint(4, "other")).done("failed")

    job.hears(checkpoint(1, "last.pt"))

    assert [(one.uri, one.epoch) for one in job.state.checkpoints] == [("other", 4), ("last.pt", 1)]


def test_one_that_is_damaged_gives_way_to_the_one_before() -> None:
    job = a_running_job().hears(checkpoint(1, "a"), checkpoint(2, "b")).done("failed")

    job.hears(damaged("b"))
    assert (job.state.checkpoint, job.state.checkpoint_epoch) == ("a", 1)

    job.hears(damaged("a")).done("failed")
    assert (job.state.checkpoint, job.state.checkpoint_epoch) == (None, None)
    assert isinstance(retry := job.last("retry_scheduled").event, RetryScheduled)
    assert retry.checkpoint is None


def test_one_that_is_written_anew_is_not_damaged_any_more() -> None:
    job = a_running_job().hears(checkpoint(1, "a"), damaged("a"), checkpoint(2, "a"))

    assert job.state.checkpoint == "a"


def test_few_of_many_checkpoints_are_kept() -> None:
    job = a_running_job().hears(*(checkpoint(n, f"c{n}") for n in range(1, 30)))

    assert [one.epoch for one in job.state.checkpoints] == [29, 28, 27, 26, 25]


@pytest.mark.parametrize("uri", ["", "x" * 5000], ids=["empty", "endless"])
def test_what_can_be_no_address_is_no_checkpoint(uri: str) -> None:
    assert a_running_job().hears(checkpoint(1, uri)).state.checkpoint is None


def test_the_run_in_mlflow_is_known_from_its_begin_on() -> None:
    job = a_running_job().hears(tracked("run-1"))
    assert job.state.mlflow_run_id == "run-1"

    job.done("failed").hears(tracked("late"), attempt=1)
    assert job.state.mlflow_run_id == "run-1"


@pytest.mark.parametrize("run_id", ["", 7, None, "x" * 300], ids=["empty", "7", "none", "endless"])
def test_nonsense_is_no_run(run_id: object) -> None:
    assert a_running_job().hears(tracked(run_id)).state.mlflow_run_id is None


def test_success_keeps_what_the_trainer_brought() -> None:
    best = {"name": "best.pt", "uri": "s3://b/best.pt"}

    job = a_running_job().hears(
        Done(status="succeeded", mlflow_run_id="r1", artifacts=(best,), metrics={"mAP50": 0.5})
    )

    assert (job.status, job.reason, job.state.rule) == ("succeeded", "done", "done_decides_success")
    assert (job.state.mlflow_run_id, job.state.artifacts) == ("r1", (best,))
    assert job.state.progress.metrics == {"mAP50": 0.5}
    assert job.state.completed_at == at(0)


def test_a_retry_forgets_the_attempt_and_keeps_the_job() -> None:
    job = a_running_job().hears(Heartbeat(epoch=3, batch=5), checkpoint(2, "c")).gone(1, at=9)

    state = job.tick(at=11).state

    assert (state.status, state.reason.code, state.attempt) == ("queued", "retry_scheduled", 2)
    assert (state.executor, state.exit, state.failure, state.alive_at) == (None,) * 4
    assert (state.progress.epoch, state.progress.batch, state.checkpoint) == (3, 5, "c")
    assert (state.started_at, state.attempt_queued_at) == (at(0), at(11))


def test_an_attempt_that_was_not_seen_gone_is_released_before_the_next_starts() -> None:
    job = a_running_job().done("failed", at=10)
    assert (job.state.attempt, job.state.releasing) == (2, 1)

    job.gone(1, at=11, attempt=1)

    assert (job.status, job.state.releasing, job.rules()[-1]) == ("queued", None, None)


def test_an_attempt_that_nobody_started_holds_nothing_and_hides_no_earlier_one() -> None:
    job = a_running_job().done("failed").done("failed")

    assert (job.state.attempt, job.state.releasing) == (3, 1)


def test_a_rule_that_only_a_newer_build_knows_does_not_stop_the_fold() -> None:
    job = a_running_job().holds(Failed(reason="r", message="m", why="a_new_rule"))

    assert (job.status, job.state.rule) == (JobStatus.FAILED, Rule.UNKNOWN_RULE)


def changed(before: JobState, after: JobState) -> set[str]:
    """The fields in which two states differ, but for the place in the log."""
    names = set(JobState.__dataclass_fields__) - {"version", "position"}
    return {name for name in names if getattr(before, name) != getattr(after, name)}
