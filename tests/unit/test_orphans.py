"""What may be swept up: only what the log says is its own and over; the rest is let be."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from projections.job import JobState, JobStatus, changed
from service.executor import Found
from service.job_template import names
from service.orphans import GRACE_SECONDS, Kind, Launched, is_current, launches, orphan_of
from service.store import Snapshot
from tests.given import START, at

PLACE = "kubernetes:gpu/training"
RUNNING = JobState(
    id=7,
    trace_id="abc",
    status=JobStatus.RUNNING,
    place=PLACE,
    uid="u1",
    attempt_queued_at=START,
    version=1,
)
OVER = changed(RUNNING, status=JobStatus.FAILED, completed_at=START)
SECOND = changed(RUNNING, attempt=2, uid="u2")
TOLD = {1: Launched(frozenset({PLACE}), frozenset({"u1"}))}
JOB = Found(
    cluster="gpu",
    place=PLACE,
    name="train-7",
    uid="u1",
    job_name="train-7",
    job_id="7",
    trace_id="abc",
    log_id="our log",
    lives=True,
    ending=False,
)
POD = replace(JOB, name="train-7-x2k4b", uid="p1", log_id=None)
LATE = at(GRACE_SECONDS)


def name_of(job_id: int, attempt: int) -> str:
    return names(job_id, attempt).job


def verdict(
    found: Found,
    state: JobState | None,
    told: dict[int, Launched] | None = None,
    now: datetime = LATE,
) -> tuple[Kind, bool] | None:
    known = Snapshot(state, now) if state is not None else None
    orphan = orphan_of(found, known, TOLD if told is None else told, name_of)
    return None if orphan is None else (orphan.kind, orphan.may_go)


@pytest.mark.parametrize(
    ("found", "state", "expected"),
    [
        pytest.param(JOB, RUNNING, None, id="the attempt that is looked after"),
        pytest.param(JOB, OVER, (Kind.OVER, True), id="its job has ended"),
        pytest.param(JOB, SECOND, (Kind.OVER, True), id="an earlier attempt"),
        pytest.param(
            replace(JOB, ending=True), OVER, (Kind.OVER, False), id="it is being deleted already"
        ),
        pytest.param(replace(JOB, lives=False), OVER, None, id="it ended, and waits for its TTL"),
        pytest.param(JOB, None, (Kind.UNKNOWN, False), id="no such job in the log"),
        pytest.param(
            replace(JOB, lives=False), None, (Kind.UNKNOWN, False), id="no such job, and it ended"
        ),
        pytest.param(
            replace(JOB, trace_id="other"), OVER, (Kind.UNKNOWN, False), id="another trace"
        ),
        pytest.param(replace(JOB, uid="u9"), OVER, (Kind.UNKNOWN, False), id="another uid"),
        pytest.param(
            replace(JOB, name="train-7-2", job_name="train-7-2"),
            OVER,
            (Kind.UNKNOWN, False),
            id="an attempt that there never was",
        ),
        pytest.param(
            replace(JOB, place="kubernetes:other/training"),
            OVER,
            (Kind.UNKNOWN, False),
            id="at a place where it was never asked for",
        ),
        pytest.param(POD, RUNNING, (Kind.POD, False), id="a pod without its Job"),
        pytest.param(POD, OVER, (Kind.POD, False), id="a pod without its Job, of a job that ended"),
        pytest.param(replace(POD, lives=False), OVER, None, id="a pod that has ended"),
        pytest.param(replace(POD, ending=True), OVER, None, id="a pod that is being deleted"),
        pytest.param(replace(POD, trace_id="x"), OVER, None, id="a pod of another's"),
        pytest.param(POD, None, None, id="a pod of a job that the log does not have"),
    ],
)
def test_what_is_an_orphan_and_what_may_go(
    found: Found, state: JobState | None, expected: tuple[Kind, bool] | None
) -> None:
    assert verdict(found, state) == expected


def test_what_is_over_is_let_be_for_a_while() -> None:
    assert verdict(JOB, OVER, now=LATE - timedelta(seconds=1)) is None
    assert verdict(JOB, SECOND, now=LATE - timedelta(seconds=1)) is None


def test_without_a_uid_in_the_log_the_place_and_the_trace_say_whose_it_is() -> None:
    asked = {1: Launched(frozenset({PLACE}))}
    assert verdict(JOB, OVER, asked) == (Kind.OVER, True)
    assert verdict(JOB, OVER, {}) == (Kind.UNKNOWN, False)
    assert verdict(JOB, SECOND, {2: asked[1]}) == (Kind.UNKNOWN, False)


def test_the_launches_of_a_job_are_told_by_attempt() -> None:
    rows = [(1, PLACE, None), (1, None, "u1"), (2, PLACE, None), (2, "elsewhere", None)]
    assert launches(rows) == {
        1: Launched(frozenset({PLACE}), frozenset({"u1"})),
        2: Launched(frozenset({PLACE, "elsewhere"})),
    }


@pytest.mark.parametrize(
    "found",
    [replace(JOB, uid="u9"), replace(JOB, trace_id="x"), replace(JOB, place="elsewhere"), POD],
)
def test_only_exactly_what_the_log_looks_after_is_current(found: Found) -> None:
    assert is_current(JOB, RUNNING, name_of)
    assert not is_current(found, RUNNING, name_of)
    assert not is_current(JOB, OVER, name_of)
    assert not is_current(JOB, SECOND, name_of)
