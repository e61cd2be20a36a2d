from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.decide import Report, ReportCallbacks
from projections.events import (
    Adopted,
    Done,
    Event,
    Heartbeat,
    Queued,
    Running,
    TrainerEvent,
    Unrecognised,
)
from projections.job import JobState
from projections.sighting import Alive
from projections.timeline import Attempt, Gap, gaps_in, timeline
from tests import generated
from tests.given import START, Given, a_running_job, an_external_job, at


def phases(job: Given, attempt: int = 1) -> list[tuple[str, str, float]]:
    phases = job.told().attempts[attempt - 1].phases
    return [(phase["phase"], phase["reason"], phase["seconds"]) for phase in phases]


def epochs(job: Given) -> list[tuple[int, float | None]]:
    return [(epoch["epoch"], epoch["seconds"]) for epoch in job.told().attempts[0].epochs]


def titles(job: Given) -> list[str]:
    return [entry["title"] for entry in job.told().entries]


def begins(phase: str) -> TrainerEvent:
    return TrainerEvent(type="phase_started", data={"phase": phase})


def ends(epoch: int, **data: object) -> TrainerEvent:
    return TrainerEvent(type="epoch_end", data={"epoch": epoch, **data})


def numbered(job: Given, *seqs: int) -> Given:
    reports = tuple(Report(event=Heartbeat(), seq=seq) for seq in seqs)
    return job.when(ReportCallbacks(attempt=job.state.attempt, reports=reports))


# Phases


def test_a_whole_training_in_phases() -> None:
    job = Given().submitted(at=1).alive(at=3).hears(begins("download"), at=7)
    job.hears(begins("train"), at=12).done(at=112)

    assert phases(job) == [
        ("pending", "created", 1),
        ("queued", "submitted", 2),
        ("starting", "seen_alive", 4),
        ("download", "reported_by_trainer", 5),
        ("train", "reported_by_trainer", 100),
    ]
    assert job.told().attempts[0].outcome == "succeeded"


def test_a_trainer_that_names_no_phases_trains_from_its_first_callback_on() -> None:
    job = Given().submitted(at=1).alive(at=3).hears(Heartbeat(), at=7).done(at=9)

    assert phases(job)[2:] == [("starting", "seen_alive", 4), ("train", "called_back", 2)]


def test_a_trainer_of_somebody_else_trains_from_its_first_callback_on() -> None:
    job = Given().hears(Heartbeat(), at=7).done(at=9)

    assert phases(job) == [("pending", "created", 7), ("train", "called_back", 2)]


def test_the_open_phase_lasts_until_now() -> None:
    job = a_running_job()
    job.now = 50

    last = job.told().attempts[0].phases[-1]

    assert (last["to"], last["seconds"]) == (None, 50)


def test_each_reason_to_wait_is_a_phase_of_its_own() -> None:
    job = Given().holds(Queued(reason="waiting_for_slot", message="All slots are taken."))

    assert phases(job.submitted(at=20))[1:] == [
        ("queued", "waiting_for_slot", 20),
        ("queued", "submitted", 0),
    ]


def test_a_suspension_is_a_phase() -> None:
    job = a_running_job().tick(at=10).holds(Queued(reason="suspended", message="By the cluster."))
    job.alive(at=30).done(at=40)

    assert phases(job)[-3:] == [
        ("train", "called_back", 10),
        ("queued", "suspended", 20),
        ("train", "seen_alive", 10),
    ]


def test_a_cancel_a_stop_and_an_end_are_phases() -> None:
    job = a_running_job().cancel(at=10).tick(at=40).gone(signal=9, at=45).tick(at=47)

    assert phases(job)[-3:] == [
        ("cancelling", "cancel_requested", 30),
        ("stopping", "cancel_requested", 5),
        ("exited", "waits_for_done", 2),
    ]
    assert job.told().attempts[0].outcome == "cancelled"


def test_what_a_cancelled_trainer_still_begins_is_no_phase() -> None:
    job = a_running_job().cancel(at=10).hears(begins("upload"), at=11)

    assert phases(job)[-1][0] == "cancelling"


def test_each_attempt_has_phases_and_an_outcome_of_its_own() -> None:
    job = a_running_job().done("failed", code="oom", at=5).gone(1, attempt=1, at=6)

    job.submitted(at=35).done(at=60)

    first, second = job.told().attempts
    assert (first.attempt, first.outcome) == (1, "failed")
    assert first.reason is not None
    assert first.reason.code == "oom"
    assert (second.attempt, second.outcome) == (2, "succeeded")
    assert phases(job, 2)[:2] == [("queued", "retry_scheduled", 30), ("queued", "submitted", 25)]


