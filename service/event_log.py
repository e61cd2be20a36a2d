"""The one way to write to the log: commands queue up, and one writer commits them in batches.

The writer takes what is queued, decides all of it inside one transaction and answers each caller
after the commit. It never waits to make a batch larger: under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from projections.decide import Command, CreateJob, ReportCallbacks
from projections.events import Heartbeat, Record, TrainerEvent
from projections.policy import Policy
from service.batch import Batch, Outcome
from service.errors import (
    InvalidRequestError,
    OverloadedError,
    ServiceError,
    StoreUnavailableError,
)
from service.postgres import PostgresStore, RefusedDataError, Writing
from service.senses import Senses

# In callbacks and other commands. A full queue holds some 20 MB of usual callbacks, and a batch
# takes some tenths of a second.
QUEUE_WEIGHT = 20_000
BATCH_WEIGHT = 500

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Request:
    job_id: int | None
    command: Command
    answer: asyncio.Future[Outcome]

    @property
    def weight(self) -> int:
        """How much work it is: its callbacks, or one."""
        return len(self.command.reports) if isinstance(self.command, ReportCallbacks) else 1


@dataclass(slots=True)
class EventLog:
    """Appends to the log, from many callers, in one order."""

    store: PostgresStore
    policy: Policy
    senses: Senses
    _queue: asyncio.Queue[_Request] = field(default_factory=asyncio.Queue)
    _queued: int = 0
    """How much is in the queue, in callbacks and other commands."""

    async def handle(self, job_id: int | None, command: Command) -> Outcome:
        """Apply the command and return what became of it, once that is durable.

        Raises the errors of `service.errors`, OverloadedError and StoreUnavailableError among them.
        """
        request = _Request(job_id, command, asyncio.get_running_loop().create_future())
        if self._queued + request.weight > QUEUE_WEIGHT:
            raise OverloadedError
        self._queued += request.weight
        self._queue.put_nowait(request)
        return await request.answer

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
        weight = requests[0].weight
        while weight < BATCH_WEIGHT and not self._queue.empty():
            requests.append(self._queue.get_nowait())
            weight += requests[-1].weight
        self._queued -= weight
        return requests

    async def _commit(self, requests: list[_Request]) -> None:
        """Commit the requests together; one that the database refuses fails alone."""
        try:
            answers = await self._write(requests)
        except RefusedDataError as error:
            await self._commit_alone(requests, error)
        except StoreUnavailableError as error:
            self.senses.deaf()
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
                _tell(answer)

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
            answers: list[Outcome | Exception] = []
            for request in requests:
                answers.append(_try(batch, request))
                await asyncio.sleep(0)  # a large batch must not keep reads and probes waiting
            if batch.records:
                await writing.append(batch.records, batch.changed.values())
        return answers

    async def _load(self, writing: Writing, requests: Sequence[_Request]) -> Batch:
        """Read everything that the commands need, in a handful of statements."""
        head = await writing.head()
        self.senses.hears(head.now)
        keys = [key for request in requests if (key := _key_of(request.command)) is not None]
        by_key = await writing.jobs_by_key(keys) if keys else {}
        ids = {request.job_id for request in requests if request.job_id is not None}
        return Batch(
            head=head,
            policy=self.policy,
            moment_of=self.senses.moment_of,
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


def _tell(answer: Outcome | Exception) -> None:
    """Log what was recorded; the steps of a training only at the debug level."""
    for record in answer.records if isinstance(answer, Outcome) else ():
        routine = isinstance(record.event, Heartbeat | TrainerEvent)
        (log.debug if routine else log.info)(
            "recorded",
            type=record.type,
            job_id=record.job_id,
            attempt=record.attempt,
            position=record.position,
            trace_id=record.trace_id,
        )


def _answer(request: _Request, answer: Outcome | Exception) -> None:
    if isinstance(answer, Exception):
        _fail(request, answer)
    elif not request.answer.done():
        request.answer.set_result(answer)


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
