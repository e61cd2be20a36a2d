"""The fold that takes heartbeats many at a time makes the state that the plain one makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.beats import Glimpse, fold_glimpses
from projections.events import (
    Event,
    Heartbeat,
    Record,
    Running,
    TrainerEvent,
    encode,
    type_of,
)
from projections.job import JobState
from projections.status import fold
from tests import generated
from tests.given import CREATED, START, Given, at
from tests.unit.test_properties import Step, jobs, walk, walks

Log = list[tuple[int, Event]]

numbers = st.integers(-1, 3) | st.sampled_from([0.25, -1e299, 1e300, 1e301, -1e300, 2**64])
metrics = st.dictionaries(st.sampled_from(["loss", "map", "lr"]), numbers, max_size=3)
few = st.none() | st.integers(0, 3)
shares = st.none() | st.sampled_from([0, 0.0, 0.25, 0.5, 1, 1.0, 1.5])

beats = st.builds(
    Heartbeat, epoch=few, epochs=few, progress=shares, batch=few, batches=few, metrics=metrics
)
usual_beats = st.builds(
    Heartbeat,
    epoch=st.integers(0, 3),
    epochs=st.sampled_from([None, 4, 5]),
    progress=st.sampled_from([0.0, 0.25, 0.5, 1.5]),
    batch=st.integers(0, 3),
    batches=st.sampled_from([None, 4, 5]),
    metrics=st.fixed_dictionaries({"loss": numbers, "map": st.floats(0, 1)}),
)
names = st.sampled_from(
    ["epoch_end", "epoch_end", "checkpoint_saved", "checkpoint_damaged", "tracking_started", "note"]
)
asides = st.fixed_dictionaries(
    {"epoch": few},
    optional={
        "metrics": metrics,
        "uri": st.sampled_from(["s3://b/c.pt", "s3://b/d.pt"]),
        "mlflow_run_id": st.sampled_from(["run-1", "run-2"]),
    },
)
told = st.builds(TrainerEvent, type=names, data=asides)
retries = st.builds(replace, generated.retries, next_attempt=st.integers(1, 3))


def _stretch(events: st.SearchStrategy[Event], most: int) -> st.SearchStrategy[Log]:
    one = st.tuples(st.sampled_from([1, 1, 1, 2]), events)
    return st.lists(one, max_size=most).map(list)  # mapped, to be one choice and not many


stretches = st.one_of(
    _stretch(usual_beats, 9),
    _stretch(usual_beats, 9),
    _stretch(beats, 5),
    _stretch(told, 2),
    _stretch(retries, 1),
    _stretch(generated.events, 1),
)
trainings = st.lists(stretches, max_size=6).map(lambda some: [one for log in some for one in log])


def glimpses(records: Sequence[Record]) -> list[Glimpse]:
    """The records as a page of the log shows them to a fold."""
    return [
        (r.position, r.version, r.attempt, type_of(r.event), r.recorded_at, encode(r.event))
        for r in records
    ]


def quickly(records: Sequence[Record], state: JobState | None = None) -> JobState:
    trace_id = records[0].trace_id if records else ""
    return fold_glimpses(state or JobState(), 7, trace_id, glimpses(records))


def shown(state: JobState) -> str:
    """The state to the letter: 1 and 1.0 are not the same."""
    return json.dumps(asdict(state), sort_keys=True, default=str)


def in_time(log: Log) -> list[Record]:
    records = generated.as_log(log, START)
    return [replace(record, recorded_at=at(10 * record.version)) for record in records]


@settings(max_examples=300)
@given(trainings)
def test_a_training_that_runs_is_folded_to_the_same_state(log: Log) -> None:
    running = Running(reason="started", message="")
    records = in_time([(1, CREATED), (1, running), *log])

    assert shown(quickly(records)) == shown(fold(records))


@given(st.lists(st.tuples(st.integers(1, 3), generated.events), max_size=20))
def test_any_log_is_folded_to_the_same_state(log: Log) -> None:
    records = in_time(log)

    assert shown(quickly(records)) == shown(fold(records))


@given(jobs(), walks, st.data())
def test_every_moment_of_a_job_is_folded_to_the_same_state(
    job: Given, steps: list[Step], data: st.DataObject
) -> None:
    records = walk(job, steps).records
    known = records[: data.draw(st.integers(0, len(records)))]

    assert shown(quickly(known)) == shown(fold(known))


@given(trainings, st.integers(0, 25))
def test_where_a_page_of_the_log_ends_makes_no_difference(log: Log, end: int) -> None:
    records = in_time([(1, CREATED), *log])

    before = quickly(records[:end])

    after = fold_glimpses(before, 7, records[0].trace_id, glimpses(records[end:]))
    assert shown(after) == shown(fold(records))
