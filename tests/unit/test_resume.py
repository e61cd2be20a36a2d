"""What an attempt may go on from, given what a job's attempts have reported."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.events import Done, Event, Heartbeat, TrainerEvent
from projections.resume import MOST_OFFERED, Resume, resume
from projections.status import fold
from tests import generated
from tests.given import START, Given, a_running_job


def saved(epoch: int | None, uri: str, **data: Any) -> TrainerEvent:
    about = {"uri": uri} if epoch is None else {"uri": uri, "epoch": epoch}
    return TrainerEvent(type="checkpoint_saved", data={**about, **data})


def damaged(uri: str) -> TrainerEvent:
    return TrainerEvent(type="checkpoint_damaged", data={"uri": uri, "message": "Not its hash."})


def ended(epoch: int) -> TrainerEvent:
    return TrainerEvent(type="epoch_end", data={"epoch": epoch})


def tracked(run_id: str) -> TrainerEvent:
    return TrainerEvent(type="tracking_started", data={"mlflow_run_id": run_id})


def offered(job: Given) -> Resume:
    return resume(job.records)


def uris(job: Given) -> list[str]:
    return [offer.uri for offer in offered(job).checkpoints]


def test_nothing_offers_nothing() -> None:
    nothing = Resume(checkpoints=[], epochs_reported=0, mlflow_run_id=None)

    assert resume([]) == offered(a_running_job()) == nothing


def test_a_checkpoint_is_offered_with_all_that_is_known_of_it() -> None:
    best = {"uri": "s3://b/best.pt", "sha256": "bb", "bytes": 5, "epoch": 2}
    job = a_running_job().hears(saved(3, "s3://b/1.pt", sha256="aa", bytes=7, best=best))

    (offer,) = offered(job).checkpoints

    assert (offer.uri, offer.sha256, offer.bytes, offer.epoch) == ("s3://b/1.pt", "aa", 7, 3)
    assert (offer.attempt, offer.position) == (1, job.records[-1].position)
    assert (offer.best, offer.partial) == (best, False)


@pytest.mark.parametrize(
    "data",
    [{}, {"sha256": 3, "bytes": -1, "best": 3}, {"bytes": "7", "best": {"uri": 3}, "partial": 1}],
)
def test_what_a_trainer_leaves_out_or_garbles_is_not_known(data: dict[str, Any]) -> None:
    (offer,) = offered(a_running_job().hears(saved(None, "c", **data))).checkpoints

    assert (offer.sha256, offer.bytes, offer.epoch, offer.best) == (None,) * 4
    assert offer.partial is False


def test_the_furthest_of_any_attempt_comes_first() -> None:
    job = a_running_job().hears(saved(4, "1-4"), saved(5, "1-5")).done("failed")
    job.hears(saved(5, "2-5"), saved(3, "2-3")).done("failed")

    assert uris(job) == ["2-5", "1-5", "1-4", "2-3"]


def test_what_came_too_late_to_count_is_offered_too() -> None:
    job = a_running_job().hears(saved(4, "a")).done("failed")

    job.hears(saved(5, "late"), ended(5), attempt=1)

    assert job.rules()[-1] == "stale_attempt"
    assert job.state.checkpoint == "a"
    assert uris(job) == ["late", "a"]
    assert offered(job).epochs_reported == 5


def test_of_one_place_only_what_lies_there_is_offered() -> None:
    job = a_running_job().hears(saved(1, "odd", sha256="1"), saved(2, "even", sha256="2"))
    job.hears(saved(3, "odd", sha256="3"))

    shown = [(offer.uri, offer.epoch, offer.sha256) for offer in offered(job).checkpoints]
    assert shown == [("odd", 3, "3"), ("even", 2, "2")]


def test_what_an_older_attempt_wrote_there_is_gone_however_late_it_says_so() -> None:
    job = a_running_job().done("failed").hears(saved(1, "last.pt", sha256="new"))

    job.hears(saved(9, "last.pt", sha256="old"), attempt=1)

    assert [offer.sha256 for offer in offered(job).checkpoints] == ["new"]


def test_the_best_weights_are_those_that_lie_there_by_now() -> None:
    first, second = {"uri": "best", "sha256": "1"}, {"uri": "best", "sha256": "2"}
    job = a_running_job().hears(saved(1, "odd", best=first), saved(2, "even", best=second))

    hashes = [offer.best and offer.best["sha256"] for offer in offered(job).checkpoints]
    assert hashes == ["2", "2"]


@pytest.mark.parametrize("name", ["checkpoint_damaged", "resume_failed"])
def test_one_that_a_later_attempt_found_damaged_is_not_offered(name: str) -> None:
    job = a_running_job().hears(saved(1, "a"), saved(2, "b")).done("failed")

    job.hears(TrainerEvent(type=name, data={"uri": "b", "message": "Gone."}))

    assert uris(job) == ["a"]


def test_it_stays_damaged_when_its_attempt_tells_of_it_only_later() -> None:
    job = a_running_job().done("failed").hears(damaged("a"))

    job.hears(saved(3, "a"), attempt=1)

    assert uris(job) == []


def test_an_older_attempt_cannot_damage_what_a_later_one_saved() -> None:
    job = a_running_job().done("failed").hears(saved(3, "a"))

    job.hears(damaged("a"), attempt=1)

    assert uris(job) == ["a"]


def test_no_more_are_offered_than_anybody_tries() -> None:
    job = a_running_job().hears(*(saved(n, f"c{n}") for n in range(1, 30)))

    assert uris(job) == [f"c{n}" for n in range(29, 29 - MOST_OFFERED, -1)]


def test_one_that_is_damaged_makes_room_for_another() -> None:
    job = a_running_job().hears(*(saved(n, f"c{n}") for n in range(1, 30))).done("failed")
    job.hears(*(damaged(f"c{n}") for n in range(20, 30)))

    assert uris(job)[0] == "c19"
    assert len(uris(job)) == MOST_OFFERED


def test_the_epochs_that_were_reported_are_known() -> None:
    job = a_running_job().hears(ended(2), Heartbeat(epoch=4, batch=1), Heartbeat(epoch=4))
    assert offered(job).epochs_reported == 2

    job.hears(Heartbeat(epoch=3, metrics={"loss": 1.0})).done("failed").hears(ended(1))
    assert offered(job).epochs_reported == 3


def test_the_run_in_mlflow_is_that_of_the_latest_attempt() -> None:
    job = a_running_job().hears(tracked("first")).done("failed")
    assert offered(job).mlflow_run_id == "first"

    job.hears(tracked("second")).hears(tracked("late"), attempt=1)
    assert offered(job).mlflow_run_id == "second"

    job.hears(Done(status="failed", mlflow_run_id="third"))
    assert offered(job).mlflow_run_id == "third"


@given(st.permutations([saved(n, f"c{n % 2}", sha256=str(n)) for n in range(1, 6)]))
def test_an_attempt_may_tell_of_its_checkpoints_in_any_order(told: list[TrainerEvent]) -> None:
    job = a_running_job().hears(*told)

    assert [offer.sha256 for offer in offered(job).checkpoints] == ["5", "4"]
    assert (job.state.checkpoint, job.state.checkpoint_epoch) == ("c1", 5)


@given(st.lists(st.tuples(st.integers(1, 3), generated.callbacks), max_size=12))
def test_the_state_never_knows_more_than_is_offered(log: list[tuple[int, Event]]) -> None:
    records = generated.as_log([(1, Given().records[0].event), *log], START)

    state, found = fold(records), resume(records)

    everything = {offer.uri for offer in found.checkpoints}
    assert state.checkpoint is None or everything
    if len(everything) < MOST_OFFERED:
        assert {one.uri for one in state.checkpoints} <= everything
    if state.checkpoint_epoch is not None:
        assert (found.checkpoints[0].epoch or -1) >= state.checkpoint_epoch