def test_what_comes_after_the_outcome_changes_no_phase() -> None:
    job = a_running_job().done(at=5)
    before = phases(job)

    job.gone(0, at=9).hears(begins("encore"), at=10)

    assert phases(job) == before


# Epochs, checkpoints, gaps


def test_epochs_are_told_once_with_all_that_was_said_of_them() -> None:
    job = a_running_job().hears(
        Heartbeat(epoch=1, metrics={"loss": 2.0}),
        ends(1, metrics={"mAP50": 0.4, "note": "x"}, seconds=9),
        ends(1, metrics={"mAP50": 0.4}),
    )

    (epoch,) = job.told().attempts[0].epochs
    assert epoch["metrics"] == {"loss": 2.0, "mAP50": 0.4}
    assert epoch["seconds"] == 9


def test_an_epoch_under_way_is_not_an_epoch() -> None:
    job = a_running_job().hears(
        Heartbeat(epoch=1, batch=3, metrics={"loss": 2.0}), Heartbeat(epoch=1), Heartbeat(epoch=0)
    )

    assert epochs(job) == []


def test_an_epoch_without_a_duration_lasts_since_the_one_before_it() -> None:
    job = a_running_job().hears(ends(1), at=10).hears(ends(2), at=25).hears(ends(4), at=60)

    assert epochs(job) == [(1, None), (2, 15), (4, None)]


def test_epochs_that_come_out_of_order_are_told_in_order() -> None:
    def at_second(seconds: float, epoch: int) -> Report:
        return Report(event=ends(epoch), occurred_at=at(seconds))

    reports = (at_second(10, 1), at_second(30, 3), at_second(20, 2))
    job = a_running_job().when(ReportCallbacks(attempt=1, reports=reports))

    assert epochs(job) == [(1, None), (2, 10), (3, 10)]


def test_an_epoch_that_is_reported_late_is_told_in_its_own_attempt() -> None:
    job = a_running_job().hears(ends(1)).done("failed").hears(ends(2), attempt=1)

    assert [epoch for epoch, _ in epochs(job)] == [1, 2]
    assert job.told().attempts[1].epochs == []


def test_an_epoch_may_take_no_time() -> None:
    assert epochs(a_running_job().hears(ends(1, seconds=0))) == [(1, 0.0)]


@pytest.mark.parametrize("seconds", ["9", True, None, -1, 10**400], ids=str)
def test_nonsense_is_no_duration(seconds: object) -> None:
    assert epochs(a_running_job().hears(ends(1, seconds=seconds))) == [(1, None)]


def test_checkpoints_are_told() -> None:
    data = {"epoch": 3, "uri": "s3://b/last.pt", "sha256": "ab"}
    job = a_running_job().hears(
        TrainerEvent(type="checkpoint_saved", data=data),
        TrainerEvent(type="checkpoint_saved", data={"epoch": "x", "uri": 5}),
    )

    assert job.told().attempts[0].checkpoints == [
        {**data, "at": at(0)},
        {"epoch": None, "uri": None, "at": at(0)},
    ]


@pytest.mark.parametrize(
    ("seqs", "gaps"),
    [
        pytest.param([1, 2, 3], [], id="none"),
        pytest.param([3, 1, 2], [], id="out of order"),
        pytest.param([1, 4, 5, 9], [(1, 4), (5, 9)], id="two holes"),
        pytest.param([3], [(0, 3)], id="the first is missing"),
        pytest.param([], [], id="a trainer that does not count"),
    ],
)
def test_holes_in_the_trainers_count(seqs: list[int], gaps: list[tuple[int, int]]) -> None:
    job = numbered(a_running_job(), *seqs)

    assert job.told().attempts[0].gaps == [Gap(after_seq=a, before_seq=b) for a, b in gaps]


def dropped(**data: object) -> TrainerEvent:
    return TrainerEvent(type="callbacks_dropped", data=data)


def test_what_the_trainer_has_dropped_is_no_gap_and_is_told() -> None:
    job = numbered(a_running_job(), 1, 2, 7)

    job.hears(dropped(seqs=[[3, 4], [6, 6]], count=1234, why="thinned"))

    assert job.told().attempts[0].gaps == [Gap(after_seq=4, before_seq=6)]
    assert titles(job)[-1] == "The trainer dropped 1,234 timed heartbeats: its outbox was full"


