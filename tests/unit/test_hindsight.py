"""What was true at a moment, beside what was recorded by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.decide import Observe, Report, ReportCallbacks
from projections.events import Callback, Done, Heartbeat, Record
from projections.explain import explain
from projections.health import Health, Verdict, assess
from projections.hindsight import in_hindsight
from projections.job import JobState, JobStatus
from projections.policy import Moment, View
from projections.sighting import Gone
from projections.status import fold
from projections.timeline import timeline
from tests.given import START, Given, a_running_job, an_external_job, at
from tests.unit.test_properties import Step, jobs, walk, walks


def late(job: Given, callback: Callback, *, occurred: float, recorded: float) -> Given:
    """A callback that was kept from us for a while."""
    report = Report(event=callback, occurred_at=at(occurred))
    return job.when(ReportCallbacks(attempt=1, reports=(report,)), at=recorded)


def believed(job: Given, seconds: float) -> tuple[JobState, Health]:
    """What we had recorded by then."""
    known = [record for record in job.records if record.recorded_at <= at(seconds)]
    return seen(known, Moment(now=at(seconds), view=View.RECORDED), job)


def true(job: Given, seconds: float) -> tuple[JobState, Health]:
    """What had happened by then."""
    happened = in_hindsight(job.records, at(seconds))
    return seen(happened, Moment(now=at(seconds), view=View.OCCURRED), job)


def seen(records: Sequence[Record], moment: Moment, job: Given) -> tuple[JobState, Health]:
    state = fold(records)
    return state, assess(state, moment, job.policy)


def test_a_process_that_had_died_unseen_was_believed_to_run() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1), at=60)
    job.when(Observe(attempt=1, sighting=Gone(signal=9, at=at(90))), at=500)

    belief, believed_health = believed(job, 200)
    truth, health = true(job, 200)

    assert (belief.status, believed_health.verdict) == (JobStatus.RUNNING, Verdict.HEALTHY)
    assert truth.status is JobStatus.RUNNING  # nobody had decided anything yet
    assert (health.verdict, truth.exit and truth.exit.at) == (Verdict.NOT_RUNNING, at(90))
    assert true(job, 89)[1].verdict is Verdict.HEALTHY


def test_a_success_that_was_heard_of_late_was_one_all_the_time() -> None:
    job = late(an_external_job(), Done(status="succeeded"), occurred=100, recorded=400)

    assert believed(job, 300)[0].status is JobStatus.RUNNING
    truth, health = true(job, 300)
    assert (truth.status, truth.completed_at) == (JobStatus.SUCCEEDED, at(100))
    assert health.verdict is Verdict.NOT_RUNNING
    assert true(job, 99)[0].status is JobStatus.RUNNING


def test_an_alarm_for_a_trainer_that_only_could_not_reach_us_was_a_false_one() -> None:
    job = an_external_job().tick(at=300)
    for seconds in (30, 60, 200):
        late(job, Heartbeat(epoch=seconds), occurred=seconds, recorded=400)

    assert believed(job, 300)[1].verdict is Verdict.SILENT
    truth, health = true(job, 300)
    assert (health.verdict, health.alive_at) == (Verdict.HEALTHY, at(200))
    assert truth.progress.epoch == 200


def test_a_retry_is_made_when_it_is_decided_and_not_when_its_cause_happened() -> None:
    error = {"code": "out_of_memory", "retryable": True}
    failure = Done(status="failed", error=error)
    job = late(an_external_job(), failure, occurred=100, recorded=400)

    truth, health = true(job, 399)

    assert (truth.status, truth.attempt) == (JobStatus.RUNNING, 1)
    assert (health.verdict, truth.failure and truth.failure.reason) == (
        (Verdict.NOT_RUNNING, "out_of_memory")
    )
    later, _ = true(job, 400)
    assert (later.status, later.attempt) == (JobStatus.QUEUED, 2)


def test_a_decision_by_the_clock_stays_where_it_was_taken() -> None:
    job = an_external_job().tick(at=300).tick(at=600)
    assert job.status is JobStatus.QUEUED

    late(job, Heartbeat(epoch=5), occurred=590, recorded=700)

    truth, _ = true(job, 599)
    assert (truth.attempt, truth.alive_at, truth.progress.epoch) == (1, at(590), 5)
    assert true(job, 600)[0].attempt == 2


@pytest.mark.parametrize(
    ("occurred", "happened"),
    [
        pytest.param(-86_400, 0, id="a clock that is a day behind"),
        pytest.param(86_400, 60, id="a clock that is a day ahead"),
    ],
)
def test_a_producers_wrong_clock_moves_nothing_out_of_its_attempt(
    occurred: float, happened: float
) -> None:
    job = late(Given(), Heartbeat(epoch=1), occurred=occurred, recorded=60)

    assert true(job, happened)[0].status is JobStatus.RUNNING
    if happened:
        assert true(job, happened - 1)[0].status is JobStatus.PENDING


def test_a_callback_of_a_second_attempt_is_never_older_than_the_attempt() -> None:
    job = an_external_job().done("failed", at=100, code="lost", retryable=True)
    job.hears(Heartbeat(epoch=1), at=200)
    job.records[-1].occurred_at = at(50)

    assert true(job, 99)[0].progress.epoch == 0
    assert true(job, 100)[0].alive_at == at(100)


def test_the_story_and_the_reasons_are_told_at_the_moments_of_the_facts() -> None:
    job = late(an_external_job(), Heartbeat(epoch=1), occurred=50, recorded=400)
    late(job, Done(status="succeeded"), occurred=100, recorded=400)
    moment = Moment(now=at(200), view=View.OCCURRED)

    happened = in_hindsight(job.records, at(200))
    story = timeline(happened, at(200))
    why = explain(happened, moment, job.policy)

    assert [entry["at"] for entry in story.entries[-2:]] == [at(100), at(100)]
    assert story.attempts[0].phases[-1]["to"] == at(100)
    assert story.attempts[0].outcome == "succeeded"
    assert (why.status, why.health.verdict) == (JobStatus.SUCCEEDED, Verdict.NOT_RUNNING)


def on_time(job: Given) -> list[Record]:
    return [replace(record, occurred_at=record.recorded_at) for record in job.records]


def moments(records: Sequence[Record]) -> st.SearchStrategy[float]:
    """Seconds at which something was recorded, and between."""
    seconds = {(record.recorded_at - START).total_seconds() for record in records}
    return st.sampled_from(sorted({second + shift for second in seconds for shift in (-0.5, 0)}))


@given(jobs(), walks, st.data())
def test_where_nothing_came_late_both_views_agree(
    job: Given, steps: list[Step], data: st.DataObject
) -> None:
    records = on_time(walk(job, steps))
    until = at(data.draw(moments(records)))

    known = [record for record in records if record.recorded_at <= until]

    assert in_hindsight(records, until) == known
    assert fold(in_hindsight(records, until)) == fold(known)


@given(jobs(), walks, st.lists(st.sampled_from([-50.0, 0.0, 3.0, 40.0, 700.0])), st.data())
def test_whatever_was_known_is_true_and_every_end_is_the_same(
    job: Given, steps: list[Step], delays: list[float], data: st.DataObject
) -> None:
    records = walk(job, steps).records
    for record, delay in zip(records, delays, strict=False):
        record.occurred_at = record.recorded_at - timedelta(seconds=delay)
    until = at(data.draw(moments(records)))

    happened = in_hindsight(records, until)

    known = {record.position for record in records if record.recorded_at <= until}
    assert known <= {record.position for record in happened}
    assert all(record.recorded_at <= until for record in happened)
    end = fold(in_hindsight(records, records[-1].recorded_at))
    assert end.attempt == job.state.attempt
    if job.status.is_final:
        assert (end.status, end.reason) == (job.status, job.state.reason)
