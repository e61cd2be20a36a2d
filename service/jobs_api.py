"""The routes of the control API: make, read, explain and cancel jobs."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from projections.decide import CreateJob, IssueToken, RequestCancel
from projections.events import Created, Record
from projections.explain import Inquiry
from projections.job import JobState
from projections.policy import Moment
from projections.status import evolve
from projections.timeline import Story
from service.errors import (
    ExecutorDownError,
    FieldError,
    InvalidRequestError,
    JobIsFinalError,
    JobNotFoundError,
    NotFoundError,
)
from service.executor import ExecutorUnavailableError
from service.request_schemas import (
    BIGINT,
    AsOfQuery,
    CancelRequest,
    EventsQuery,
    JobsQuery,
    LogsQuery,
    NewApiTokenRequest,
    NewJob,
    NoQuery,
    parse_time,
)
from service.routing import MAX_HEADER, Call, Reply
from service.store import Snapshot, Store
from service.views import event_view, job_view, timeline_view


async def create_job(call: Call[NewJob, NoQuery]) -> Reply:
    """Make a job, once for each Idempotency-Key."""
    created = Created(**dict(call.body), idempotency_key=_idempotency_key(call))
    outcome = await call.instance.log.handle(None, CreateJob(created=created))
    job = call.instance.view(outcome.state, outcome.now)
    if call.instance.executor.name == "external" and not outcome.state.status.is_final:
        issued = call.instance.callback_tokens.issue(outcome.state.id, outcome.state.attempt)
        job["callback_token"] = issued.token
    headers = {"Location": f"/v1/jobs/{outcome.state.id}"}
    return Reply(payload=job, status=201 if outcome.created else 200, headers=headers)


async def list_jobs(call: Call[None, JobsQuery]) -> Reply:
    """List jobs, newest first."""
    query = call.query
    found = await call.instance.store.jobs(
        status=query.status,
        labels=_labels(query.label),
        below=_from_cursor(query.cursor),
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    more = len(found) > query.limit
    return Reply(
        payload={
            "jobs": [call.instance.view(job.state, job.now) for job in page],
            "next_cursor": _to_cursor(page[-1].state.id) if more else None,
        }
    )


async def get_job(call: Call[None, AsOfQuery]) -> Reply:
    """Show a job as it is, or as it was at a moment."""
    if call.query.as_of is None:
        job = await _current(call)
        return Reply(payload=call.instance.view(job.state, job.now))
    past = _Fold()
    moment = await _replay(call, past)
    return Reply(payload=job_view(past.state, moment, call.instance.policy))


async def cancel_job(call: Call[CancelRequest, NoQuery]) -> Reply:
    """Ask for a job to be cancelled; asked again, it is the same request."""
    command = RequestCancel(reason=call.body.reason)
    outcome = await call.instance.log.handle(call.job_id, command)
    return Reply(payload=call.instance.view(outcome.state, outcome.now), status=202)


async def issue_token(call: Call[None, NoQuery]) -> Reply:
    """Issue a callback token for the job's current attempt."""
    job = await _current(call)
    if job.state.status.is_final:
        raise JobIsFinalError(f"Job {job.state.id} has ended ({job.state.status}).")
    issued = call.instance.callback_tokens.issue(job.state.id, job.state.attempt)
    expires_at = datetime.fromtimestamp(issued.claims.expires_at, UTC)
    command = IssueToken(
        attempt=issued.claims.attempt, jti=issued.claims.jti, expires_at=expires_at.isoformat()
    )
    outcome = await call.instance.log.handle(job.state.id, command)
    if not outcome.records:  # a retry was decided in between: the next attempt is the current one
        return await issue_token(call)
    return Reply(
        payload={
            "callback_token": issued.token,
            "attempt": issued.claims.attempt,
            "expires_at": expires_at,
        }
    )


async def list_events(call: Call[None, EventsQuery]) -> Reply:
    """List a job's events in version order."""
    await _current(call)
    query = call.query
    records = await call.instance.store.events(
        call.job_id, after=query.after, type_name=query.type, limit=query.limit
    )
    return Reply(
        payload={
            "events": [event_view(record) for record in records],
            "next_after": records[-1].version if records else query.after,
        }
    )