def test_what_the_service_refused_is_told_with_its_words() -> None:
    why = {"status": 413, "code": "payload_too_large", "detail": "The body is too large."}

    job = a_running_job().hears(dropped(seqs=[[3, 3]], why="refused", **why))

    entry = job.told().entries[-1]
    assert entry["title"] == "The trainer dropped 1 callback that the service refused (HTTP 413)"
    assert entry["detail"] == "payload_too_large: The body is too large."


@pytest.mark.parametrize(
    "seqs",
    [None, "3-4", [3, 4], [[3]], [[4, 3]], [[0, 4]], [[-1, 4]], [[3, "4"]], [[True, 4]], [None]],
    ids=str,
)
def test_nonsense_closes_no_gap(seqs: object) -> None:
    job = numbered(a_running_job(), 1, 5).hears(dropped(seqs=seqs))

    assert job.told().attempts[0].gaps == [Gap(after_seq=1, before_seq=5)]


def test_a_gap_closes_when_what_was_missing_comes() -> None:
    job = numbered(a_running_job(), 1, 2, 6)
    assert job.told().attempts[0].gaps == [Gap(after_seq=2, before_seq=6)]

    numbered(job, 4)
    assert [tuple(gap.values()) for gap in job.told().attempts[0].gaps] == [(2, 4), (4, 6)]

    numbered(job, 5, 3)
    assert job.told().attempts[0].gaps == []


def test_a_gap_of_an_earlier_attempt_closes_by_what_is_set_aside() -> None:
    job = numbered(numbered(a_running_job(), 1, 4).done("failed"), 1)
    reports = tuple(Report(event=Heartbeat(), seq=seq) for seq in (2, 3))

    job.when(ReportCallbacks(attempt=1, reports=reports))

    assert job.rules()[-2:] == ["stale_attempt", "stale_attempt"]
    assert [attempt.gaps for attempt in job.told().attempts] == [[], []]


def lists(job: Given) -> list[tuple[list[int], list[int]]]:
    """Of each attempt, the epochs that stand and those that are lost."""
    return [
        ([one["epoch"] for one in attempt.epochs], [one["epoch"] for one in attempt.lost_epochs])
        for attempt in job.told().attempts
    ]


def test_an_epoch_that_is_trained_again_stands_with_the_latest_attempt_only() -> None:
    job = a_running_job().hears(ends(1), ends(2), ends(3)).done("failed")
    job.hears(ends(2, redone=True), ends(3, redone=True), ends(4)).done("failed").hears(ends(4))

    assert lists(job) == [([1], [2, 3]), ([2, 3], [4]), ([4], [])]
    assert "Epoch 3 complete again" in titles(job)


def test_an_epoch_that_is_told_late_is_lost_at_once() -> None:
    job = a_running_job().hears(ends(1)).done("failed").hears(ends(2), ends(3))

    job.hears(ends(2, metrics={"loss": 2.0}), ends(4), attempt=1)

    assert lists(job) == [([1, 4], [2]), ([2, 3], [])]
    assert job.told().attempts[0].lost_epochs[0]["metrics"] == {"loss": 2.0}


def test_a_lost_epoch_took_as_long_as_it_did() -> None:
    job = a_running_job().hears(ends(1), at=10).hears(ends(2), at=25).hears(ends(3), at=60)
    job.done("failed", at=61).hears(ends(2), at=100)

    first = job.told().attempts[0]
    assert [(one["epoch"], one["seconds"]) for one in first.epochs] == [(1, None), (3, 35)]
    assert [(one["epoch"], one["seconds"]) for one in first.lost_epochs] == [(2, 15)]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=14))
def test_each_epoch_stands_once_and_with_the_latest_attempt(told: list[tuple[int, int]]) -> None:
    job = a_running_job().done("failed").done("failed")
    for attempt, epoch in told:
        job.hears(ends(epoch), attempt=attempt)

    latest = {epoch: max(a for a, e in told if e == epoch) for _, epoch in told}
    for number, (stand, lost) in enumerate(lists(job), start=1):
        assert stand == sorted(epoch for epoch, attempt in latest.items() if attempt == number)
        assert lost == sorted({e for a, e in told if a == number and latest[e] != number})


def test_each_attempt_counts_for_itself() -> None:
    job = numbered(numbered(a_running_job(), 1, 2).done("failed"), 1, 3)

    assert [attempt.gaps for attempt in job.told().attempts] == [[], gaps_in([(1, 1), (3, 3)])]


# The story


