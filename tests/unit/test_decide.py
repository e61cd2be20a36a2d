from datetime import UTC, datetime

import pytest

from projections.decide import (
    Command,
    CreateJob,
    Enqueue,
    IssueToken,
    JobHasEndedError,
    Observe,
    RenewToken,
    Report,
    ReportCallbacks,
    RequestCancel,
    Tick,
    decide,
    directive,
)
from projections.events import (
    Adopted,
    CancelDelivered,
    CancelRequested,
    Done,
    Draft,
    Event,
    Exited,
    Heartbeat,
    Queued,
    Running,
    Source,
    TokenIssued,
    TrainerEvent,
)
from projections.job import JobState
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen
from tests.given import CREATED, START, Given, a_running_job, a_submitted_job, an_external_job

ALIVE = Alive(handle="pid 3", since=START)
WAITING = Enqueue(attempt=1, reason="waiting_for_slot", message="All slots are taken.")
SUBMIT = Enqueue(attempt=1, reason="submitted", message="Asked.", executor="local")


def facts(job: Given, command: Command) -> list[Event]:
    return [draft.event for draft in decide(job.state, command)]


def observed(job: Given, sighting: Sighting, *, attempt: int = 1, new: bool = False) -> list[Event]:
    return facts(job, Observe(attempt=attempt, sighting=sighting, adopting=new))


def a_retrying_job() -> Given:
    """Its first attempt has failed and its process was not seen gone yet."""
    return a_running_job().done("failed")


def test_a_job_is_created_once() -> None:
    command = CreateJob(created=CREATED)

    assert decide(JobState(), command) == (Draft(event=CREATED, source=Source.API, attempt=1),)
    assert decide(Given().state, command) == ()


def test_callbacks_are_recorded_in_the_trainers_order_with_its_marks() -> None:
    clock = datetime(2020, 1, 1, tzinfo=UTC)
    reports = (
        Report(event=Heartbeat(epoch=1), event_id="a", seq=4, occurred_at=clock),
        Report(event=TrainerEvent(type="epoch_end"), seq=5),
    )

    drafts = decide(a_running_job().state, ReportCallbacks(attempt=1, reports=reports))

    assert drafts == (
        Draft(
            event=Heartbeat(epoch=1),
            source=Source.TRAINER,
            attempt=1,
            event_id="a",
            seq=4,
            occurred_at=clock,
        ),
        Draft(event=TrainerEvent(type="epoch_end"), source=Source.TRAINER, attempt=1, seq=5),
    )


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(a_running_job().done(), id="after the end"),
        pytest.param(a_retrying_job(), id="from an earlier attempt"),
    ],
)
def test_a_callback_that_cannot_count_is_recorded_all_the_same(job: Given) -> None:
    reports = (Report(event=Heartbeat()),)

    assert facts(job, ReportCallbacks(attempt=1, reports=reports)) == [Heartbeat()]


def test_no_callbacks_are_no_facts() -> None:
    assert facts(a_running_job(), ReportCallbacks(attempt=1, reports=())) == []


def test_an_answer_to_a_repetition_tells_of_a_cancel_too_and_is_noted() -> None:
    """The store has taken every callback of such a request out, since it knows them already."""
    job = a_running_job().cancel()

    (told,) = facts(job, ReportCallbacks(attempt=1, reports=()))

    assert isinstance(told, CancelDelivered)


def test_the_first_answer_after_a_cancel_is_noted_as_its_delivery() -> None:
    job = a_running_job().cancel()
    told = CancelDelivered(because=tuple(job.positions("cancel_requested")))
    call = ReportCallbacks(attempt=1, reports=(Report(event=Heartbeat()),))

    assert facts(job, call) == [Heartbeat(), told]
    assert facts(job.when(call), call) == [Heartbeat()]


def test_who_says_its_last_word_hears_nothing_more() -> None:
    job = a_running_job().cancel()
    last = Done(status="succeeded")
    reports = (Report(event=Heartbeat()), Report(event=last))

    assert facts(job, ReportCallbacks(attempt=1, reports=reports)) == [Heartbeat(), last]


