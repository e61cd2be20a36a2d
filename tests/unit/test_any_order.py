"""The same facts in any order end in the same status, but for the winners that the rules name.

Each producer keeps its own order; everything comes within the shortest grace; then time passes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.decide import JobHasEndedError
from projections.events import AttemptFailed, Done, Heartbeat, TrainerEvent
from projections.sighting import Alive, Gone
from tests.given import CREATED, START, Given, a_running_job, a_submitted_job, an_external_job

Act = Callable[[Given], object]
Facts = Mapping[str, Sequence[Act]]

# The producers' facts, all of attempt 1


def heartbeat(job: Given) -> None:
    job.hears(Heartbeat(), attempt=1)


def epoch(job: Given) -> None:
    job.hears(TrainerEvent(type="epoch_end", data={"epoch": 1}), attempt=1)


def succeeded(job: Given) -> None:
    job.hears(Done(status="succeeded"), attempt=1)


def failed(code: str, **error: Any) -> Act:
    word = Done(status="failed", error={"code": code, **error})
    return lambda job: job.hears(word, attempt=1)


def alive(job: Given) -> None:
    job.sees(Alive(handle="pid 3", since=START), attempt=1)


def gone(exit_code: int | None = None, *, signal: int | None = None, lost: bool = False) -> Act:
    seen = Gone(exit_code=exit_code, signal=signal, machine_lost=lost)
    return lambda job: job.sees(seen, attempt=1)


def tick(job: Given) -> None:
    job.tick(at=job.now)


def cancel(job: Given) -> None:
    try:
        job.cancel()
    except JobHasEndedError:
        assert job.status.is_final


def facts(
    *, trainer: Sequence[Act], watcher: Sequence[Act] = (), operator: Sequence[Act] = ()
) -> Facts:
    return {"trainer": trainer, "watcher": watcher, "operator": operator, "supervisor": [tick] * 2}


# How they are put in order


def orders(of: Facts) -> st.SearchStrategy[list[str]]:
    """Every way in which the producers' facts can follow each other."""
    return st.permutations([name for name, acts in of.items() for _ in acts])


def happens(job: Given, of: Facts, order: Sequence[str]) -> Given:
    """Let the facts happen in this order, within 2 s, and then let time pass."""
    left: dict[str, Iterator[Act]] = {name: iter(acts) for name, acts in of.items()}
    begun = job.now
    for number, name in enumerate(order):
        job.now = begun + 0.2 * number
        next(left[name])(job)
    for seconds in (5, 60, 200, 1000, 1700):
        job.tick(at=begun + seconds)
    return job


def outcome(job: Given) -> dict[str, object]:
    state = job.state
    failures = [r.event.reason for r in job.records if isinstance(r.event, AttemptFailed)]
    return {
        "status": (state.status, state.reason.code, state.rule),
        "attempts": (state.attempt, state.retry_count, state.interruptions, failures),
        "progress": (state.progress.epoch, state.progress.fraction),
        "left": state.releasing,
    }


