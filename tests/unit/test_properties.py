"""What must hold for every job, whatever happens to it and in whatever order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from projections.chain import GENESIS, link
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
)
from projections.diagram import changes
from projections.events import Callback, Created, Done, Event, Heartbeat
from projections.explain import explain
from projections.health import assess
from projections.job import JobState
from projections.policy import Moment, Policy
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen
from projections.status import evolve, fold
from projections.timeline import timeline
from tests import generated
from tests.given import CREATED, POLICY, START, Given, at

STATES = TypeAdapter(JobState)
DIAGRAM = {(change.before, change.after) for change in changes()}

# Random walks


@dataclass(frozen=True)
class Step:
    """A command some time after the one before, perhaps out of the executor's sight."""

    after: float
    command: Command
    unreachable: bool = False


attempts = st.sampled_from([0, 0, 0, 0, 0, -1, 1])  # counted from the current one
sightings: st.SearchStrategy[Sighting] = st.one_of(
    st.just(Unseen()),
    st.just(Alive(handle="pid 3", since=START)),
    st.just(Unreachable(message="timeout")),
    st.builds(
        Gone,
        exit_code=st.sampled_from([None, 0, 1, 137, 143]),
        signal=st.sampled_from([None, 9, 15]),
        machine_lost=st.booleans(),
        refused=st.booleans(),
    ),
)
words: st.SearchStrategy[Callback] = st.one_of(
    generated.callbacks,
    st.just(Heartbeat()),
    st.sampled_from(
        [
            Heartbeat(epoch=1),
            Done(status="succeeded"),
            Done(status="failed"),
            Done(status="failed", error={"retryable": False}),
            Done(status="failed", error={"code": "terminated"}),
        ]
    ),
)
ticks = st.just(Tick())
enqueues = st.builds(
    Enqueue,
    attempt=attempts,
    reason=st.sampled_from(["waiting_for_slot", "submitted"]),
    message=generated.words,
    executor=st.sampled_from([None, "local", "local"]),
)
observations = st.builds(Observe, attempt=attempts, sighting=sightings)
reports = st.builds(
    ReportCallbacks,
    attempt=attempts,
    reports=st.lists(st.builds(Report, event=words), max_size=2).map(tuple),
)
cancels = st.builds(RequestCancel, reason=st.none() | generated.words)
tokens = st.builds(IssueToken, jti=generated.words, expires_at=generated.words) | st.builds(
    RenewToken, attempt=attempts, jti=generated.words, expires_at=generated.words
)
# Said again, these bring nothing new; callbacks are told apart by the store, tokens are all new.
repeatable: st.SearchStrategy[Command] = st.one_of(
    ticks, st.just(CreateJob(created=CREATED)), cancels, enqueues, observations
)
usual: st.SearchStrategy[Command] = st.one_of(enqueues, observations, reports)
steps = st.builds(
    Step,
    after=st.sampled_from([0.0, 1.0, 3.0, 40.0, 130.0, 310.0, 610.0]),
    command=usual,
    unreachable=st.sampled_from([False, False, False, True]),
)
asides = st.builds(Step, after=st.just(0.0), command=cancels | tokens)
walks = st.lists(steps, min_size=5, max_size=20) | st.lists(steps | asides, max_size=20)
policies = st.builds(
    Policy,
    queue_timeout=st.sampled_from([0.0, 0.0, 100.0]),
    max_interruptions=st.integers(0, 2),
)
requests = st.builds(
    Created,
    dataset_id=st.just("d"),
    model_name=st.just("m"),
    epochs=st.just(10),
    max_retries=st.integers(0, 2),
)


@st.composite
def jobs(draw: st.DrawFn) -> Given:
    """A job that waits, that was submitted, or that runs."""
    since = draw(st.none() | st.sampled_from([0.0, 500.0]))
    job = Given(draw(requests), policy=draw(policies), listening_since=since)
    stage = draw(st.integers(0, 2))
    job = job.submitted() if stage > 0 else job
    return job.alive().hears(Heartbeat()) if stage > 1 else job


def walk(job: Given, steps: Sequence[Step]) -> Given:
    for step in steps:
        job.unreachable = step.unreachable
        again(job, aimed(step.command, job), at=job.now + step.after)
    return job


def aimed(command: Command, job: Given) -> Command:
    """Count a command's attempt from the job's current one."""
    match command:
        case Enqueue() | Observe() | ReportCallbacks() | RenewToken():
            return replace(command, attempt=max(1, job.state.attempt + command.attempt))
        case _:
            return command


