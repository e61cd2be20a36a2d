"""Other rules over the same history: which jobs would have gone another way, and where they part.

A rule set is anything that has one of the three names of `RuleSet`, or a function in place of
`evolve`; what it does not have is taken from this build. History is not made up: both sides see the
events as they were recorded, and are compared by what they make of them and what they decide next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from projections.consequences import next_decision
from projections.events import (
    AttemptFailed,
    Cancelled,
    Event,
    Failed,
    HealthChanged,
    Record,
    RetryScheduled,
    Source,
    StopRequested,
    encode,
    type_of,
)
from projections.health import Verdict
from projections.job import JobState, JobStatus
from projections.lifelines import begin_of
from projections.policy import Moment, Policy
from projections.status import evolve

MOST_DECISIONS = 5
"""At one moment; rules that decide the same again and again are told no further."""

Evolve = Callable[[JobState, Record], JobState]
Decide = Callable[[JobState, Moment, Policy], Event | None]


class RuleSet(Protocol):
    """What a set of rules may bring along; each has the form of the one it stands in for."""

    policy: Policy
    """The limits, in place of those of the settings."""

    def evolve(self, state: JobState, record: Record, /) -> JobState:
        """Apply one event, as `projections.status.evolve` does."""

    def next_decision(self, state: JobState, moment: Moment, policy: Policy, /) -> Event | None:
        """Return the decision that is due, as `projections.consequences.next_decision` does."""


class RuleSetError(Exception):
    """The rules of somebody else failed; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A rule set that is complete."""

    evolve: Evolve = evolve
    next_decision: Decide = next_decision
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Where a job stands by one of the two rule sets, once it has decided what is due there."""

    status: JobStatus
    reason: str
    attempt: int
    retry_count: int
    decisions: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """A job that would have gone another way, and the event at which that shows first."""

    job_id: int
    position: int
    at: datetime
    recorded: Side
    changed: Side


def complete(rules: object, policy: Policy) -> Rules:
    """Return the rule set that `rules` asks for, or raise RuleSetError where it is none."""
    names = [name for name in ("evolve", "next_decision", "policy") if hasattr(rules, name)]
    if names:
        given = {name: getattr(rules, name) for name in names}
        return Rules(**{"policy": policy, **given})
    if callable(rules):
        return Rules(evolve=rules, policy=policy)
    raise RuleSetError(
        "it is neither a function (state, record) -> state nor has it `evolve`, `next_decision`"
        " or `policy`"
    )


class Twofold:
    """One job by two rule sets: add its events in order, then ask where they part."""

    def __init__(self, ours: Rules, theirs: Rules) -> None:
        """Start before the first event."""
        self._ours, self._theirs = ours, theirs
        self._same_fold = theirs.evolve == ours.evolve
        self._same_decisions = (theirs.next_decision, theirs.policy) == (
            ours.next_decision,
            ours.policy,
        )
        self._mine = self._other = JobState()
        self._parting: Parting | None = None
        self._by_fold: Record | None = None
        """Since when the folds differ; those that come together again do not part."""
        self._last: Record | None = None

    def add(self, record: Record) -> None:
        """Take the job's next event."""
        if self._parting is None:
            self._parting = self._by_decision(record, begin_of(record))
        self._mine = self._ours.evolve(self._mine, record)
        self._other = self._mine if self._same_fold else self._evolved(record)
        if _side(self._mine) == _side(self._other):
            self._by_fold = None
        else:
            self._by_fold = self._by_fold or record
        self._last = record

    def finished(self, now: datetime) -> Parting | None:
        """Return where the job parts, if it does, by all its events and the time since."""
        if self._last is None:
            return None
        if self._parting is None:
            self._parting = self._by_decision(self._last, now)
        if self._by_fold is not None and (
            self._parting is None or self._by_fold.position <= self._parting.position
        ):
            return Parting(
                job_id=self._last.job_id,
                position=self._by_fold.position,
                at=self._by_fold.recorded_at,
                recorded=_side(self._mine),
                changed=_side(self._other),
            )
        return self._parting

    def _by_decision(self, record: Record, at: datetime) -> Parting | None:
        """Return the parting where the two decide otherwise at a moment about this event."""
        if self._same_fold and self._same_decisions:
            return None
        moment = Moment(now=at, unreachable=self._mine.verdict == Verdict.UNREACHABLE)
        mine = self._decided(self._ours, self._mine, moment, record)
        other = self._decided(self._theirs, self._other, moment, record)
        if _gist(mine) == _gist(other):
            return None
        return Parting(
            job_id=record.job_id,
            position=record.position,
            at=at,
            recorded=self._decided_side(self._ours, self._mine, moment, record),
            changed=self._decided_side(self._theirs, self._other, moment, record),
        )

    def _decided_side(self, rules: Rules, state: JobState, moment: Moment, record: Record) -> Side:
        """Return where the job stands once everything is decided that is due before the event."""
        decisions: list[Event] = []
        while len(decisions) < MOST_DECISIONS:
            decision = self._decided(rules, state, moment, record)
            if decision is None or _gist(decision) is None:
                break
            decisions.append(decision)
            state = rules.evolve(state, _made(state, decision, record))
        return _side(state, decisions)

    def _evolved(self, record: Record) -> JobState:
        try:
            state = self._theirs.evolve(self._other, record)
        except Exception as error:
            raise _failure("evolve", record, repr(error)) from error
        if not isinstance(state, JobState):
            raise _failure("evolve", record, f"it returned {state!r}, not a JobState")
        return state

    def _decided(
        self, rules: Rules, state: JobState, moment: Moment, record: Record
    ) -> Event | None:
        try:
            return rules.next_decision(state, moment, rules.policy)
        except Exception as error:
            raise _failure("next_decision", record, repr(error)) from error


def _failure(name: str, record: Record, what: str) -> RuleSetError:
    return RuleSetError(
        f"{name} failed at position {record.position} (job {record.job_id}): {what}"
    )


def _gist(event: Event | None) -> tuple[object, ...] | None:
    """Return what makes a decision another one: not its words, and no alarm that ends nothing."""
    match event:
        case None | HealthChanged():
            return None
        case AttemptFailed(reason=reason, failure_class=failure_class):
            return "attempt_failed", reason, failure_class
        case RetryScheduled():
            return (
                "retry_scheduled",
                event.failure_class,
                event.next_attempt,
                event.retry_count_after,
                event.interruptions_after,
                event.delay_seconds,
                event.checkpoint,
            )
        case Failed(reason=reason, why=why):
            return "failed", reason, why
        case Cancelled(reason=reason) | StopRequested(reason=reason):
            return type_of(event), reason
        case _:
            return (type_of(event),)


def _side(state: JobState, decisions: Iterable[Event] = ()) -> Side:
    return Side(
        status=state.status,
        reason=state.reason.code,
        attempt=state.attempt,
        retry_count=state.retry_count,
        decisions=tuple(map(_told, decisions)),
    )


def _told(decision: Event) -> dict[str, Any]:
    data = {name: value for name, value in encode(decision).items() if name != "because"}
    return {"type": type_of(decision), **data}


def _made(state: JobState, decision: Event, record: Record) -> Record:
    """Return the decision as it would have been recorded before this event."""
    return replace(
        record,
        event=decision,
        version=state.version + 1,
        attempt=state.attempt,
        source=Source.SUPERVISOR,
        rule=None,
        stored=None,
    )
