"""The one way to write to the log: commands queue up, and one writer commits them in batches.

The writer takes what is queued, decides all of it inside one transaction and answers each caller
after the commit. It never waits to make a batch larger: under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from projections.decide import Command, CreateJob, ReportCallbacks
from projections.events import Record
from projections.policy import Moment, Policy
from service.batch import Batch, Outcome
from service.errors import (
    InvalidRequestError,
    OverloadedError,
    ServiceError,
    StoreUnavailableError,
)
from service.postgres import PostgresStore, RefusedDataError, Writing

QUEUE_LENGTH = 2_000
BATCH_LENGTH = 200

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Request:
    job_id: int | None
    command: Command
    answer: asyncio.Future[Outcome]


@dataclass(slots=True)
class EventLog:
    """Appends to the log, from many callers, in one order."""

    store: PostgresStore
    policy: Policy
    unreachable: set[int] = field(default_factory=set)
    """The jobs whose executor cannot be asked at present."""
    last_seen: dict[int, datetime] = field(default_factory=dict)
    """When this process last saw a job's process or pod, by the database's clock."""
    listening_since: datetime | None = None
    """Since when callbacks can be recorded, by the database's clock; None while they cannot."""
    _queue: asyncio.Queue[_Request] = field(
        default_factory=lambda: asyncio.Queue(maxsize=QUEUE_LENGTH)
    )

    async def handle(self, job_id: int | None, command: Command) -> Outcome:
        """Apply the command and return what became of it, once that is durable.

        Raises the errors of `service.errors`, OverloadedError and StoreUnavailableError among them.
        """
        request = _Request(job_id, command, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(request)
        except asyncio.QueueFull as error:
            raise OverloadedError from error
        return await request.answer

    def moment_of(self, job_id: int, now: datetime) -> Moment:
        """Return what the rules may know of this moment."""
        return Moment(
            now=now,
            listening_since=self.listening_since or now,
            unreachable=job_id in self.unreachable,
            reachable_at=self.last_seen.get(job_id),
        )

    def forget_all_but(self, job_ids: set[int]) -> None:
        """Drop what was seen of jobs that nobody looks after any more."""
        self.unreachable &= job_ids
        self.last_seen = {job: seen for job, seen in self.last_seen.items() if job in job_ids}

    def deaf(self) -> None:
        """Note that callbacks may have been missed until now: silence so far proves nothing."""
        self.listening_since = None

    def hears(self, now: datetime) -> None:
        """Note that callbacks can be recorded again, or still."""
        self.listening_since = self.listening_since or now

    async def run(self) -> None:
        """Write what is asked for until cancelled; then refuse what is still queued."""
        try:
            while True:
                await self._commit(await self._next_batch())
        finally:
            while not self._queue.empty():
                _fail(self._queue.get_nowait(), StoreUnavailableError("The service is stopping."))

    async def _next_batch(self) -> list[_Request]:
        requests = [await self._queue.get()]
        while len(requests) < BATCH_LENGTH and not self._queue.empty():
            requests.append(self._queue.get_nowait())
        return requests

    async def _commit(self, requests: list[_Request]) -> None:
        """Commit the requests together; one that the database refuses fails alone."""
        try:
            answers = await self._write(requests)
        except RefusedDataError as error:
            await self._commit_alone(requests, error)
        except StoreUnavailableError as error:
            self.deaf()
            for request in requests:
                _fail(request, error)
        except asyncio.CancelledError:
            for request in requests:
                _fail(request, StoreUnavailableError("The service is stopping."))
            raise
        except Exception as error:
            log.exception("batch_failed", requests=len(requests))
            for request in requests:
                _fail(request, error)
        else:
            for request, answer in zip(requests, answers, strict=True):
                _answer(request, answer)

    async def _commit_alone(self, requests: list[_Request], error: RefusedDataError) -> None:
        if len(requests) == 1:
            log.warning("refused_by_database", error=str(error))
            _fail(requests[0], InvalidRequestError("The database refused a value of this request."))
            return
        for request in requests:
            await self._commit([request])

    async def _write(self, requests: Sequence[_Request]) -> list[Outcome | Exception]:
        async with self.store.writing() as writing:
            batch = await self._load(writing, requests)
            answers = [_try(batch, request) for request in requests]
            if batch.records:
                await writing.append(batch.records, batch.changed.values())
        return answers

    async def _load(self, writing: Writing, requests: Sequence[_Request]) -> Batch:
        """Read everything that the commands need, in a handful of statements."""
        head = await writing.head()
        self.hears(head.now)
        keys = [key for request in requests if (key := _key_of(request.command)) is not None]
        by_key = await writing.jobs_by_key(keys) if keys else {}
        ids = {request.job_id for request in requests if request.job_id is not None}
        return Batch(
            head=head,
            policy=self.policy,
            moment_of=self.moment_of,
            jobs=await writing.jobs(ids | set(by_key.values())),
            jobs_by_key=by_key,
            by_event_id=await _known_by_event_id(writing, requests),
            by_seq=await _known_by_seq(writing, requests),
        )


async def _known_by_event_id(
    writing: Writing, requests: Sequence[_Request]
) -> dict[tuple[int, str], Record]:
    asked = {
        (request.job_id, report.event_id)
        for request in requests
        if request.job_id is not None and isinstance(request.command, ReportCallbacks)
        for report in request.command.reports
        if report.event_id is not None
    }
    found = await writing.by_event_id(sorted(asked)) if asked else []
    return {(record.job_id, record.event_id): record for record in found}


async def _known_by_seq(
    writing: Writing, requests: Sequence[_Request]
) -> dict[tuple[int, int, int], Record]:
    asked = {
        (request.job_id, request.command.attempt, report.seq)
        for request in requests
        if request.job_id is not None and isinstance(request.command, ReportCallbacks)
        for report in request.command.reports
        if report.event_id is None and report.seq is not None
    }
    found = await writing.by_seq(sorted(asked)) if asked else []
    return {
        (record.job_id, record.attempt, record.seq): record
        for record in found
        if record.seq is not None
    }


def _key_of(command: Command) -> str | None:
    return command.created.idempotency_key if isinstance(command, CreateJob) else None


def _try(batch: Batch, request: _Request) -> Outcome | Exception:
    """Apply one request; whatever is wrong with it is its own answer and nobody else's."""
    try:
        return batch.apply(request.job_id, request.command)
    except ServiceError as error:
        return error
    except Exception as error:
        log.exception("command_failed", job_id=request.job_id)
        return error


def _answer(request: _Request, answer: Outcome | Exception) -> None:
    if isinstance(answer, Exception):
        _fail(request, answer)
    elif not request.answer.done():
        request.answer.set_result(answer)


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