def test_an_earlier_attempt_is_not_told_of_a_cancel() -> None:
    job = a_retrying_job().cancel()

    assert facts(job, ReportCallbacks(attempt=1, reports=(Report(event=Heartbeat()),))) == [
        Heartbeat()
    ]


@pytest.mark.parametrize(
    ("job", "attempt", "told"),
    [
        pytest.param(a_running_job(), 1, "continue", id="running"),
        pytest.param(a_running_job().cancel(), 1, "cancel", id="cancel requested"),
        pytest.param(a_running_job().done(), 1, "stop", id="final"),
        pytest.param(a_retrying_job(), 1, "stop", id="an earlier attempt"),
        pytest.param(a_retrying_job().cancel(), 1, "stop", id="an earlier attempt, cancelled"),
        pytest.param(a_running_job().cancel().done("failed"), 1, "stop", id="after its last word"),
    ],
)
def test_what_a_trainer_is_told(job: Given, attempt: int, told: str) -> None:
    assert directive(job.state, attempt) == told


def test_a_cancel_is_recorded_once() -> None:
    job = a_running_job()

    assert facts(job, RequestCancel(reason="budget")) == [CancelRequested(reason="budget")]
    assert facts(job.cancel(), RequestCancel(reason="again")) == []


@pytest.mark.parametrize(
    "job",
    [a_running_job().done(), a_running_job().done("failed", retryable=False), Given().cancel()],
    ids=lambda job: job.status,
)
def test_a_cancel_that_comes_too_late_is_refused(job: Given) -> None:
    with pytest.raises(JobHasEndedError):
        decide(job.state, RequestCancel())


def test_a_token_belongs_to_the_current_attempt() -> None:
    (draft,) = decide(a_retrying_job().state, IssueToken(attempt=2, jti="j", expires_at="later"))

    assert draft.attempt == 2
    assert draft.event == TokenIssued(jti="j", expires_at="later")


@pytest.mark.parametrize(
    "job", [a_retrying_job(), a_running_job().done()], ids=["a later attempt", "an ended job"]
)
def test_a_trainer_renews_its_own_token_whatever_became_of_its_attempt(job: Given) -> None:
    (draft,) = decide(job.state, RenewToken(attempt=1, jti="j", expires_at="later"))

    assert (draft.attempt, draft.source) == (1, "api")
    assert draft.event == TokenIssued(jti="j", expires_at="later")


@pytest.mark.parametrize("attempt", [0, 3])
def test_an_attempt_that_never_was_has_no_token(attempt: int) -> None:
    renewal = RenewToken(attempt=attempt, jti="j", expires_at="later")

    assert decide(a_retrying_job().state, renewal) == ()


def test_time_alone_is_no_fact() -> None:
    assert facts(a_running_job(), Tick()) == []


def test_why_a_job_waits_is_recorded_when_it_changes() -> None:
    waits = Queued(reason="waiting_for_slot", message="All slots are taken.")

    assert facts(Given(), WAITING) == [waits]
    assert facts(Given().when(WAITING), WAITING) == []


def test_the_same_wait_in_other_words_is_no_news() -> None:
    other_words = Enqueue(attempt=1, reason="waiting_for_slot", message="3 jobs are before it.")

    assert facts(Given().when(WAITING), other_words) == []


def test_the_executor_is_asked_once() -> None:
    asked = Queued(reason="submitted", message="Asked.", executor="local")

    assert facts(Given().when(WAITING), SUBMIT) == [asked]
    assert facts(Given().when(SUBMIT), SUBMIT) == []
    assert facts(Given().when(SUBMIT), WAITING) == []


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(an_external_job(), id="somebody else has started it"),
        pytest.param(an_external_job().cancel(), id="a cancel was requested"),
        pytest.param(an_external_job().done(), id="it is over"),
        pytest.param(a_retrying_job(), id="it is another attempt's turn"),
    ],
)
def test_who_need_not_start_is_not_queued(job: Given) -> None:
    assert facts(job, SUBMIT) == []


