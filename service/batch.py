"""One batch of commands applied to the jobs they concern: pure, between two database calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from projections.chain import GENESIS, link, spelling
from projections.consequences import next_decision
from projections.decide import (
    Command,
    CreateJob,
    JobHasEndedError,
    Report,
    ReportCallbacks,
    decide,
)
from projections.events import Created, Draft, Event, Record, Source
from projections.job import JobState, counted, stands_alike
from projections.policy import Moment, Policy
from projections.rules import Rule
from projections.status import ruled, ruling
from service.errors import (
    EventIdConflictError,
    FencedError,
    IdempotencyConflictError,
    JobIsFinalError,
    JobNotFoundError,
    TraceMismatchError,
)
from service.identifiers import new_event_id, new_trace_id
from service.records import only_pulse_differs
from service.spelling import quick_spelling
from service.writing import Head, IdKey, Known, SeqKey, Span, StoredJob


@dataclass(slots=True)  # as Record: made for every callback
class Recorded:
    """Where one callback stands in the log."""

    position: int
    version: int
    rule: str | None
    duplicate: bool


@dataclass(slots=True)  # as Record: made for every callback
class _Fresh:
    """A callback that is new: which of the new ones of its request."""

    number: int
    duplicate: bool = False


_Place = Recorded | _Fresh


@dataclass(slots=True)  # as Record: made for every callback
class Outcome:
    """What became of a command."""

    state: JobState
    now: datetime
    records: tuple[Record, ...] = ()
    """Everything that was written because of it."""
    recorded: tuple[Recorded, ...] = ()
    """For callbacks: one for each, in order."""
    created: bool = False


@dataclass(slots=True)
class _Run:
    """What one command adds to its job."""

    job: StoredJob
    counts: Mapping[str, int]
    records: list[Record] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take the next record."""
        before = self.job.state
        after = ruled(before, record, Rule(record.rule) if record.rule else None)
        self.job = StoredJob(after, record.hash)
        self.records.append(record)
        if not stands_alike(before, after):
            self.counts = counted(self.counts, before, after)
            self.spans.append(Span(record.position, record.recorded_at, after, self.counts))


@dataclass(slots=True)
class Batch:
    """The jobs of one append, and what the commands so far have added to them."""

    behind: Head
    """Where the log ends without this batch."""
    policy: Policy
    moment_of: Callable[[JobState, datetime], Moment]
    jobs: dict[int, StoredJob]
    jobs_by_key: dict[str, int]
    known: dict[IdKey, Known | Record]
    known_by_seq: dict[SeqKey, Known | Record]
    position: int = field(init=False)
    job_id: int = field(init=False)
    counts: Mapping[str, int] = field(init=False)
    records: list[Record] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    changed: dict[int, StoredJob] = field(default_factory=dict)
    restated: set[int] = field(default_factory=set)
    """The jobs of which more than the pulse has changed."""

    def __post_init__(self) -> None:
        """Begin where the log ends."""
        self.position, self.job_id = self.behind.position, self.behind.job_id
        self.counts = self.behind.counts

    @property
    def now(self) -> datetime:
        """The time at which the batch is recorded."""
        return self.behind.now

    @property
    def ahead(self) -> Head:
        """Where the log ends with this batch."""
        return replace(self.behind, position=self.position, job_id=self.job_id, counts=self.counts)

    def apply(self, job_id: int | None, command: Command, term: int | None = None) -> Outcome:
        """Apply one command, of the supervisor in this term or of anybody.

        An error leaves the batch as it was before it.
        """
        if term is not None and term != self.behind.term:
            raise FencedError
        if isinstance(command, CreateJob):
            return self._create(command)
        job = self.jobs.get(job_id or 0)
        if job is None or job_id is None:
            raise JobNotFoundError(f"There is no job {job_id}.")
        places, fresh = self._sift(job_id, command)
        try:
            drafts = decide(job.state, fresh)
        except JobHasEndedError as error:
            raise JobIsFinalError(f"Job {job_id} has ended ({job.state.status}).") from error
        records = self._append(job, drafts)
        said = _in_order(places, records)
        return Outcome(self.jobs[job_id].state, self.now, records, said)

    def _create(self, command: CreateJob) -> Outcome:
        key = command.created.idempotency_key
        known = self.jobs_by_key.get(key) if key is not None else None
        if known is not None:
            return self._created_before(self.jobs[known].state, command.created)
        job_id = self.job_id + 1
        new = StoredJob(JobState(id=job_id, trace_id=new_trace_id()), GENESIS)
        records = self._append(new, decide(new.state, command))
        self.job_id = job_id
        if key is not None:
            self.jobs_by_key[key] = job_id
        return Outcome(self.jobs[job_id].state, self.now, records, created=True)

    def _created_before(self, state: JobState, asked: Created) -> Outcome:
        if not _is_alike(asked, _request_of(state)):
            raise IdempotencyConflictError(
                f"The Idempotency-Key made job {state.id} before, from another body."
            )
        return Outcome(state, self.now)

    def _sift(self, job_id: int, command: Command) -> tuple[list[_Place], Command]:
        """Tell the callbacks recorded before from the new ones, which stand as their number."""
        if not isinstance(command, ReportCallbacks):
            return [], command
        places: list[_Place] = []
        fresh: list[Report] = []
        here: dict[str | int | None, int] = {}
        for report in command.reports:
            _check_trace(self.jobs[job_id].state, report)
            first = self._first(job_id, command.attempt, report)
            twin = here.get(report.event_id or report.seq or 0)
            if first is not None:
                places.append(_duplicate(first, report))
            elif twin is not None:
                places.append(_twin(twin, fresh[twin], report))
            else:
                for key in (report.event_id, report.seq):
                    here.setdefault(key, len(fresh))
                places.append(_Fresh(len(fresh)))
                fresh.append(report)
        if len(fresh) == len(command.reports):
            return places, command
        return places, ReportCallbacks(attempt=command.attempt, reports=tuple(fresh))

    def _first(self, job_id: int, attempt: int, report: Report) -> Known | Record | None:
        if report.event_id is not None:
            return self.known.get((job_id, report.event_id))
        if report.seq is not None:
            return self.known_by_seq.get((job_id, attempt, report.seq))
        return None

    def _append(self, job: StoredJob, drafts: Iterable[Draft]) -> tuple[Record, ...]:
        run = _Run(job, self.counts)
        for draft in drafts:
            run.add(self._record(run, draft))
        moment = self.moment_of(run.job.state, self.now)
        while (event := next_decision(run.job.state, moment, self.policy)) is not None:
            run.add(self._record(run, _decision(event, run.job.state)))
        if run.records:
            self._keep(run)
        return tuple(run.records)

    def _record(self, run: _Run, draft: Draft) -> Record:
        state = run.job.state
        record = Record(
            position=self.position + len(run.records) + 1,
            job_id=state.id,
            version=state.version + 1,
            attempt=draft.attempt,
            event_id=draft.event_id or new_event_id(),
            source=draft.source,
            trace_id=state.trace_id,
            seq=draft.seq,
            occurred_at=draft.occurred_at or self.now,
            recorded_at=self.now,
            event=draft.event,
        )
        record.rule = ruling(state, record)
        record.spelled = quick_spelling(draft.event)
        record.hash = link(record, run.job.hash)
        return record

    def _keep(self, run: _Run) -> None:
        last = run.records[-1]
        self.position, self.counts = last.position, run.counts
        self.records.extend(run.records)
        self.spans.extend(run.spans)
        before = self.jobs.get(last.job_id)
        if before is None or not only_pulse_differs(before.state, run.job.state):
            self.restated.add(last.job_id)
        self.jobs[last.job_id] = self.changed[last.job_id] = run.job
        for record in run.records:
            self.known[record.job_id, record.event_id] = record
            if record.seq is not None:
                self.known_by_seq.setdefault((last.job_id, record.attempt, record.seq), record)


