"""What other timeouts would have said: histories made by hand, with the gaps that matter."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.backtest import Backtest, Kill, kill_of
from projections.events import Heartbeat, Heartbeats, Queued, Running, Source, TrainerEvent
from projections.lifelines import Lifeline, Lifelines
from projections.policy import Policy
from tests.given import POLICY, Given, a_running_job, an_external_job, at

ALIVE = Heartbeat()
SAVED = TrainerEvent(type="checkpoint_saved", data={"epoch": 1, "uri": "s3://b/1.pt"})


def lines_of(job: Given, *, now: float) -> list[Lifeline]:
    lifelines = Lifelines()
    for record in job.records:
        lifelines.add(record)
    return lifelines.finished(at(now))


def limited(job: Given, timeout: float, *, now: float = 100_000, **limits: float) -> Backtest:
    policy = replace(POLICY, heartbeat_timeout=timeout, **limits)  # type: ignore[arg-type]
    result = Backtest(policy=policy)
    result.add(lines_of(job, now=now))
    return result


def only_kill(job: Given, timeout: float, *, now: float = 100_000) -> Kill:
    [kill] = limited(job, timeout, now=now).kills
    return kill


def a_job_that_called(until: int) -> Given:
    """Every ten seconds, for the last time at `until`."""
    job = a_running_job()
    for second in range(10, until + 1, 10):
        job.hears(ALIVE, at=second)
    return job


def a_job_that_was_away(since: int, until: float) -> Given:
    return a_job_that_called(since).hears(ALIVE, at=until)


def test_an_attempt_is_ended_after_twice_the_timeout_and_not_before() -> None:
    job = a_job_that_was_away(100, 300)

    assert only_kill(job, 99, now=310).at == at(100 + 198)
    assert limited(job, 100, now=310).kills == []


def test_ending_an_attempt_that_called_back_later_is_wrong() -> None:
    job = a_job_that_was_away(100, 500).hears(SAVED, at=510).done(at=520)

    kill = only_kill(job, 100)

    assert kill.is_false
    assert (kill.silent_since, kill.at, kill.called_at) == (at(100), at(300), at(500))


def test_what_a_wrong_end_throws_away_counts_from_the_last_checkpoint() -> None:
    job = a_running_job().hears(ALIVE, at=100).hears(SAVED, at=200).hears(ALIVE, at=1000)

    assert limited(job, 50).wasted_hours * 3600 == pytest.approx(
        100
    )  # killed at 100, at second 100
    assert limited(job, 100).wasted_hours * 3600 == pytest.approx(200)


def test_ending_an_attempt_that_was_dead_saves_the_time_until_it_was_found_out() -> None:
    job = a_running_job().hears(ALIVE, at=100).gone(signal=11, at=500).tick(at=510)

    kill = only_kill(job, 60)

    assert kill.is_true
    assert (kill.delay, kill.delay_then, kill.saved_seconds) == (120, 400, 280)


def test_the_present_watchdog_is_found_again_with_its_own_timeout() -> None:
    job = an_external_job().hears(ALIVE, at=100).tick(at=700)
    assert "attempt_failed" in job.types()

    kill = only_kill(job, 300)

    assert (kill.at, kill.delay_then, kill.saved_seconds) == (at(700), 600, 0)


def test_a_longer_timeout_would_have_found_a_death_later_that_silence_has_shown() -> None:
    job = an_external_job().hears(ALIVE, at=100).tick(at=700)

    kill = only_kill(job, 400)

    assert (kill.is_true, kill.delay, kill.saved_seconds) == (True, 800, -200)


def test_a_callback_after_the_end_shows_that_the_end_was_wrong() -> None:
    job = an_external_job().hears(ALIVE, at=100).tick(at=700).hears(ALIVE, at=750, attempt=1)
    assert job.records[-1].rule == "stale_attempt"

    assert only_kill(job, 300).is_false
    assert limited(job, 326).kills == []  # it would have waited for the callback


def test_a_callback_while_it_was_being_stopped_shows_it_too() -> None:
    job = a_running_job().hears(ALIVE, at=100).tick(at=700)
    assert "stop_requested" in job.types()
    job.hears(ALIVE, at=705).gone(signal=9, at=710)

    assert only_kill(job, 300).is_false


def test_nobody_is_ended_while_the_executor_cannot_be_asked() -> None:
    job = a_job_that_called(100)
    job.unreachable = True
    job.tick(at=150)
    job.unreachable = False
    job.tick(at=400).hears(ALIVE, at=450)

    assert only_kill(job, 50).at == at(400)
    assert only_kill(job, 20).at == at(140)


def test_an_attempt_that_goes_on_cannot_be_judged_yet() -> None:
    result = limited(a_running_job().hears(ALIVE, at=100), 60, now=500)

    assert (len(result.kills), result.undecided) == (1, 1)
    assert (result.saved_hours, result.wasted_hours) == (0, 0)
    assert limited(a_running_job().hears(ALIVE, at=100), 60, now=219).kills == []


@pytest.mark.parametrize("how", ["cancel", "done", "exit"])
def test_a_silence_ends_with_whatever_else_ends_the_attempt(how: str) -> None:
    job = a_job_that_called(100)
    match how:
        case "cancel":
            job.cancel(at=150)
        case "done":
            job.done(at=150)
        case _:
            job.gone(1, at=150)

    assert limited(job, 25).kills == []
    assert len(limited(job, 24).kills) == 1


def test_each_attempt_is_watched_for_itself() -> None:
    job = an_external_job().hears(ALIVE, at=10).tick(at=610)
    job.hears(ALIVE, at=700).hears(ALIVE, at=710).done(at=720)

    lines = lines_of(job, now=1000)

    assert [(line.attempt, line.ended_at) for line in lines] == [(1, at(610)), (2, at(720))]
    assert [kill_of(line, 5) is not None for line in lines] == [True, False]


def test_an_attempt_that_was_suspended_is_not_silent_meanwhile() -> None:
    job = a_job_that_called(100)
    job.now = 110
    job.holds(Queued(reason="suspended", message="Suspended."))
    job.now = 5000
    job.holds(Running(reason="seen_alive", message="Alive."))
    job.hears(ALIVE, at=5010).done(at=5020)

    assert limited(job, 10).kills == []


def test_stall_alarms_are_counted_with_those_that_were_wrong() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1), at=100)
    for second in range(110, 1000, 10):
        job.hears(Heartbeat(epoch=1), at=second)
    job.hears(Heartbeat(epoch=2), at=1000).gone(1, at=1100)

    assert limited(job, 300, stall_timeout=90).stalled.raised == 3  # one before the first epoch
    assert limited(job, 300, stall_timeout=90).stalled.false == 2
    assert limited(job, 300, stall_timeout=901).stalled.raised == 0


def test_another_backoff_changes_what_retries_wait() -> None:
    job = a_running_job().gone(1, at=10).tick(at=20).submitted(at=60).alive(at=70)
    job.gone(1, at=80).tick(at=90)
    assert job.types().count("retry_scheduled") == 2

    assert limited(job, 300, retry_backoff=30).waited_seconds == 30 + 60
    assert limited(job, 300, retry_backoff=5).waited_seconds == 5 + 10


def test_of_a_run_that_was_rolled_up_the_longest_silence_is_known() -> None:
    job = a_running_job().hears(ALIVE, at=10)
    job.now = 500
    rolled = Heartbeats(
        from_version=6,
        from_position=200,
        count=3,
        first_at=at(20).isoformat(),
        last_at=at(500).isoformat(),
        min_gap_seconds=30.0,
        max_gap_seconds=450.0,
    )
    job.holds(rolled, source=Source.TRAINER).done(at=510)

    assert only_kill(job, 200).is_false
    assert limited(job, 225).kills == []


gaps = st.lists(st.integers(1, 400), max_size=12)
ends = st.sampled_from(["done", "gone", "cancel", "open", "late"])


@given(gaps, ends, st.integers(1, 500), st.floats(0.5, 200), st.floats(0.5, 200))
def test_a_longer_timeout_never_ends_more_attempts(
    waits: list[int], how: str, last: int, one: float, other: float
) -> None:
    job = a_history(waits, how, last)
    shorter, longer = sorted((one, other))

    quick, slow = limited(job, shorter), limited(job, longer)

    assert len(quick.kills) >= len(slow.kills)
    assert quick.silent.raised >= slow.silent.raised
    by_attempt = {kill.attempt: kill for kill in quick.kills}
    assert all(by_attempt[kill.attempt].at <= kill.at for kill in slow.kills)
    assert all(kill.is_false for kill in quick.kills if kill.attempt in wrong(slow))


def wrong(result: Backtest) -> set[int]:
    return {kill.attempt for kill in result.false_kills}


def a_history(waits: list[int], how: str, last: int) -> Given:
    job = an_external_job(policy=Policy(heartbeat_timeout=1_000))
    now = 0
    for wait in waits:
        now += wait
        job.hears(ALIVE, at=now)
    match how:
        case "done":
            job.done(at=now + last)
        case "gone":
            job.gone(1, at=now + last)
        case "cancel":
            job.cancel(at=now + last)
        case "late":
            job.tick(at=now + 2_000).hears(ALIVE, at=now + 2_000 + last, attempt=1)
        case _:
            pass
    return job


def test_a_lifeline_tells_when_the_attempt_began_and_was_last_heard() -> None:
    [line] = lines_of(a_job_that_was_away(100, 500), now=600)
    began: datetime = line.began_at

    assert (began, line.called_at, line.ended_at) == (at(0), at(500), None)