def test_who_waits_for_the_end_of_a_cancel_is_not_queued() -> None:
    job = a_retrying_job().cancel()

    assert facts(job, Enqueue(attempt=2, reason="waiting_for_slot", message="Full.")) == []


def test_no_attempt_starts_before_the_earlier_one_is_gone() -> None:
    job = a_retrying_job()
    second = Enqueue(attempt=2, reason="submitted", message="Asked.", executor="local")
    assert facts(job, second) == []

    job.gone(1, attempt=1)

    assert facts(job, second) == [Queued(reason="submitted", message="Asked.", executor="local")]


@pytest.mark.parametrize(
    ("job", "sighting", "seen"),
    [
        pytest.param(
            a_submitted_job(),
            ALIVE,
            [Running(reason="seen_alive", message="pid 3 is alive.", handle="pid 3")],
            id="alive for the first time",
        ),
        pytest.param(a_running_job(), ALIVE, [], id="still alive"),
        pytest.param(a_submitted_job(), Unseen(), [], id="not there yet"),
        pytest.param(a_running_job(), Unreachable(message="timeout"), [], id="unreachable"),
        pytest.param(a_running_job(), Gone(signal=9), [Exited(signal=9)], id="killed"),
        pytest.param(
            a_submitted_job(),
            Gone(refused=True, message="No such image."),
            [Exited(refused=True, message="No such image.")],
            id="refused",
        ),
        pytest.param(
            a_running_job(),
            Gone(machine_lost=True, message="Restarted."),
            [Exited(machine_lost=True, message="Restarted.")],
            id="lost with its machine",
        ),
        pytest.param(a_running_job().gone(0), Gone(exit_code=0), [], id="gone twice"),
        pytest.param(a_running_job().gone(0), ALIVE, [], id="alive after it was gone"),
    ],
)
def test_a_sighting_is_a_fact_where_it_is_new(
    job: Given, sighting: Sighting, seen: list[Event]
) -> None:
    assert observed(job, sighting) == seen


def test_a_new_service_takes_over_what_it_finds_alive() -> None:
    assert observed(a_running_job(), ALIVE, new=True) == [
        Adopted(handle="pid 3", message="The service started anew and took over pid 3.")
    ]


@pytest.mark.parametrize(
    ("sighting", "seen"),
    [
        (ALIVE, []),
        (Unreachable(message="timeout"), []),
        (Unseen(), [Exited(message="Nothing of it is there.")]),
        (Gone(signal=15), [Exited(signal=15)]),
    ],
    ids=["alive", "unreachable", "unseen", "gone"],
)
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(a_running_job().done(), id="of a finished job"),
        pytest.param(a_retrying_job(), id="of an earlier attempt"),
    ],
)
def test_what_is_over_is_watched_until_nothing_of_it_is_left(
    job: Given, sighting: Sighting, seen: list[Event]
) -> None:
    assert observed(job, sighting) == seen


def test_nobody_misses_a_process_that_somebody_else_started() -> None:
    assert observed(an_external_job().done(), Unseen()) == []


@pytest.mark.parametrize("sighting", [ALIVE, Gone(exit_code=1)], ids=["alive", "gone"])
@pytest.mark.parametrize("attempt", [1, 3])
def test_sightings_of_attempts_that_do_not_matter_are_no_facts(
    attempt: int, sighting: Sighting
) -> None:
    job = a_retrying_job().gone(1, attempt=1)

    assert observed(job, sighting, attempt=attempt) == []


def test_facts_name_their_witness() -> None:
    job = a_running_job().cancel().gone(0)

    witnesses = {record.type: record.source for record in job.records}

    assert witnesses["created"] is Source.API
    assert witnesses["queued"] is Source.LAUNCHER
    assert witnesses["running"] is witnesses["exited"] is Source.WATCHER
    assert witnesses["heartbeat"] is Source.TRAINER
    assert witnesses["cancel_requested"] is Source.OPERATOR
