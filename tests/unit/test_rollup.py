"""What was rolled up says to every fold the same as the heartbeats it stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.decide import Report, ReportCallbacks
from projections.events import Heartbeat, Heartbeats, Record, TrainerEvent, decode, encode
from projections.exhibits import Exhibit
from projections.explain import explain
from projections.health import assess
from projections.job import JobState, JobStatus
from projections.policy import Moment
from projections.rollup import LONGEST_RUN, Roller, known_within, reaches_back
from projections.status import evolve, fold
from projections.timeline import timeline
from tests import generated
from tests.given import POLICY, Given, a_running_job, at
from tests.unit.test_properties import Step, jobs, steps, walk

small = st.integers(0, 4)
few_metrics = st.dictionaries(st.sampled_from("abc"), st.floats(0, 9) | small, max_size=2)
waits = st.sampled_from([0.0, 1.0, 30.0, 31.5, 290.0])
epoch_ends = st.builds(
    TrainerEvent,
    type=st.just("epoch_end"),
    data=st.fixed_dictionaries({"epoch": small, "metrics": few_metrics}),
)


@st.composite
def bursts(draw: st.DrawFn) -> list[Step]:
    """Some heartbeats in the manner of one trainer, who may not be a sane one."""
    epoch, with_batch, with_progress = draw(st.none() | small), draw(st.booleans()), draw(rarely)
    attempt = draw(st.sampled_from([0, 0, 0, 0, -1]))
    beats = st.builds(
        Heartbeat,
        epoch=st.just(epoch),
        epochs=st.none() | st.sampled_from([10, 10, 20]),
        progress=st.floats(0, 1) if with_progress else st.none(),
        batch=st.integers(0, 30) if with_batch else st.none(),
        batches=st.none() | st.just(30),
        metrics=few_metrics,
        gpu=st.just({}) | st.just({"memory_bytes": 3}),
    )
    said = draw(st.lists(st.builds(Report, event=beats, seq=st.none() | st.integers(1, 40))))
    return [
        Step(draw(waits), ReportCallbacks(attempt=attempt, reports=(report,))) for report in said
    ]


rarely = st.sampled_from([False, False, False, True])
words = st.builds(
    Step,
    after=waits,
    command=st.builds(
        ReportCallbacks,
        attempt=st.just(0),
        reports=st.tuples(st.builds(Report, event=epoch_ends | generated.callbacks)),
    ),
)
walks = st.lists(
    st.one_of(bursts(), bursts(), bursts(), (words | steps).map(lambda step: [step])), max_size=8
).map(lambda parts: [step for part in parts for step in part])


def compacted(
    records: Sequence[Record], *, cut: int = 0, roller: Roller | None = None
) -> list[Record]:
    """The records from the cut on as they are after compaction, read back from JSON."""
    roller = roller or Roller()
    for record in records[:cut]:
        roller.pass_by(record)
    ready = [rollup for record in records[cut:] for rollup in roller.add(record)]
    rollups = {rollup.version: stored(rollup) for rollup in [*ready, *roller.finish()]}
    gone = {number for rollup in rollups.values() for number in versions_of(rollup)}
    return [
        rollups.get(record.version, record)
        for record in records
        if record.version in rollups or record.version not in gone
    ]


def stored(record: Record) -> Record:
    data = json.loads(json.dumps(encode(record.event)))
    return replace(record, event=decode(record.type, data), stored=data)


def versions_of(rollup: Record) -> range:
    assert isinstance(rollup.event, Heartbeats)
    return range(rollup.event.from_version, rollup.version + 1)


def rollups_in(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if isinstance(record.event, Heartbeats)]


def only_rollup(records: Sequence[Record]) -> Heartbeats:
    (record,) = rollups_in(records)
    assert isinstance(record.event, Heartbeats)
    return record.event


def a_training(beats: int = 6, *, every: float = 30.0) -> Given:
    """A job that has said so many batches of epoch 1, each with its loss."""
    job = a_running_job()
    for batch in range(beats):
        beat = Heartbeat(epoch=1, batch=batch, batches=100, metrics={"loss": 1 / (batch + 1)})
        report = Report(event=beat, seq=batch + 1)
        job.when(ReportCallbacks(attempt=1, reports=(report,)), at=job.now + every)
    return job


@settings(max_examples=300)
@given(jobs(), walks, st.integers(0, 60))
def test_every_fold_takes_the_roll_ups_for_the_heartbeats(
    job: Given, steps: list[Step], cut: int
) -> None:
    records = walk(job, steps).records

    slim = compacted(records, cut=cut)

    moment = Moment(now=at(job.now))
    assert fold(slim) == fold(records) == job.state
    assert timeline(slim, moment.now) == timeline(records, moment.now)
    told, whole = (explain(log, moment, POLICY) for log in (slim, records))
    assert replace(told, evidence=()) == replace(whole, evidence=())
    for rolled, plain in zip(told.evidence, whole.evidence, strict=True):
        assert rolled == plain or is_the_roll_up_of(rolled, plain, slim)


def is_the_roll_up_of(rolled: Exhibit, plain: Exhibit, slim: Sequence[Record]) -> bool:
    """Whether it tells the same of the heartbeats among which the other one lay.

    How many came after that one, they do not tell.
    """
    (record,) = (record for record in slim if record.position == rolled.position)
    assert isinstance(record.event, Heartbeats)
    assert record.event.from_position <= plain.position <= record.position
    return rolled.why.removesuffix(".") == plain.why.partition(", although")[0].removesuffix(".")


@given(jobs(), walks)
def test_between_runs_every_moment_is_as_it_was(job: Given, steps: list[Step]) -> None:
    records = walk(job, steps).records
    before: dict[int, JobState] = {}
    state = JobState()
    for record in records:
        state = before[record.version] = evolve(state, record)

    state = JobState()
    for record in compacted(records):
        state = evolve(state, record)
        assert state == before[record.version]


@given(jobs(), walks)
def test_what_stays_is_untouched_and_what_goes_is_covered_once(
    job: Given, steps: list[Step]
) -> None:
    records = walk(job, steps).records
    slim = compacted(records)

    kept = [record for record in slim if not isinstance(record.event, Heartbeats)]
    covered = [number for rollup in rollups_in(slim) for number in versions_of(rollup)]
    by_version = {record.version: record for record in records}
    assert all(by_version[record.version] == record for record in kept)
    assert sorted(covered + [record.version for record in kept]) == sorted(by_version)
    for rollup in rollups_in(slim):
        last = by_version[rollup.version]
        assert replace(rollup, event=last.event) == last
        for number in versions_of(rollup):
            assert isinstance(by_version[number].event, Heartbeat)
            assert by_version[number].rule is None


@given(jobs(), walks, st.integers(0, 60))
def test_what_was_rolled_up_in_parts_can_be_rolled_up_again(
    job: Given, steps: list[Step], cut: int
) -> None:
    records = walk(job, steps).records
    once = compacted(records, cut=cut)

    assert fold(compacted(once)) == job.state
    assert timeline(compacted(once), at(job.now)) == timeline(records, at(job.now))


def test_a_run_becomes_one_event_that_says_what_it_was() -> None:
    job = a_training(6).hears(Heartbeat(epoch=1, metrics={"loss": 0.1}))

    told = only_rollup(compacted(job.records))

    first, last = job.records[4], job.records[9]
    assert (told.count, told.from_version, told.from_position) == (
        6, first.version, first.position,
    )  # fmt: skip
    assert (told.min_gap_seconds, told.max_gap_seconds) == (30, 30)
    assert told.first_at == "2026-11-23T01:02:33.456789Z"
    assert told.last_at == told.advanced_at == "2026-11-23T01:05:03.456789Z"
    assert (told.epoch, told.batch, told.batches, told.seqs) == (1, 5, 100, ((1, 6),))
    assert told.metrics == {"loss": 1 / 6}
    rollup = rollups_in(compacted(job.records))[0]
    assert (rollup.position, rollup.hash) == (last.position, last.hash)


@pytest.mark.parametrize("between", [TrainerEvent(type="note"), Heartbeat(epoch=2, batch=1)])
def test_a_run_ends_where_something_else_happens(between: Heartbeat | TrainerEvent) -> None:
    job = a_training(3).hears(between)
    later = [Heartbeat(epoch=1, batch=10 + number, batches=100) for number in range(3)]
    job.hears(*later)

    assert [versions_of(rollup) for rollup in rollups_in(compacted(job.records))] == [
        range(5, 8), range(9, 12),
    ]  # fmt: skip


def test_the_first_sign_of_an_attempt_and_the_end_of_an_epoch_stay() -> None:
    job = a_training(2).hears(Heartbeat(epoch=1, metrics={"loss": 0.2}))
    for _ in range(3):  # a trainer that repeats the epoch that it has completed
        job.hears(Heartbeat(epoch=1, metrics={"loss": 0.2, "map": 0.4}), at=job.now + 30)

    slim = compacted(job.records)

    kept = [r.version for r in slim if isinstance(r.event, Heartbeat)]
    assert kept == [4, 7]
    assert [
        rollup.event.count for rollup in rollups_in(slim) if isinstance(rollup.event, Heartbeats)
    ] == [2, 3]
    assert timeline(slim, at(job.now)) == job.told()


def test_heartbeats_of_an_attempt_that_goes_on_stay() -> None:
    job = a_training(6)
    roller = Roller(running={1})

    assert compacted(job.records, roller=roller) == job.records
    assert roller.waiting == 6


def test_a_missing_callback_is_still_missed() -> None:
    job = a_running_job()
    for seq in (1, 2, 5, 6):
        report = Report(event=Heartbeat(), seq=seq)
        job.when(ReportCallbacks(attempt=1, reports=(report,)), at=job.now + 30)

    told = only_rollup(compacted(job.records))

    assert told.seqs == ((1, 2), (5, 6))
    assert timeline(compacted(job.records), at(job.now)).attempts[0].gaps == [
        {"after_seq": 2, "before_seq": 5}
    ]


def test_no_roll_up_is_longer_than_the_longest_run() -> None:
    job = a_running_job().hears(*[Heartbeat()] * (LONGEST_RUN + 5))

    sizes = [len(versions_of(rollup)) for rollup in rollups_in(compacted(job.records))]

    assert sizes == [LONGEST_RUN, 5]


def test_within_a_run_the_training_was_as_healthy_as_its_longest_silence_allows() -> None:
    job = a_training(100, every=60).done("succeeded")
    rollup = rollups_in(compacted(job.records))[0]
    before = fold(record for record in job.records if record.version < 5)
    half = at(50 * 60)
    moment = Moment(now=half)
    assert reaches_back(rollup, 0, half)
    assert not reaches_back(rollup, 0, at(10))
    assert assess(before, moment, POLICY).verdict == "silent"

    state = evolve(before, known_within(rollup, half))

    assert state.status is JobStatus.RUNNING
    assert assess(state, moment, POLICY).verdict == "healthy"
    assert state.alive_at == at(49 * 60)
    assert (state.progress, state.version) == (before.progress, 5)
