"""A job's history as spans: what lies within what, from when to when, under which ids."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.decide import Report, ReportCallbacks
from projections.events import Heartbeat, TrainerEvent
from projections.spans import (
    Span,
    attempt_span_id,
    attempt_spans,
    epoch_span,
    epoch_span_id,
    epoch_under_way,
    job_span,
    job_span_id,
    nanoseconds,
    trace_hex,
)
from projections.timeline import timeline
from tests.generated import as_log, events
from tests.given import START, Given, a_running_job, at

JOB = "abc-def"  # the trace id of every job that is given
ID = re.compile(r"(?!0{16})[0-9a-f]{16}")


def epoch_end(epoch: object, **data: object) -> TrainerEvent:
    return TrainerEvent(type="epoch_end", data={"epoch": epoch, **data})


def spans_of(job: Given, attempt: int = 1) -> list[Span]:
    return list(attempt_spans(job.told(), attempt))


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


@given(st.uuids(), st.integers(1, 10**6), st.integers(0, 10**6))
def test_ids_are_valid_and_each_their_own(trace: UUID, attempt: int, epoch: int) -> None:
    ids = [
        job_span_id(str(trace)),
        attempt_span_id(str(trace), attempt),
        epoch_span_id(str(trace), attempt, epoch),
    ]

    assert all(ID.fullmatch(one) for one in ids)
    assert len(set(ids)) == 3
    assert trace_hex(str(trace)) == trace.hex
    assert job_span_id(trace.hex) == ids[0]


def test_the_rule_for_ids_is_the_published_one() -> None:
    trace = "9f1c658d-124d-4c95-ac5d-798baf29701e"

    assert job_span_id(trace) == "50469ae47953a588"
    assert attempt_span_id(trace, 2) == "8433595404f2e0ba"
    assert epoch_span_id(trace, 2, 5) == "97f4e7b5d1a8a989"


def test_a_job_that_failed_says_why() -> None:
    job = a_running_job().done("failed", at=9, code="bad_labels", message="No.", retryable=False)

    span = job_span(job.state)

    assert (span.span_id, span.parent_id) == (job_span_id(JOB), None)
    assert (span.start, span.end) == (nanoseconds(START), nanoseconds(at(9)))
    assert span.error == job.state.reason.message
    assert span.attributes["epochlog.reason"] == job.reason
    assert span.attributes["epochlog.attempts"] == 1


def test_an_attempt_reaches_from_its_first_phase_to_its_last() -> None:
    job = a_running_job().done(at=20)

    attempt, *phases = spans_of(job)

    assert (attempt.name, attempt.span_id) == ("attempt", attempt_span_id(JOB, 1))
    assert attempt.parent_id == job_span_id(JOB)
    assert (attempt.start, attempt.end) == (nanoseconds(START), nanoseconds(at(20)))
    assert {phase.parent_id for phase in phases} == {attempt.span_id}
    assert [phase.start for phase in phases[1:]] == [phase.end for phase in phases[:-1]]
    assert (phases[0].start, phases[-1].end) == (attempt.start, attempt.end)
    assert attempt.error is None


def test_each_attempt_has_a_span_and_the_failed_one_says_why() -> None:
    job = a_running_job().gone(1, at=5).tick(at=8).tick(at=60)
    assert job.state.attempt == 2
    job.hears(Heartbeat(), at=70).done(at=90)

    first, second = spans_of(job, 1)[0], spans_of(job, 2)[0]

    assert first.error
    assert first.attributes["epochlog.outcome"] == "failed"
    assert second.error is None
    assert first.end == second.start
    assert second.end == nanoseconds(at(90))


def test_a_cancelled_job_has_no_error() -> None:
    job = Given().cancel("enough", at=3)

    assert job_span(job.state).error is None
    assert job_span(job.state).attributes["epochlog.status"] == "cancelled"
    assert spans_of(job)[0].error is None


def test_an_epoch_whose_length_is_told_has_its_span_at_once() -> None:
    job = a_running_job().hears(epoch_end(1, seconds=4, metrics={"loss": 0.5, "not": "one"}), at=9)

    span = epoch_span(job.records[-1], job.state)

    assert span is not None
    assert (span.span_id, span.parent_id) == (epoch_span_id(JOB, 1, 1), attempt_span_id(JOB, 1))
    assert (span.start, span.end) == (nanoseconds(at(5)), nanoseconds(at(9)))
    assert span.attributes["epochlog.metrics.loss"] == 0.5
    assert "epochlog.metrics.not" not in span.attributes
    assert span.by_trainer


@pytest.mark.parametrize("seconds", [1e12, 1e299])
def test_an_epoch_never_begins_before_its_attempt(seconds: float) -> None:
    job = a_running_job().hears(epoch_end(1, seconds=seconds), at=9)

    span = epoch_span(job.records[-1], job.state)

    assert span is not None
    assert (span.start, span.end) == (nanoseconds(START), nanoseconds(at(9)))


@pytest.mark.parametrize("ahead", [-3600, 3600], ids=["slow", "fast"])
def test_a_trainers_wrong_clock_moves_no_epoch_out_of_its_attempt(ahead: int) -> None:
    told = Report(event=epoch_end(1, seconds=2), occurred_at=at(9) + timedelta(seconds=ahead))
    job = a_running_job().when(ReportCallbacks(attempt=1, reports=(told,)), at=9).done(at=10)

    at_once = epoch_span(next(r for r in job.records if r.event == told.event), job.state)
    afterwards = named(spans_of(job), "epoch")[0]

    assert at_once is not None
    for span in (at_once, afterwards):
        assert nanoseconds(START) <= span.start <= span.end <= nanoseconds(at(10))


@pytest.mark.parametrize(
    "event",
    [
        epoch_end(1),
        epoch_end(1, seconds="long"),
        epoch_end(1, seconds=-1),
        epoch_end("one", seconds=1),
        epoch_end(0, seconds=1),
        TrainerEvent(type="epoch_begin", data={"epoch": 1, "seconds": 1}),
        Heartbeat(epoch=1, metrics={"loss": 1}),
    ],
)
def test_what_does_not_say_how_long_an_epoch_took_has_no_span_at_once(
    event: TrainerEvent | Heartbeat,
) -> None:
    job = a_running_job().hears(event, at=9)

    assert epoch_span(job.records[-1], job.state) is None


def test_epochs_whose_length_nobody_told_lie_between_their_ends() -> None:
    job = a_running_job()
    for epoch, moment in ((1, 10), (2, 14), (3, 19)):
        job.hears(epoch_end(epoch), at=moment)
    job.done(at=20)

    epochs = named(spans_of(job), "epoch")

    assert [(one.start, one.end) for one in epochs] == [
        (nanoseconds(at(start)), nanoseconds(at(end)))
        for start, end in ((0, 10), (10, 14), (14, 19))
    ]


def test_an_epoch_that_a_killed_trainer_did_not_finish_has_a_span_that_says_so() -> None:
    beat = Heartbeat(epoch=2, batch=3, batches=9)
    job = a_running_job().hears(epoch_end(1, seconds=4), at=9).hears(beat, at=12)
    job.gone(signal=9, at=15).tick(at=18)
    under_way = max(map(epoch_under_way, job.records))

    spans = list(attempt_spans(job.told(), 1, under_way))
    finished, unfinished = named(spans, "epoch")

    assert unfinished.span_id == epoch_span_id(JOB, 1, 2)
    assert unfinished.attributes["epochlog.outcome"] == "unfinished"
    assert (unfinished.start, unfinished.end) == (finished.end, spans[0].end)


def test_the_last_epoch_that_was_finished_is_told_once() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1, batch=9), epoch_end(1, seconds=4), at=9)
    job.done(at=10)

    assert len(named(list(attempt_spans(job.told(), 1, 1)), "epoch")) == 1


@given(st.lists(st.tuples(st.integers(1, 3), events), max_size=30))
def test_any_log_makes_spans_that_lie_within_each_other(log: list[tuple[int, object]]) -> None:
    records = as_log(log, START)  # type: ignore[arg-type]
    told = timeline(records, START)

    for number in (1, 2, 3):
        spans = list(attempt_spans(told, number, max(map(epoch_under_way, records), default=0)))
        ids = [span.span_id for span in spans]
        assert all(ID.fullmatch(one) for one in ids)
        assert len(set(ids)) == len(ids)
        for span in spans:
            assert span.start <= span.end
            assert span is spans[0] or (spans[0].start <= span.start and span.end <= spans[0].end)
    for record in records:
        at_once = epoch_span(record, told.state)
        assert at_once is None or at_once.start <= at_once.end
