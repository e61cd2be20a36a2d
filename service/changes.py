"""What each event of a job changes in what a reader sees: a job's story in steps.

Put together up to a version, the steps are what the API answers for `as_of` that event.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from projections.events import Record
from projections.explain import Inquiry
from projections.health import assess
from projections.policy import Moment, Policy, View
from projections.progress import completed_epoch
from projections.rules import SENTENCES
from projections.timeline import Attempt, Story, counted_in, epoch_among
from projections.titles import detail_of, title_of
from service.views import job_view

Step = dict[str, Any]


class Changes:
    """Steps in the making: add a job's records in order."""

    def __init__(self, policy: Policy) -> None:
        """Start before the first record."""
        self.story, self.inquiry = Story(), Inquiry()
        self._policy = policy
        self._job: Step = {}
        self._why: Step = {}
        self._extents: dict[int, _Extent] = {}

    def add(self, record: Record) -> Step:
        """Take the next record; return what it changes."""
        number = completed_epoch(record.event)
        trained_by = self.story.trained_by.get(number) if number else None
        self.story.add(record)
        self.inquiry.add(record)
        moment = Moment(now=record.recorded_at, view=View.RECORDED)
        job, why = job_view(self.story.state, moment, self._policy), self._explained(moment)
        step = {
            "version": record.version,
            "position": record.position,
            "at": record.recorded_at,
            "type": record.type,
            "attempt": record.attempt,
            "rule": record.rule,
            "seqs": counted_in(record),
            "title": title_of(record),
            "detail": detail_of(record),
            "job": _new_in(job, self._job),
            "why": _new_in(why, self._why),
            "attempts": self._moved(record),
            "epoch": self._epoch(record.attempt, number),
            "lost": self._lost(trained_by, number),
        }
        self._job, self._why = job, why
        return {name: value for name, value in step.items() if value not in (None, {}, [], "")}

    def _explained(self, moment: Moment) -> Step:
        state = self.inquiry.state
        verdict = assess(state, moment, self._policy).verdict
        return {
            "rule": state.rule,
            "rule_text": SENTENCES[state.rule],
            "because": sorted(set(state.decided_by)),
            "ignored": self.inquiry.set_aside,
            "conflicts": self.inquiry.contradictions,
            "evidence": self.inquiry.evidence(verdict),
        }

    def _moved(self, record: Record) -> list[Step]:
        """Return what is new of the attempts that this record can have touched."""
        steps = []
        for number in sorted({record.attempt, self.story.state.attempt}):
            if (attempt := self.story.attempts.get(number)) is not None:
                before, now = self._extents.get(number), _extent(attempt)
                self._extents[number] = now
                if now != before:
                    steps.append({"attempt": number, **_added(attempt, before or NOTHING, now)})
        return steps

    def _epoch(self, number: int, epoch: int | None) -> Step:
        """Return the epoch that an attempt completed or added to, as far as it is known."""
        attempt = self.story.attempts.get(number)
        if attempt is None or not epoch:
            return {}
        is_lost = self.story.trained_by[epoch] != number
        known = epoch_among(attempt.lost_epochs if is_lost else attempt.epochs, epoch)[1]
        return {"attempt": number, **(known or {}), **({"lost": True} if is_lost else {})}

    def _lost(self, trained_by: int | None, epoch: int | None) -> Step:
        """Return the attempt that had completed an epoch which a later one has trained again."""
        if trained_by is None or not epoch or self.story.trained_by[epoch] == trained_by:
            return {}
        return {"attempt": trained_by, "epoch": epoch}


class _Extent(NamedTuple):
    """As much of an attempt as tells whether something was added to it."""

    phases: int
    last_end: datetime | None
    checkpoints: int
    outcome: str | None


NOTHING = _Extent(0, None, 0, None)


def _extent(attempt: Attempt) -> _Extent:
    last_end = attempt.phases[-1]["to"] if attempt.phases else None
    return _Extent(len(attempt.phases), last_end, len(attempt.checkpoints), attempt.outcome)


def _added(attempt: Attempt, before: _Extent, now: _Extent) -> Step:
    step: Step = {}
    if (now.phases, now.last_end) != (before.phases, before.last_end):
        step["phases"] = [dict(phase) for phase in attempt.phases]
    if now.checkpoints > before.checkpoints:
        step["checkpoints"] = attempt.checkpoints[before.checkpoints :]
    if now.outcome != before.outcome:
        step |= {"outcome": now.outcome, "reason": attempt.reason}
    return step


def _new_in(now: Step, before: Step) -> Step:
    """Return what changed; which version and position it is, the step itself says."""
    return {
        name: value
        for name, value in now.items()
        if name not in {"version", "position"} and (name not in before or before[name] != value)
    }