def test_a_heartbeat_that_completes_an_epoch_is_told_once() -> None:
    job = a_running_job()
    for second in (5, 6):
        job.hears(Heartbeat(epoch=1, metrics={"loss": 0.5}), at=second)
    job.hears(Heartbeat(epoch=2, batch=1, metrics={"loss": 0.4}), at=7)

    titles = [entry["title"] for entry in job.told().entries]

    assert titles.count("Epoch 1 complete") == 1
    assert not any("epoch 2" in title.lower() for title in titles)


def test_the_story_leaves_out_heartbeats_but_the_first() -> None:
    job = a_running_job().hears(Heartbeat(), at=1).hears(Heartbeat(), at=2).done(at=3)

    assert titles(job) == [
        "Created: yolo11n on coco8, 10 epochs",
        "Queued (submitted)",
        "Attempt 1 runs as pid 4711",
        "Heartbeat",
        "The trainer reports: succeeded",
        "The job succeeded",
    ]


def test_what_did_not_count_is_told_as_set_aside() -> None:
    job = a_running_job().done().hears(Heartbeat(epoch=3)).holds(Unrecognised(type="x", data={}))

    assert titles(job)[-2:] == [
        "Set aside: heartbeat in epoch 3",
        "Set aside: an event of unknown type x",
    ]


def test_an_entry_says_when_where_and_what() -> None:
    job = a_running_job().hears(ends(1, metrics={"mAP50": 0.51239, "n": 3}), at=9)

    assert job.told().entries[-1] == {
        "at": at(9),
        "position": job.state.position,
        "kind": "trainer_event",
        "title": "Epoch 1 complete",
        "detail": "mAP50 0.5124, n 3",
    }


def test_a_retry_is_told_with_its_budget() -> None:
    job = a_running_job().done("failed", code="oom", message="Out of memory.")

    assert job.told().entries[-1]["detail"] == (
        "Attempt 2 follows, from the beginning: Out of memory."
        " Retries 0 → 1 of 3, interruptions 0 → 0 of 10."
    )


@given(st.lists(st.tuples(st.integers(1, 3), generated.events), max_size=6))
def test_every_event_has_a_title(log: list[tuple[int, Event]]) -> None:
    records = generated.as_log([(1, Given().records[0].event), *log], START)

    told = timeline(records, START)

    assert all(entry["title"] and isinstance(entry["detail"], str) for entry in told.entries)


def test_nothing_has_no_timeline() -> None:
    told = timeline([], START)

    assert (told.state, told.attempts, told.entries) == (JobState(), [], [])


# Whatever happens


Step = Callable[[Given], object]
STEPS: list[Step] = [
    lambda job: job.submitted(),
    lambda job: job.alive(),
    lambda job: job.holds(Running(reason="seen_alive", message="")),
    lambda job: job.holds(Adopted(handle="pid 3", message="")),
    lambda job: job.holds(Queued(reason="suspended", message="")),
    lambda job: job.hears(Heartbeat(epoch=1)),
    lambda job: job.hears(begins("train")),
    lambda job: job.hears(begins("validate")),
    lambda job: job.hears(begins("encore"), attempt=1),
    lambda job: job.hears(Done(status="failed")),
    lambda job: job.gone(1),
    lambda job: job.gone(0, attempt=1),
    lambda job: job.sees(Alive(handle="pid 9", since=START), attempt=1),
    lambda job: job.cancel() if not job.status.is_final else job,
]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 200)), max_size=12))
def test_phases_touch_each_other_and_cover_the_attempt_whole(steps: list[tuple[Step, int]]) -> None:
    job = Given()
    for step, seconds in steps:
        job.tick(at=job.now + seconds)
        step(job)

    told = job.told()
    assert [attempt.attempt for attempt in told.attempts] == list(range(1, job.state.attempt + 1))
    for attempt in told.attempts:
        check_phases(attempt, end=job.now)


def check_phases(attempt: Attempt, *, end: float) -> None:
    assert attempt.phases
    for before, after in pairwise(attempt.phases):
        assert before["to"] == after["from"]
    assert all(phase["to"] is not None for phase in attempt.phases[:-1])
    last = attempt.phases[-1]
    assert (last["to"] is None) == (attempt.outcome is None)
    whole = (last["to"] or at(end)) - attempt.phases[0]["from"]
    told = sum(phase["seconds"] for phase in attempt.phases)
    assert abs(whole - timedelta(seconds=told)) < timedelta(milliseconds=1)


def test_an_external_job_is_told_like_any_other() -> None:
    job = an_external_job().cancel(at=10).done("failed", code="cancelled", at=15)

    assert phases(job)[-2:] == [
        ("train", "called_back", 10),
        ("cancelling", "cancel_requested", 5),
    ]