def again(job: Given, command: Command, *, at: float | None = None) -> None:
    """Carry out a command that may come too late."""
    try:
        job.when(command, at=at)
    except JobHasEndedError:
        assert job.status.is_final


def states_along(job: Given) -> list[JobState]:
    states = [JobState()]
    for record in job.records:
        states.append(evolve(states[-1], record))
    return states


@settings(max_examples=150)
@given(jobs(), walks)
def test_no_walk_leaves_the_rules(job: Given, steps: list[Step]) -> None:
    walk(job, steps)

    assert [record.version for record in job.records] == list(range(1, len(job.records) + 1))
    for before, after in pairwise(states_along(job)[1:]):
        check_step(before, after)
    assert job.state.retry_count <= job.state.max_retries
    assert job.state.interruptions <= job.policy.max_interruptions
    assert job.state.attempt == 1 + job.state.retry_count + job.state.interruptions


def check_step(before: JobState, after: JobState) -> None:
    if after.status is not before.status:
        assert (before.status, after.status) in DIAGRAM
    if before.status.is_final:
        assert (after.status, after.reason, after.completed_at, after.attempt) == (
            (before.status, before.reason, before.completed_at, before.attempt)
        )
    assert after.attempt >= before.attempt
    assert after.retry_count >= before.retry_count
    assert after.interruptions >= before.interruptions
    assert after.progress.epoch >= before.progress.epoch
    assert after.progress.fraction >= before.progress.fraction
    assert after.status.is_final == (after.completed_at is not None)


@given(jobs(), walks)
def test_whatever_happened_can_be_told_and_explained(job: Given, steps: list[Step]) -> None:
    walk(job, steps)

    told, explained = job.told(), job.explained()

    assert told.state == job.state
    assert explained.status is job.status
    assert explained.because
    set_aside = [record.position for record in job.records if record.rule is not None]
    assert [item.position for item in explained.ignored] == set_aside
    assert len(told.attempts) == job.state.attempt


@given(jobs(), walks, st.integers(0, 40))
def test_a_fold_may_be_taken_in_parts(job: Given, steps: list[Step], cut: int) -> None:
    records = walk(job, steps).records

    assert fold(records[cut:], fold(records[:cut])) == fold(records) == job.state


@given(jobs(), walks)
def test_a_state_survives_the_database(job: Given, steps: list[Step]) -> None:
    state = walk(job, steps).state

    assert STATES.validate_json(STATES.dump_json(state)) == state


@given(jobs(), walks)
def test_the_hashes_of_a_walk_make_one_chain(job: Given, steps: list[Step]) -> None:
    previous = GENESIS
    for record in walk(job, steps).records:
        assert record.hash == link(record, previous)
        previous = record.hash


@given(jobs(), walks, repeatable)
def test_a_command_that_is_repeated_adds_nothing(
    job: Given, steps: list[Step], command: Command
) -> None:
    walk(job, steps)
    command = aimed(command, job)
    again(job, command)
    before = job.state

    again(job, command)

    assert job.state == before


@given(jobs(), walks)
def test_once_decided_nothing_more_is_due_at_that_moment(job: Given, steps: list[Step]) -> None:
    before = walk(job, steps).state

    assert job.tick(at=job.now).state == before


@given(jobs(), walks, walks)
def test_a_job_that_ended_stays_as_it_ended(
    job: Given, steps: list[Step], more: list[Step]
) -> None:
    walk(job, steps).done("succeeded")
    again(job, RequestCancel())
    while not job.status.is_final:
        job.gone(1).tick(at=job.now + 10_000)
    ended = job.state

    walk(job, more)

    assert (job.status, job.reason) == (ended.status, ended.reason.code)
    assert (job.state.progress, job.state.artifacts) == (ended.progress, ended.artifacts)


# Logs that no build of ours would write


@given(st.lists(st.tuples(st.integers(1, 3), generated.events), max_size=10))
def test_no_log_is_too_strange_to_be_read(log: list[tuple[int, Event]]) -> None:
    records = generated.as_log([(1, CREATED), *log], START)
    moment = Moment(now=at(400))

    state = fold(records)

    assert assess(state, moment, POLICY).verdict
    assert explain(records, moment, POLICY).status is state.status
    assert timeline(records, moment.now).state == state


@given(st.lists(st.tuples(st.integers(1, 3), generated.events), max_size=10))
def test_in_no_log_does_a_final_status_change(log: list[tuple[int, Event]]) -> None:
    records = generated.as_log([(1, CREATED), *log], START)

    final = [s for s in map(fold, (records[:n] for n in range(len(records) + 1))) if s.completed_at]

    assert len({(state.status, state.reason, state.completed_at) for state in final}) <= 1
