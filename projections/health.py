"""Whether a training is alive, advancing and within reach: three clocks, never one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from projections.job import JobState, JobStatus
from projections.policy import Moment, Policy, View


class Verdict(StrEnum):
    """What the three clocks say together."""

    HEALTHY = "healthy"  # it calls back and it advances
    STALLED = "stalled"  # it calls back and does not advance
    SILENT = "silent"  # it has not called back for the heartbeat timeout
    UNREACHABLE = "unreachable"  # the executor cannot be asked: nothing is known
    UNKNOWN = "unknown"  # it has not called back yet, or not since we can hear it again
    NOT_RUNNING = "not_running"  # it waits, or it has ended


ALARMING = frozenset({Verdict.STALLED, Verdict.SILENT, Verdict.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The verdict and the three clocks behind it."""

    verdict: Verdict
    alive_at: datetime | None
    """The last callback of the current attempt."""
    advanced_at: datetime | None
    """The last callback that brought a new epoch or batch."""
    reachable_at: datetime | None
    """The last sight of the process or pod."""


def assess(state: JobState, moment: Moment, policy: Policy) -> Health:
    """Return the health of the job at this moment."""
    return Health(
        verdict=_verdict(state, moment, policy),
        alive_at=state.alive_at,
        advanced_at=state.advanced_at,
        reachable_at=_latest(state.reachable_at, moment.reachable_at),
    )


def recorded_verdict(state: JobState) -> Verdict:
    """Return the verdict that the log holds: only alarms and their ends are recorded as such."""
    if state.verdict in ALARMING:
        return Verdict(state.verdict)
    if state.status is not JobStatus.RUNNING:
        return Verdict.NOT_RUNNING
    return Verdict.UNKNOWN if state.alive_at is None else Verdict.HEALTHY


def silent_seconds(state: JobState, moment: Moment) -> float:
    """Return for how long the attempt could have called back and did not."""
    heard = _latest(state.alive_at, state.running_since, moment.listening_since)
    return _seconds_since(heard, moment.now)


def _verdict(state: JobState, moment: Moment, policy: Policy) -> Verdict:
    if moment.view is View.RECORDED:
        return recorded_verdict(state)
    if state.status is not JobStatus.RUNNING or (moment.view is View.OCCURRED and _is_over(state)):
        return Verdict.NOT_RUNNING
    if moment.unreachable:
        return Verdict.UNREACHABLE
    if silent_seconds(state, moment) >= policy.heartbeat_timeout:
        return Verdict.SILENT
    moved = _latest(state.advanced_at, state.running_since, moment.listening_since)
    if _seconds_since(moved, moment.now) >= policy.stall_timeout:
        return Verdict.STALLED
    if state.alive_at is None or _may_have_called_unheard(state, moment, policy):
        return Verdict.UNKNOWN
    return Verdict.HEALTHY


def _is_over(state: JobState) -> bool:
    """Return whether the attempt had ended, though nobody had decided so yet."""
    return state.exit is not None or state.result is not None


def _may_have_called_unheard(state: JobState, moment: Moment, policy: Policy) -> bool:
    """Return whether the silence is too long for health and, unheard by us, no proof of death."""
    heard = _latest(state.alive_at, state.running_since)
    return _seconds_since(heard, moment.now) >= policy.heartbeat_timeout


def _latest(*moments: datetime | None) -> datetime | None:
    latest: datetime | None = None
    for moment in moments:
        if moment is not None and (latest is None or moment > latest):
            latest = moment
    return latest


def _seconds_since(moment: datetime | None, now: datetime) -> float:
    return (now - moment).total_seconds() if moment else 0.0
