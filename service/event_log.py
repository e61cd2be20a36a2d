"""The one way to write to the log: commands queue up, and one writer commits them in batches.

The writer takes what is queued, decides all of it inside one transaction and answers each caller
after the commit. It never waits to make a batch larger: under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from logging import DEBUG, INFO

import structlog

from projections.decide import Command, CreateJob, Report, ReportCallbacks
from projections.events import Heartbeat, Record, TrainerEvent
from projections.policy import Policy
from service.batch import Batch, Outcome
from service.errors import (
    FencedError,
    InvalidRequestError,
    OverloadedError,
    ServiceError,
    SettingsError,
    StoreUnavailableError,
)
from service.heads import Heads
from service.postgres import Database, RefusedDataError
from service.senses import Senses
from service.writing import IdKey, Known, SeqKey, Writer

# In callbacks and other commands. A full queue holds some 20 MB of usual callbacks, and a batch
# takes some tenths of a second.
QUEUE_WEIGHT = 20_000
BATCH_WEIGHT = 500
TURN_WEIGHT = 50
PARTITION_EVENTS = 1_000_000
KNOWN_ID = "event_ids_pkey"
LOOKUPS = 100

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Request:
    job_id: int | None
    command: Command
    term: int | None
    answer: asyncio.Future[Outcome]

    @property
    def weight(self) -> int:
        """How much work it is: its callbacks, or one."""
        return len(self.command.reports) if isinstance(self.command, ReportCallbacks) else 1


@dataclass(slots=True)
class EventLog:
    """Appends to the log, from many callers, in one order."""

    database: Database
    policy: Policy
    senses: Senses
    partition_events: int = PARTITION_EVENTS
    """How many positions a new range of the log gets."""
    committed: Callable[[Sequence[Outcome | Exception], float], None] | None = None
    """Told of every commit: what was answered, and the seconds it took."""
    _queue: asyncio.Queue[_Request] = field(default_factory=asyncio.Queue)
    _queued: int = 0
    """How much is in the queue, in callbacks and other commands."""
    _heads: Heads = field(default_factory=Heads)
    _contended: bool = False
    """Another process has written since our last batch: take the lock before looking."""
    _lookups: int = 0
    """For how many batches to look up every event id first: repeats come in bursts, and a single
    one is found by the append."""

    async def handle(
        self, job_id: int | None, command: Command, term: int | None = None
    ) -> Outcome:
        """Apply the command and return what became of it, once that is durable.

        With a term it counts only while the lease is in that term, when it is written: otherwise it
        raises FencedError. Raises the errors of `service.errors`, OverloadedError and
        StoreUnavailableError among them.
        """
        request = _Request(job_id, command, term, asyncio.get_running_loop().create_future())
        if self._queued + request.weight > QUEUE_WEIGHT:
            raise OverloadedError
        self._queued += request.weight
        self._queue.put_nowait(request)
        return await request.answer

    @property
    def queued(self) -> int:
        """How many callbacks and other commands wait to be written."""
        return self._queued

    async def run(self) -> None:
        """Write what is asked for until cancelled; then refuse what is still queued."""
        try:
            requests = await self._next_batch()
            while True:
                requests = await self._commit_while_connected(requests)
        finally:
            while not self._queue.empty():
                _fail(self._queue.get_nowait(), StoreUnavailableError("The service is stopping."))

    async def _commit_while_connected(self, requests: list[_Request]) -> list[_Request]:
        """Commit batch after batch over one session; return the batch that needs a new one."""
        try:
            async with self.database.working_session() as session:
                writer = Writer(session)
                await writer.prepare()
                while not session.is_closed:
                    await self._commit(writer, requests)
                    requests = []
                    requests = await self._next_batch()
        except StoreUnavailableError as error:
            self._fail_all(requests, error)
        except SettingsError as error:  # a schema that is being rebuilt, a role without its rights
            log.warning("log_unusable", error=str(error))
            self._fail_all(requests, StoreUnavailableError(str(error)))
        except asyncio.CancelledError:
            self._fail_all(requests, StoreUnavailableError("The service is stopping."))
            raise
        else:
            return requests
        return await self._next_batch()

    def _fail_all(self, requests: list[_Request], error: Exception) -> None:
        self.senses.deaf()
        self._heads.forget()
        for request in requests:
            _fail(request, error)

    async def _next_batch(self) -> list[_Request]:
        requests = [await self._queue.get()]
        weight = requests[0].weight
        while weight < BATCH_WEIGHT and not self._queue.empty():
            requests.append(self._queue.get_nowait())
            weight += requests[-1].weight
        self._queued -= weight
        return requests

    async def _commit(self, writer: Writer, requests: list[_Request]) -> None:
        """Commit the requests together; one that the database refuses fails alone."""
        start = time.perf_counter()
        try:
            answers = await self._write(writer, requests)
        except RefusedDataError as error:
            self._heads.forget()
            await self._commit_again(writer, requests, error)
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("batch_failed", requests=len(requests))
            self._heads.forget()
            for request in requests:
                _fail(request, error)
        else:
            for request, answer in zip(requests, answers, strict=True):
                _answer(request, answer)
                _tell(answer)
            if self.committed is not None:
                self.committed(answers, time.perf_counter() - start)

    async def _commit_again(
        self, writer: Writer, requests: list[_Request], error: RefusedDataError
    ) -> None:
        """Look closer: an id was told before, or one request holds what the database refuses."""
        if error.constraint == KNOWN_ID and self._lookups < LOOKUPS:
            self._lookups = LOOKUPS
            await self._commit(writer, requests)
        elif len(requests) == 1:
            log.warning("refused_by_database", error=str(error))
            _fail(requests[0], InvalidRequestError("The database refused a value of this request."))
        else:
            middle = len(requests) // 2
            await self._commit(writer, requests[:middle])
            await self._commit(writer, requests[middle:])

    async def _write(
        self, writer: Writer, requests: Sequence[_Request]
    ) -> list[Outcome | Exception]:
        """Append where the log ends, and take the lock first where another process is faster."""
        if not self._contended:
            answers = await self._append(writer, requests)
            if answers is not None:
                return answers
        self._contended = True
        async with writer.session.transaction():
            await writer.lock()
            answers = await self._append(writer, requests)
        assert answers is not None  # noqa: S101 - nobody else can move the head that we hold
        return answers

    async def _append(
        self, writer: Writer, requests: Sequence[_Request]
    ) -> list[Outcome | Exception] | None:
        """Decide and append; None where another process appended in between."""
        batch = await self._load(writer, requests)
        behind = batch.behind
        answers: list[Outcome | Exception] = []
        worked = 0
        for request in requests:
            answers.append(_try(batch, request))
            worked += request.weight
            if worked >= TURN_WEIGHT:  # a large batch must not keep reads and probes waiting
                worked = 0
                await asyncio.sleep(0)
        if not batch.records:
            return answers
        while batch.position >= behind.end_position:
            await writer.add_partition(self.partition_events)
            behind = replace(behind, end_position=behind.end_position + self.partition_events)
        now = await writer.append(
            batch.records,
            behind=behind,
            ahead=batch.ahead,
            jobs=batch.changed,
            restated=batch.restated,
            spans=batch.spans,
        )
        if now is None:
            return None
        ahead = replace(batch.ahead, end_position=behind.end_position)
        self._heads.advance(ahead, now, batch.changed)
        self._lookups = max(self._lookups - 1, 0)
        return answers

    async def _load(self, writer: Writer, requests: Sequence[_Request]) -> Batch:
        """Read everything that the commands need and that is not known from the last batch."""
        head = None if self._contended else self._heads.head()
        if head is None or any(request.term not in (None, head.term) for request in requests):
            head, self._contended = await self._heads.read(writer)
        self.senses.hears(head.now)
        keys = [key for request in requests if (key := _key_of(request.command)) is not None]
        by_key = await writer.jobs_by_key(keys) if keys else {}
        ids = {request.job_id for request in requests if request.job_id is not None}
        return Batch(
            behind=head,
            policy=self.policy,
            moment_of=self.senses.moment_of,
            jobs=await self._heads.jobs(writer, ids | set(by_key.values())),
            jobs_by_key=by_key,
            known=await _known(writer, requests) if self._lookups else {},
            known_by_seq=await _known_by_seq(writer, requests),
        )


async def _known(writer: Writer, requests: Sequence[_Request]) -> dict[IdKey, Known | Record]:
    asked = {
        (job_id, report.event_id)
        for job_id, _, report in _reports(requests)
        if report.event_id is not None
    }
    return {**await writer.known(sorted(asked))} if asked else {}


async def _known_by_seq(
    writer: Writer, requests: Sequence[_Request]
) -> dict[SeqKey, Known | Record]:
    asked = {
        (job_id, attempt, report.seq)
        for job_id, attempt, report in _reports(requests)
        if report.event_id is None and report.seq is not None
    }
    return {**await writer.known_by_seq(sorted(asked))} if asked else {}


def _reports(requests: Sequence[_Request]) -> Iterator[tuple[int, int, Report]]:
    """Yield every callback, with its job and attempt."""
    for request in requests:
        if request.job_id is not None and isinstance(request.command, ReportCallbacks):
            for report in request.command.reports:
                yield request.job_id, request.command.attempt, report


def _key_of(command: Command) -> str | None:
    return command.created.idempotency_key if isinstance(command, CreateJob) else None


def _try(batch: Batch, request: _Request) -> Outcome | Exception:
    """Apply one request; whatever is wrong with it is its own answer and nobody else's."""
    try:
        return batch.apply(request.job_id, request.command, request.term)
    except (ServiceError, FencedError) as error:
        return error
    except Exception as error:
        log.exception("command_failed", job_id=request.job_id)
        return error


def _tell(answer: Outcome | Exception) -> None:
    """Log what was recorded; the steps of a training only at the debug level."""
    for record in answer.records if isinstance(answer, Outcome) else ():
        level = DEBUG if isinstance(record.event, Heartbeat | TrainerEvent) else INFO
        if not log.is_enabled_for(level):
            continue
        log.log(
            level,
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
