"""A job in memory for tests of the rules: what happened is given, what follows is read off.

It drives the pure functions as the service does: a command's facts are recorded one by one, then
every decision that is due; nothing here knows a rule.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from projections.chain import GENESIS, link
from projections.consequences import next_decision
from projections.decide import (
    Command,
    CreateJob,
    Enqueue,
    Observe,
    Report,
    ReportCallbacks,
    RequestCancel,
    Tick,
    decide,
)
from projections.events import (
    Callback,
    Created,
    Done,
    Draft,
    Event,
    Heartbeat,
    Record,
    Source,
)
from projections.explain import Explanation, explain
from projections.health import Health, assess
from projections.job import JobState, JobStatus
from projections.policy import Moment, Policy
from projections.sighting import Alive, Gone, Sighting
from projections.status import evolve, ruling
from projections.timeline import Timeline, timeline

START = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
POLICY = Policy(heartbeat_timeout=300, done_grace=120, exit_settle=2, retry_backoff=30)
CREATED = Created(dataset_id="coco8", model_name="yolo11n", epochs=10)


def at(seconds: float) -> datetime:
    """The moment so many seconds after the test's start."""
    return START + timedelta(seconds=seconds)


class Given:
    """One job, its records, and a clock that the test sets."""

    def __init__(
        self,
        created: Created = CREATED,
        *,
        policy: Policy = POLICY,
        listening_since: float | None = None,
        first_position: int = 101,
    ) -> None:
        self.policy = policy
        self.listening_since = listening_since
        self.unreachable = False
        self.now = 0.0
        self.records: list[Record] = []
        self.state = JobState(id=7, trace_id="abc-def")
        self._next_position = first_position
        self._hash = GENESIS
        self._seen_event_ids: set[str] = set()
        self.when(CreateJob(created=created))

    # What happens

    def when(self, command: Command, *, at: float | None = None) -> Self:
        """Carry a command out as the service does, in one transaction."""
        self.now = self.now if at is None else at
        for draft in decide(self.state, self._without_duplicates(command)):
            self.write(draft)
        while (event := next_decision(self.state, self.moment, self.policy)) is not None:
            self.write(Draft(event=event, source=Source.SUPERVISOR, attempt=self.state.attempt))
        return self

    def tick(self, *, at: float) -> Self:
        return self.when(Tick(), at=at)

    def hears(
        self, *callbacks: Callback, at: float | None = None, attempt: int | None = None
    ) -> Self:
        reports = tuple(Report(event=callback) for callback in callbacks)
        attempt = self.state.attempt if attempt is None else attempt
        return self.when(ReportCallbacks(attempt=attempt, reports=reports), at=at)

    def done(
        self,
        status: Literal["succeeded", "failed"] = "succeeded",
        *,
        at: float | None = None,
        attempt: int | None = None,
        **error: object,
    ) -> Self:
        return self.hears(Done(status=status, error=error or None), at=at, attempt=attempt)

    def cancel(self, reason: str | None = None, *, at: float | None = None) -> Self:
        return self.when(RequestCancel(reason=reason), at=at)

    def submitted(self, executor: str = "local", *, at: float | None = None) -> Self:
        """The launcher asks the executor for the current attempt."""
        command = Enqueue(
            attempt=self.state.attempt, reason="submitted", message="Asked.", executor=executor
        )
        return self.when(command, at=at)

    def sees(
        self, sighting: Sighting, *, at: float | None = None, attempt: int | None = None
    ) -> Self:
        attempt = self.state.attempt if attempt is None else attempt
        return self.when(Observe(attempt=attempt, sighting=sighting), at=at)

    def alive(self, *, at: float | None = None) -> Self:
        return self.sees(Alive(handle="pid 4711", since=START), at=at)

    def gone(
        self,
        exit_code: int | None = None,
        *,
        signal: int | None = None,
        at: float | None = None,
        attempt: int | None = None,
    ) -> Self:
        return self.sees(Gone(exit_code=exit_code, signal=signal), at=at, attempt=attempt)

    def holds(
        self, event: Event, *, attempt: int | None = None, source: Source = Source.SUPERVISOR
    ) -> Self:
        """Put an event into the log as it is, without asking what follows."""
        number = self.state.attempt if attempt is None else attempt
        self.write(Draft(event=event, source=source, attempt=number))
        return self

    def write(self, draft: Draft) -> None:
        record = Record(
            position=self._next_position,
            job_id=self.state.id,
            version=self.state.version + 1,
            attempt=draft.attempt,
            event_id=draft.event_id or f"event-{self._next_position}",
            source=draft.source,
            trace_id=self.state.trace_id,
            seq=draft.seq,
            occurred_at=draft.occurred_at or at(self.now),
            recorded_at=at(self.now),
            event=draft.event,
        )
        record = replace(record, rule=ruling(self.state, record))
        record = replace(record, hash=link(record, self._hash))
        self.records.append(record)
        self.state = evolve(self.state, record)
        self._hash = record.hash
        self._next_position += 3  # other jobs write, too: a position is no version

    def _without_duplicates(self, command: Command) -> Command:
        """The store answers a repeated `event_id` itself; the rules never see it."""
        if not isinstance(command, ReportCallbacks):
            return command
        fresh = tuple(r for r in command.reports if r.event_id not in self._seen_event_ids)
        self._seen_event_ids.update(r.event_id for r in fresh if r.event_id)
        return replace(command, reports=fresh)

    # What follows

    @property
    def moment(self) -> Moment:
        since = None if self.listening_since is None else at(self.listening_since)
        return Moment(now=at(self.now), listening_since=since, unreachable=self.unreachable)

    @property
    def status(self) -> JobStatus:
        return self.state.status

    @property
    def reason(self) -> str:
        return self.state.reason.code

    @property
    def health(self) -> Health:
        return assess(self.state, self.moment, self.policy)

    def types(self) -> list[str]:
        return [record.type for record in self.records]

    def last(self, type_name: str) -> Record:
        return [record for record in self.records if record.type == type_name][-1]

    def positions(self, *type_names: str) -> list[int]:
        return [record.position for record in self.records if record.type in type_names]

    def rules(self) -> list[str | None]:
        return [record.rule for record in self.records]

    def explained(self) -> Explanation:
        return explain(self.records, self.moment, self.policy)

    def told(self) -> Timeline:
        return timeline(self.records, at(self.now))


def a_submitted_job(created: Created = CREATED, *, policy: Policy = POLICY) -> Given:
    """The local executor was asked to start it."""
    return Given(created, policy=policy).submitted()


def a_running_job(created: Created = CREATED, *, policy: Policy = POLICY) -> Given:
    """Started by the local executor and seen alive; it has called back once, at second 0."""
    return a_submitted_job(created, policy=policy).alive().hears(Heartbeat())


def an_external_job(created: Created = CREATED, *, policy: Policy = POLICY) -> Given:
    """Started by somebody else; it has called back once, at second 0."""
    return Given(created, policy=policy).hears(Heartbeat())