def _check_trace(state: JobState, report: Report) -> None:
    said = report.trace_id
    if said is None or said == state.trace_id:
        return
    if said.lower().replace("-", "") != state.trace_id.replace("-", ""):
        raise TraceMismatchError(f"The body's trace_id is not that of job {state.id}.")


def _decision(event: Event, state: JobState) -> Draft:
    return Draft(event=event, source=Source.SUPERVISOR, attempt=state.attempt)


def _duplicate(first: Known | Record, report: Report) -> Recorded:
    record = first.record if isinstance(first, Known) else first
    if record is not None and not _same(record, report):
        raise EventIdConflictError(
            f"This event was recorded before, at position {first.position}, with another body."
        )
    rule = record.rule if record is not None else None  # only what counted is ever compacted
    return Recorded(first.position, first.version, rule, duplicate=True)


def _same(first: Record | Report, report: Report) -> bool:
    return (
        _is_alike(first.event, report.event)
        and (report.seq is None or report.seq == first.seq)
        and (report.occurred_at is None or report.occurred_at == first.occurred_at)
    )


def _is_alike(one: Event, other: Event) -> bool:
    """Compare what two events say as JSON does: 1 is 1.0 however the log spells it, never true."""
    return spelling(one) == spelling(other)


def _twin(number: int, first: Report, report: Report) -> _Fresh:
    """Take the second of two callbacks with one id in the same request for a duplicate."""
    if not _same(first, report):
        raise EventIdConflictError(
            "Two callbacks of this request have the same event_id or seq and other bodies."
        )
    return _Fresh(number, duplicate=True)


def _in_order(places: list[_Place], records: tuple[Record, ...]) -> tuple[Recorded, ...]:
    return tuple(
        _recorded(records[place.number], duplicate=place.duplicate)
        if isinstance(place, _Fresh)
        else place
        for place in places
    )


def _recorded(record: Record, *, duplicate: bool) -> Recorded:
    return Recorded(record.position, record.version, record.rule, duplicate=duplicate)


def _request_of(state: JobState) -> Created:
    return Created(
        dataset_id=state.dataset_id,
        model_name=state.model_name,
        epochs=state.epochs,
        max_retries=state.max_retries,
        imgsz=state.imgsz,
        batch=state.batch,
        params=state.params,
        labels=state.labels,
        priority=state.priority,
        cluster=state.cluster,
        idempotency_key=state.idempotency_key,
    )
