"""What this process itself sees and hears: the log cannot tell whether we were there to listen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from projections.job import JobState
from projections.policy import Moment, Policy
from service.imported import Imported

Attempt = tuple[int, int]
"""A job's id and the number of its attempt."""


USUAL_GAP = 3.0
"""Seconds between two signs of our own life that mean nothing on a busy machine."""


@dataclass(slots=True)
class Senses:
    """Since when we can hear trainers, and what the executor shows us; times by the database."""

    policy: Policy
    imported: Imported | None = None
    """The job whose trainer is another service's: its clock stands."""
    listening_since: datetime | None = None
    """None while callbacks cannot be recorded."""
    unreachable: set[Attempt] = field(default_factory=set)
    last_seen: dict[Attempt, datetime] = field(default_factory=dict)
    _heard_at: datetime | None = None

    def moment_of(self, state: JobState, now: datetime) -> Moment:
        """Return what the rules may know of this moment."""
        if self.imported is not None and self.imported.is_it(state):
            return self.imported.moment
        attempt = (state.id, state.attempt)
        return Moment(
            now=now,
            listening_since=self.listening_since or now,
            unreachable=attempt in self.unreachable,
            reachable_at=self.last_seen.get(attempt),
        )

    def hears(self, now: datetime) -> None:
        """Note that callbacks can be recorded now.

        A gap since the last time means that we or the whole machine stood still, or that the clock
        was set: callbacks may have been missed, so silence before now proves nothing.
        """
        before, self._heard_at = self._heard_at, now
        gap = (now - before).total_seconds() if before else 0.0
        if self.listening_since is None or gap > max(self.policy.heartbeat_timeout / 2, USUAL_GAP):
            self.listening_since = now

    def deaf(self) -> None:
        """Note that callbacks cannot be recorded."""
        self.listening_since = None

    def sees(self, attempt: Attempt, now: datetime) -> None:
        """Note that the process or pod is there."""
        self.unreachable.discard(attempt)
        self.last_seen[attempt] = now

    def cannot_look(self, attempt: Attempt) -> None:
        """Note that the executor cannot be asked about it."""
        self.unreachable.add(attempt)

    def can_look(self, attempt: Attempt) -> None:
        """Note that the executor can be asked about it again."""
        self.unreachable.discard(attempt)

    def forget_all_but(self, job_ids: set[int]) -> None:
        """Drop what was seen of jobs that nobody looks after any more."""
        self.unreachable = {attempt for attempt in self.unreachable if attempt[0] in job_ids}
        self.last_seen = {
            attempt: seen for attempt, seen in self.last_seen.items() if attempt[0] in job_ids
        }
