"""Other rules over the same history: where a job parts, and what each side makes of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.consequences import next_decision
from projections.events import AttemptFailed, Event, FailureClass, Heartbeat, Record
from projections.job import JobState, JobStatus, changed
from projections.policy import Moment, Policy
from projections.rule_set import Parting, Rules, RuleSetError, Twofold, complete
from projections.status import evolve
from tests.given import POLICY, Given, a_running_job, an_external_job, at

OURS = Rules(policy=POLICY)


def parting(job: Given, theirs: object, *, now: float = 100_000) -> Parting | None:
    twofold = Twofold(OURS, complete(theirs, POLICY))
    for record in job.records:
        twofold.add(record)
    return twofold.finished(at(now))


def killed_twice() -> Given:
    job = a_running_job().gone(signal=11, at=10).tick(at=20)
    return job.submitted(at=60).alive(at=70).gone(signal=11, at=80).tick(at=90).cancel(at=95)


def crashes_are_fatal(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    decision = next_decision(state, moment, policy)
    if isinstance(decision, AttemptFailed) and decision.reason == "killed":
        return replace(decision, failure_class=FailureClass.FATAL)
    return decision


def heartbeats_do_not_count(state: JobState, record: Record) -> JobState:
    if isinstance(record.event, Heartbeat):
        return changed(state, version=record.version, position=record.position)
    return evolve(state, record)


def the_same_fold(state: JobState, record: Record) -> JobState:
    return evolve(state, record)


@pytest.mark.parametrize(
    "same", [evolve, SimpleNamespace(policy=POLICY), SimpleNamespace(next_decision=next_decision)]
)
def test_the_same_rules_part_nowhere(same: object) -> None:
    assert parting(killed_twice(), same) is None


def test_a_changed_decision_parts_where_it_would_have_been_made() -> None:
    job = killed_twice()

    found = parting(job, SimpleNamespace(next_decision=crashes_are_fatal))

    assert found is not None
    assert found.position == job.positions("attempt_failed")[0]
    decided = [
        [decision["type"] for decision in side.decisions]
        for side in (found.recorded, found.changed)
    ]
    assert decided == [["attempt_failed", "retry_scheduled"], ["attempt_failed", "failed"]]
    assert (found.recorded.status, found.changed.status) == (JobStatus.QUEUED, JobStatus.FAILED)
    assert (found.changed.reason, found.changed.decisions[1]["why"]) == ("killed", "not_retryable")


def test_another_backoff_is_another_retry_decision() -> None:
    job = killed_twice()

    found = parting(job, SimpleNamespace(policy=replace(POLICY, retry_backoff=1)))

    assert found is not None
    assert found.position == job.positions("retry_scheduled")[0]
    assert found.changed.decisions[0]["delay_seconds"] == 1
    assert (found.changed.status, found.changed.attempt) == (JobStatus.QUEUED, 2)


def test_a_shorter_timeout_parts_at_the_first_event_after_it() -> None:
    job = an_external_job().hears(Heartbeat(), at=50).hears(Heartbeat(), at=300).done(at=310)

    found = parting(job, SimpleNamespace(policy=replace(POLICY, heartbeat_timeout=100)))

    assert found is not None
    assert found.position == job.positions("heartbeat")[2]
    assert (found.recorded.status, found.recorded.decisions) == (JobStatus.RUNNING, ())
    assert found.changed.decisions[0]["reason"] == "heartbeat_lost"
    assert (found.changed.status, found.changed.attempt) == (JobStatus.QUEUED, 2)


def test_a_timeout_that_has_passed_since_the_last_event_parts_too() -> None:
    job = an_external_job().hears(Heartbeat(), at=50)
    shorter = SimpleNamespace(policy=replace(POLICY, heartbeat_timeout=100))

    assert parting(job, shorter, now=249) is None
    assert parting(job, shorter, now=250) is not None


def test_a_changed_fold_parts_where_the_states_do_and_tells_both_ends() -> None:
    job = an_external_job().cancel(at=10)

    found = parting(job, heartbeats_do_not_count)

    assert found is not None
    assert found.position == job.positions("heartbeat")[0]
    assert found.recorded.status is JobStatus.RUNNING
    assert found.changed.status is JobStatus.PENDING


def test_an_alarm_that_ends_nothing_is_no_difference() -> None:
    job = an_external_job().hears(Heartbeat(), at=100).hears(Heartbeat(), at=200).done(at=210)

    assert parting(job, SimpleNamespace(policy=replace(POLICY, heartbeat_timeout=60))) is None


def test_rules_that_fail_are_told_with_the_event() -> None:
    def broken(_state: JobState, _record: Record) -> JobState:
        raise KeyError("x")

    with pytest.raises(RuleSetError, match=r"evolve failed at position 101 \(job 7\): KeyError"):
        parting(a_running_job(), broken)
    with pytest.raises(RuleSetError, match="it returned None, not a JobState"):
        parting(a_running_job(), lambda _state, _record: None)


@pytest.mark.parametrize("nothing", [None, 7, "evolve", SimpleNamespace()])
def test_what_is_no_rule_set_is_refused(nothing: object) -> None:
    with pytest.raises(RuleSetError, match="neither a function"):
        complete(nothing, POLICY)


@given(st.lists(st.integers(1, 700), max_size=8), st.booleans())
def test_no_history_parts_from_itself(waits: list[int], done: bool) -> None:
    job = an_external_job()
    now = 0
    for wait in waits:
        now += wait
        job.tick(at=now).hears(Heartbeat(), at=now, attempt=1)
    if done:
        job.done(at=now + 1, attempt=1)

    assert parting(job, the_same_fold) is None