async def timeline(call: Call[None, AsOfQuery]) -> Reply:
    """Show a job's attempts, epochs and story."""
    story = Story()
    moment = await _replay(call, story)
    return Reply(payload=timeline_view(story.finished(moment.now), moment, call.instance.policy))


async def explain(call: Call[None, AsOfQuery]) -> Reply:
    """Show why a job's status is what it is."""
    inquiry = Inquiry()
    moment = await _replay(call, inquiry)
    return Reply(payload=inquiry.finished(moment, call.instance.policy))


async def logs(call: Call[None, LogsQuery]) -> Reply:
    """Show what an attempt's process printed."""
    job = await _current(call)
    attempt = call.query.attempt or job.state.attempt
    try:
        text = await call.instance.executor.logs(job.state.id, attempt, call.query.tail)
    except ExecutorUnavailableError as error:
        raise ExecutorDownError(str(error)) from error
    if text is None:
        raise NotFoundError(f"There is no output of attempt {attempt} of job {job.state.id} here.")
    return Reply(text=text)


async def create_api_token(call: Call[NewApiTokenRequest, NoQuery]) -> Reply:
    """Make a token for the control API."""
    new = await call.instance.api_tokens.create(call.body.name, call.body.role)
    return Reply(payload=new, status=201)


class _Replay(Protocol):
    """Something that takes a job's records in order and keeps its state."""

    state: JobState

    def add(self, record: Record) -> None:
        """Take the next record."""


@dataclass(slots=True)
class _Fold:
    """The state alone."""

    state: JobState = field(default_factory=JobState)

    def add(self, record: Record) -> None:
        """Take the next record."""
        self.state = evolve(self.state, record)


async def _current(call: Call[Any, Any]) -> Snapshot:
    job = await call.instance.store.job(call.job_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    return job


async def _replay(call: Call[Any, AsOfQuery], replay: _Replay) -> Moment:
    """Feed a job's events up to `as_of`, or all of them; return the moment that this leads to."""
    as_of, store = call.query.as_of, call.instance.store
    position, time = await _as_of(store, as_of) if as_of else (None, None)
    async for page in store.history(call.job_id, position=position):
        for record in page:
            replay.add(record)
        await asyncio.sleep(0)  # a long history must not keep the others waiting
    if not replay.state.exists:
        then = f" as of {as_of}" if as_of else ""
        raise JobNotFoundError(f"There is no job {call.job_id}{then}.")
    now = await store.now()
    if time is not None and time < now:
        return Moment(now=time)
    return call.instance.log.senses.moment_of(replay.state, now)


async def _as_of(store: Store, text: str) -> tuple[int, datetime | None]:
    """Return the position that a moment stands for, and its time."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= BIGINT:
        return int(text), await store.time_of(int(text))
    try:
        # A plus sign in an address stands for a space.
        time = parse_time(re.sub(r" (?=\d\d:\d\d$)", "+", text))
    except ValueError as error:
        wanted = FieldError("as_of", "needs a position or an RFC 3339 time")
        raise InvalidRequestError(f"as_of {wanted.message}.", errors=[wanted]) from error
    return await store.position_at(time), time


def _idempotency_key(call: Call[Any, Any]) -> str | None:
    key = call.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not key.strip() or len(key) > MAX_HEADER or not key.isprintable():
        wanted = FieldError("Idempotency-Key", f"needs 1 to {MAX_HEADER} visible characters")
        raise InvalidRequestError(f"The header {wanted.field} {wanted.message}.", errors=[wanted])
    return key


def _labels(texts: list[str]) -> dict[str, str] | None:
    """Read `name=value` filters; all of them must hold."""
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or labels.get(name, value) != value:
            wanted = FieldError("label", "needs the form name=value, with one value for a name")
            raise InvalidRequestError(f"label {wanted.message}.", errors=[wanted])
        labels[name] = value
    return labels or None


def _to_cursor(job_id: int) -> str:
    return base64.urlsafe_b64encode(f"before:{job_id}".encode()).decode().rstrip("=")


def _from_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        word, _, number = base64.urlsafe_b64decode(padded).decode().partition(":")
    except (binascii.Error, ValueError):
        word, number = "", ""
    if word != "before" or not re.fullmatch("[0-9]+", number) or int(number) > BIGINT:
        wanted = FieldError("cursor", "needs a next_cursor that this API gave")
        raise InvalidRequestError(f"cursor {wanted.message}.", errors=[wanted])
    return int(number)
