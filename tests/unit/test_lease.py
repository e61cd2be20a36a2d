"""What the holder of a lease knows by its own clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from service.errors import FencedError
from service.lease import MARGIN, POLL_SECONDS, RENEWALS, SECONDS, Lease, machine_seconds


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_lease_that_was_never_taken_does_not_hold() -> None:
    assert not Lease(term=0).holds


def test_a_lease_holds_until_its_moment_and_not_at_it(clock: Clock) -> None:
    lease = Lease(term=1, until=108.0, clock=clock)

    clock.now = 107.999
    lease.check()

    clock.now = 108.0
    assert not lease.holds
    with pytest.raises(FencedError):
        lease.check()


def test_a_renewal_in_time_extends_it(clock: Clock) -> None:
    lease = Lease(term=1, until=108.0, clock=clock)
    clock.now = 103.5

    lease.extend(111.0)

    clock.now = 110.9
    assert lease.holds


def test_a_renewal_that_comes_too_late_does_not_revive_it(clock: Clock) -> None:
    lease = Lease(term=1, until=108.0, clock=clock)
    clock.now = 109.0  # it slept while the answer was under way

    lease.extend(117.0)

    assert not lease.holds


def test_what_was_lost_stays_lost(clock: Clock) -> None:
    lease = Lease(term=1, until=108.0, clock=clock)

    lease.lose()
    lease.extend(111.0)

    assert not lease.holds


def test_its_clock_runs_with_the_time_and_is_not_the_wall_clock() -> None:
    before = machine_seconds()
    time.sleep(0.01)

    assert 0.01 <= machine_seconds() - before < 5
    assert abs(machine_seconds() - time.time()) > 1_000_000


def test_two_renewals_may_be_missed_and_another_leads_within_fifteen_seconds() -> None:
    assert 2 * RENEWALS < 1 - MARGIN
    assert SECONDS + POLL_SECONDS < 15
