"""What other timeouts would have said of attempts that are history.

The watchdog's own rule is applied to every silence: after the timeout an attempt is `silent`
and after twice the timeout it is ended, unless the executor cannot be asked then. Whether that was
right is known today: an attempt that called back later was alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean

from projections.consequences import retry_delay
from projections.lifelines import Lifeline, Silence
from projections.policy import Policy

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """An attempt that a timeout would have ended, and what came of it without that."""

    job_id: int
    attempt: int
    silent_since: datetime
    at: datetime
    called_at: datetime | None
    """When it called back after all: the kill would have been wrong."""
    ended_at: datetime | None
    """When it ended without ever calling back: the kill would have been right."""
    lost_seconds: float
    """The work since the last checkpoint, which the kill would have thrown away."""

    @property
    def is_false(self) -> bool:
        """Whether the attempt was alive."""
        return self.called_at is not None

    @property
    def is_true(self) -> bool:
        """Whether it was not."""
        return self.called_at is None and self.ended_at is not None

    @property
    def delay(self) -> float:
        """How long after the last callback the attempt would have been ended, in seconds."""
        return (self.at - self.silent_since).total_seconds()

    @property
    def delay_then(self) -> float:
        """How long after the last callback it was in fact over, in seconds."""
        return ((self.ended_at or self.at) - self.silent_since).total_seconds()

    @property
    def saved_seconds(self) -> float:
        """For how much shorter it would have held its place idle; below 0: for how much longer."""
        return self.delay_then - self.delay if self.is_true else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """Attempts that stood still for a timeout: how often, and how often they went on after it."""

    raised: int = 0
    false: int = 0


@dataclass(slots=True, kw_only=True)
class Backtest:
    """What one set of limits would have said of the attempts that were added."""

    policy: Policy
    attempts: int = 0
    kills: list[Kill] = field(default_factory=list)
    silent: Alarms = Alarms()
    stalled: Alarms = Alarms()
    retries: int = 0
    waited_seconds: float = 0.0
    """For how long retries would have waited for their backoff."""

    def add(self, lines: Iterable[Lifeline]) -> None:
        """Take the attempts of a job."""
        for line in lines:
            self.attempts += 1
            kill = kill_of(line, self.policy.heartbeat_timeout)
            if kill is not None:
                self.kills.append(kill)
            self.silent = _more(self.silent, line.silences, self.policy.heartbeat_timeout)
            self.stalled = _more(self.stalled, line.stalls, self.policy.stall_timeout)
            if line.retry_delay is not None:
                self.retries += 1
                self.waited_seconds += retry_delay(line.tries, self.policy)

    @property
    def false_kills(self) -> list[Kill]:
        """The kills of attempts that were alive."""
        return [kill for kill in self.kills if kill.is_false]

    @property
    def detections(self) -> list[Kill]:
        """The kills of attempts that were not."""
        return [kill for kill in self.kills if kill.is_true]

    @property
    def undecided(self) -> int:
        """How many kills nobody can judge yet: these attempts go on."""
        return len(self.kills) - len(self.false_kills) - len(self.detections)

    @property
    def mean_delay(self) -> float | None:
        """How long after the last callback a dead attempt is ended, on average, in seconds."""
        return fmean(kill.delay for kill in self.detections) if self.detections else None

    @property
    def mean_delay_then(self) -> float | None:
        """How long it took in fact with the same attempts, on average, in seconds."""
        return fmean(kill.delay_then for kill in self.detections) if self.detections else None

    @property
    def saved_hours(self) -> float:
        """Idle hours less than in fact."""
        return sum(kill.saved_seconds for kill in self.detections) / HOUR

    @property
    def wasted_hours(self) -> float:
        """Hours of work that false kills would have thrown away."""
        return sum(kill.lost_seconds for kill in self.false_kills) / HOUR


def kill_of(line: Lifeline, timeout: float) -> Kill | None:
    """Return when the timeout would have ended the attempt, if ever, and whether it was right."""
    for silence in line.silences:
        at = _ends(silence, timeout, line.unreachable)
        if at is None:
            continue
        called = silence.end if silence.is_broken else line.called_at
        called = called if called is not None and called > at else None
        return Kill(
            job_id=line.job_id,
            attempt=line.attempt,
            silent_since=silence.begin,
            at=at,
            called_at=called,
            ended_at=None if called else line.ended_at,
            lost_seconds=(at - silence.resumes_from).total_seconds(),
        )
    return None


def _ends(
    silence: Silence, timeout: float, unreachable: Sequence[tuple[datetime, datetime | None]]
) -> datetime | None:
    """Return when the attempt would have been ended in this silence, if in it at all."""
    at = silence.begin + timedelta(seconds=2 * timeout)
    for begin, end in unreachable:
        if end is None and at >= begin:
            return None
        if end is not None and begin <= at < end:
            at = end
    return at if silence.end is None or at < silence.end else None


def _more(alarms: Alarms, stretches: Iterable[Silence], timeout: float) -> Alarms:
    limit = timedelta(seconds=timeout)
    long = [one for one in stretches if one.end is None or one.end - one.begin >= limit]
    false = sum(one.is_broken for one in long)
    return Alarms(raised=alarms.raised + len(long), false=alarms.false + false)