FATAL = failed("dataset_missing", retryable=False)
ONCE = replace(CREATED, max_retries=0)
SCENARIOS = {
    "success": (
        facts(trainer=[heartbeat, epoch, succeeded], watcher=[alive, gone(0)]),
        ("succeeded", "done", []),
    ),
    "success and a bad exit": (
        facts(trainer=[epoch, succeeded], watcher=[alive, gone(1)]),
        ("succeeded", "done", []),
    ),
    "success and a kill": (
        facts(trainer=[epoch, succeeded], watcher=[alive, gone(signal=9)]),
        ("succeeded", "done", []),
    ),
    "success and the machine lost": (
        facts(trainer=[epoch, succeeded], watcher=[alive, gone(lost=True)]),
        ("succeeded", "done", []),
    ),
    "a fatal failure": (
        facts(trainer=[epoch, FATAL], watcher=[alive, gone(1)]),
        ("failed", "dataset_missing", ["dataset_missing"]),
    ),
    "a failure": (
        facts(trainer=[epoch, failed("oom")], watcher=[alive, gone(1)]),
        ("failed", "oom", ["oom"]),
    ),
    "two last words": (
        facts(trainer=[failed("oom"), succeeded], watcher=[alive, gone(1)]),
        ("failed", "oom", ["oom"]),
    ),
    "a kill": (
        facts(trainer=[heartbeat, epoch], watcher=[alive, gone(signal=9)]),
        ("failed", "killed", ["killed"]),
    ),
    "an exit without a word": (
        facts(trainer=[heartbeat, epoch], watcher=[alive, gone(0)]),
        ("failed", "exited_without_result", ["exited_without_result"]),
    ),
    "a drained node": (
        facts(trainer=[epoch, failed("terminated")], watcher=[alive, gone(143)]),
        ("queued", "retry_scheduled", ["terminated"]),
    ),
    "a lost machine": (
        facts(trainer=[heartbeat, epoch], watcher=[alive, gone(lost=True)]),
        ("queued", "retry_scheduled", ["machine_lost"]),
    ),
    "a cancel and a success": (
        facts(trainer=[succeeded], watcher=[alive, gone(0)], operator=[cancel]),
        ("succeeded", "done", []),
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("start", [a_submitted_job, a_running_job], ids=["queued", "running"])
@given(data=st.data())
def test_any_order_of_the_same_facts_ends_in_the_same_status(
    start: Callable[..., Given], scenario: str, data: st.DataObject
) -> None:
    of, (status, reason, failures) = SCENARIOS[scenario]
    usual = happens(start(ONCE), of, [name for name, acts in of.items() for _ in acts])

    job = happens(start(ONCE), of, data.draw(orders(of)))

    assert (job.status, job.reason) == (status, reason)
    assert outcome(job) == outcome(usual)
    assert outcome(job)["attempts"] == (job.state.attempt, 0, job.state.interruptions, failures)


RETRIED = {
    "a failure": facts(trainer=[epoch, failed("oom")], watcher=[alive, gone(1)]),
    "a kill": facts(trainer=[epoch], watcher=[alive, gone(signal=9)]),
    "a failure and a success too late": facts(
        trainer=[failed("oom"), succeeded], watcher=[gone(1)]
    ),
}


@pytest.mark.parametrize("scenario", RETRIED)
@given(data=st.data())
def test_any_order_ends_in_the_same_retry(scenario: str, data: st.DataObject) -> None:
    of = RETRIED[scenario]

    job = happens(a_running_job(), of, data.draw(orders(of)))

    assert (job.status, job.state.attempt, job.state.retry_count) == ("queued", 2, 1)
    assert job.state.releasing is None


@given(data=st.data())
def test_a_trainer_stopped_for_its_silence_ends_in_the_same_way(data: st.DataObject) -> None:
    of = facts(trainer=[heartbeat, failed("terminated")], watcher=[gone(143)])

    job = happens(a_running_job(ONCE).tick(at=600), of, data.draw(orders(of)))

    assert (job.status, job.reason) == ("failed", "heartbeat_lost")


@pytest.mark.parametrize("watcher", [[alive, gone(0)], [alive, gone(1)], [alive, gone(signal=9)]])
@given(data=st.data())
def test_a_cancel_and_an_end_without_a_word_end_in_a_cancel(
    watcher: Sequence[Act], data: st.DataObject
) -> None:
    of = facts(trainer=[heartbeat], watcher=watcher, operator=[cancel])

    job = happens(a_running_job(), of, data.draw(orders(of)))

    assert (job.status, job.reason) == ("cancelled", "cancelled")


@pytest.mark.parametrize(
    ("start", "watcher"),
    [(a_running_job, [alive, gone(143)]), (an_external_job, [])],
    ids=["local", "external"],
)
@given(data=st.data())
def test_success_and_cancel_the_winner_is_who_came_before_the_trainer_heard(
    start: Callable[[], Given], watcher: Sequence[Act], data: st.DataObject
) -> None:
    of = facts(trainer=[heartbeat, heartbeat, succeeded], watcher=watcher, operator=[cancel])
    order = data.draw(orders(of))

    job = happens(start(), of, order)

    words = [name for name in order if name in {"trainer", "operator"}]
    heard = words.index("operator") < 2  # a heartbeat came between the cancel and the `done`
    assert job.status == ("cancelled" if heard else "succeeded")


@given(data=st.data())
def test_a_cancel_and_its_confirmation_by_an_external_trainer(data: st.DataObject) -> None:
    of = facts(trainer=[heartbeat, failed("cancelled")])
    job = an_external_job().cancel()

    assert happens(job, of, data.draw(orders(of))).status == "cancelled"
