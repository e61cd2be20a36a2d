from __future__ import annotations

from datetime import UTC, datetime, timedelta

from projections.job import JobState
from projections.policy import Policy
from service.senses import Senses

START = datetime(2026, 11, 23, tzinfo=UTC)
JOB = JobState(id=7, attempt=2)


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def hearing(*seconds: float) -> Senses:
    senses = Senses(Policy(heartbeat_timeout=300))
    for second in seconds:
        senses.hears(later(second))
    return senses


def test_we_listen_from_the_first_sign_of_life_on() -> None:
    assert hearing(0, 1, 2).listening_since == START


def test_after_an_outage_we_listen_anew() -> None:
    senses = hearing(0, 1)
    senses.deaf()
    senses.hears(later(2))

    assert senses.listening_since == later(2)


def test_a_suspended_machine_has_not_listened() -> None:
    assert hearing(0, 1, 7200).listening_since == later(7200)


def test_what_was_seen_belongs_to_one_attempt() -> None:
    senses = hearing(0)
    senses.sees((7, 1), later(1))
    senses.cannot_look((7, 1))

    moment = senses.moment_of(JOB, later(2))

    assert (moment.reachable_at, moment.unreachable) == (None, False)


def test_jobs_that_nobody_looks_after_are_forgotten() -> None:
    senses = hearing(0)
    senses.sees((7, 2), later(1))
    senses.cannot_look((8, 1))
    senses.forget_all_but({8})

    assert senses.last_seen == {}
    assert senses.unreachable == {(8, 1)}
