"""Steps put together up to a version say what the API would have said of that version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from projections.events import (
    Created,
    Done,
    Evidence,
    Heartbeat,
    Heartbeats,
    Record,
    RetryScheduled,
    Source,
    TrainerEvent,
)
from projections.explain import explain
from projections.policy import Moment, View
from projections.status import fold
from projections.timeline import Timeline, timeline
from service.changes import Changes, Step
from service.views import job_view
from tests.generated import as_log, events
from tests.given import POLICY, START, a_running_job


@dataclass
class Watched:
    """What a reader of the steps knows: it only ever puts together."""

    job: Step = field(default_factory=dict)
    why: Step = field(default_factory=dict)
    attempts: dict[int, Step] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        self.job |= step.get("job", {})
        self.why |= step.get("why", {})
        for news in step.get("attempts", []):
            attempt = self._attempt(news["attempt"])
            attempt["checkpoints"] += news.get("checkpoints", [])
            kept = {name: news[name] for name in ("phases", "outcome", "reason") if name in news}
            attempt |= kept
        if epoch := step.get("epoch"):
            kind = "lost_epochs" if epoch.get("lost") else "epochs"
            self._attempt(epoch["attempt"])[kind][epoch["epoch"]] = epoch
        if lost := step.get("lost"):
            attempt = self._attempt(lost["attempt"])
            attempt["lost_epochs"][lost["epoch"]] = attempt["epochs"].pop(lost["epoch"])

    def _attempt(self, number: int) -> Step:
        empty: Step = {
            "phases": [],
            "checkpoints": [],
            "epochs": {},
            "lost_epochs": {},
            "outcome": None,
            "reason": None,
        }
        return self.attempts.setdefault(number, empty)


def _check_every_version(records: list[Record]) -> None:
    changes, watched = Changes(POLICY), Watched()
    for number, record in enumerate(records, start=1):
        step = changes.add(record)
        watched.take(step)
        assert step["version"] == record.version
        moment = Moment(now=record.recorded_at, view=View.RECORDED)
        known = records[:number]
        shown = job_view(fold(known), moment, POLICY)
        assert watched.job == {
            name: value for name, value in shown.items() if name not in {"version", "position"}
        }
        _check_why(watched.why, known, moment)
        _check_attempts(watched.attempts, timeline(known, record.recorded_at))


def _check_why(why: Step, records: list[Record], moment: Moment) -> None:
    told = explain(records, moment, POLICY)
    assert (why["rule"], why["rule_text"]) == (told.rule, told.rule_text)
    held = {record.position for record in records}
    assert [at for at in why["because"] if at in held] == [item.position for item in told.because]
    assert why["evidence"] == told.evidence
    assert (why["ignored"], why["conflicts"]) == (len(told.ignored), len(told.conflicts))


def _check_attempts(attempts: dict[int, Step], told: Timeline) -> None:
    assert sorted(attempts) == [attempt.attempt for attempt in told.attempts]
    for attempt in told.attempts:
        seen = attempts[attempt.attempt]
        assert seen["checkpoints"] == attempt.checkpoints
        assert (seen["outcome"], seen["reason"]) == (attempt.outcome, attempt.reason)
        assert [_without_seconds(phase) for phase in seen["phases"]] == [
            _without_seconds(phase) for phase in attempt.phases
        ]
        assert _in_order(seen["epochs"]) == [_said_of(epoch) for epoch in attempt.epochs]
        assert _in_order(seen["lost_epochs"]) == [_said_of(epoch) for epoch in attempt.lost_epochs]


def _in_order(epochs: dict[int, Step]) -> list[tuple[Any, ...]]:
    return [_said_of(epochs[number]) for number in sorted(epochs)]


def _said_of(epoch: Any) -> tuple[Any, ...]:
    return epoch["epoch"], epoch["at"], epoch["metrics"]


def _without_seconds(phase: Any) -> Step:
    """An open phase's length is a matter of the moment."""
    return {name: phase[name] for name in ("phase", "from", "to", "reason")}


def test_a_job_that_fails_is_retried_and_succeeds_is_told_step_by_step() -> None:
    job = a_running_job()
    for epoch in (1, 2, 3):
        job.hears(Heartbeat(epoch=epoch, batch=3, batches=9), at=10.0 * epoch)
        ended = {"epoch": epoch, "metrics": {"loss": 1 / epoch}}
        job.hears(TrainerEvent(type="epoch_end", data=ended), at=10.0 * epoch + 5)
        saved = {"epoch": epoch, "uri": f"s3://bucket/{epoch}.pt"}
        job.hears(TrainerEvent(type="checkpoint_saved", data=saved), at=10.0 * epoch + 6)
    job.holds(Evidence(kind="log_tail", data={"lines": ["x"]}), source=Source.WATCHER)
    job.hears(TrainerEvent(type="traceback", data={"exception": "E: x", "lines": ["E: x"]}), at=49)
    job.gone(1, at=50).tick(at=53).submitted(at=90).alive(at=92)
    job.hears(Heartbeat(epoch=9), at=93, attempt=1).hears(Heartbeat(epoch=4), at=95)
    for epoch in (2, 3, 4):
        ended = {"epoch": epoch, "redone": True}
        job.hears(TrainerEvent(type="epoch_end", data=ended), at=95.0 + epoch)
    late = {"epoch": 4, "metrics": {"loss": 9}}
    job.hears(TrainerEvent(type="epoch_end", data=late), at=100, attempt=1)
    job.tick(at=500).hears(Heartbeat(epoch=5), at=510).cancel(at=511)
    job.hears(Done(status="succeeded"), at=512).hears(Heartbeat(epoch=6), at=513)

    _check_every_version(job.records)


@given(st.lists(st.tuples(st.integers(1, 3), events), max_size=12))
def test_whatever_is_in_the_log_is_told_step_by_step(log: Any) -> None:
    records = as_log(log, START)
    assume(_begins_each_attempt_once(records) and _decides_by_no_routine(records))
    _check_every_version(records)


def _begins_each_attempt_once(records: list[Record]) -> bool:
    """Steps only ever add to an attempt, and no decision begins one anew."""
    begun = [1 for record in records if isinstance(record.event, Created)]
    begun += [
        record.event.next_attempt for record in records if isinstance(record.event, RetryScheduled)
    ]
    return len(set(begun)) == len(begun)


def _decides_by_no_routine(records: list[Record]) -> bool:
    """An explanation keeps no heartbeat that decided nothing when it came; none is cited later."""
    routine = {
        record.position
        for record in records
        if isinstance(record.event, Heartbeat | Heartbeats | TrainerEvent)
    }
    return not any(routine & set(getattr(record.event, "because", ())) for record in records)


def test_a_step_says_only_what_is_new() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1), at=10).hears(Heartbeat(epoch=1), at=20)
    changes = Changes(POLICY)

    *_, last = [changes.add(record) for record in job.records]

    assert set(last["job"]) == {"health"}
    assert "why" not in last
    assert "attempts" not in last
