"""The routes of the control API: make, read, explain and cancel jobs."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Any

from projections.decide import CreateJob, IssueToken, RequestCancel
from projections.events import Created
from projections.explain import Inquiry
from projections.policy import Moment, View
from projections.timeline import Story
from service.as_of import follow, job_at, moment_in, resolve
from service.errors import (
    ExecutorDownError,
    FieldError,
    InvalidRequestError,
    JobIsFinalError,
    JobNotFoundError,
    NotFoundError,
)
from service.executor import ExecutorUnavailableError
from service.fleet import jobs_at
from service.instance import Instance
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
)
from service.routing import MAX_HEADER, Call, Reply
from service.store import Snapshot
from service.views import event_view, job_view, timeline_view


async def create_job(call: Call[NewJob, NoQuery]) -> Reply:
    """Make a job, once for each Idempotency-Key."""
    if call.body.cluster is not None:
        call.instance.clusters.cluster_for(call.body.cluster)
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
    wanted: dict[str, Any] = {
        "status": query.status,
        "labels": _labels(query.label),
        "below": _from_cursor(query.cursor),
        "limit": query.limit + 1,
    }
    found = await _listed(call.instance, query.as_of, wanted)
    page = found[: query.limit]
    more = len(found) > query.limit
    return Reply(
        payload={"jobs": page, "next_cursor": _to_cursor(page[-1]["id"]) if more else None}
    )


async def _listed(
    instance: Instance, as_of: str | None, wanted: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the jobs that are wanted, as they are or as they were at a moment."""
    then = await resolve(instance.store, moment_in(as_of)) if as_of is not None else None
    if then is None or not then.is_past:
        return [instance.view(job.state, job.now) for job in await instance.store.jobs(**wanted)]
    if then.time is None:
        return []
    moment = Moment(now=then.time, view=View.RECORDED)
    states = await jobs_at(instance.store, then, **wanted)
    return [job_view(state, moment, instance.policy) for state in states]


async def get_job(call: Call[None, AsOfQuery]) -> Reply:
    """Show a job as it is, or as it was at a moment."""
    if call.query.as_of is None and call.query.view is View.RECORDED:
        job = await _current(call)
        return Reply(payload=call.instance.view(job.state, job.now))
    state, moment = await job_at(call.instance, call.job_id, call.query)
    return Reply(payload=job_view(state, moment, call.instance.policy))


async def cancel_job(call: Call[CancelRequest, NoQuery]) -> Reply:
    """Ask for a job to be cancelled; asked again, it is the same request."""
    call.instance.check_own(call.job_id)
    command = RequestCancel(reason=call.body.reason)
    outcome = await call.instance.log.handle(call.job_id, command)
    return Reply(payload=call.instance.view(outcome.state, outcome.now), status=202)


async def issue_token(call: Call[None, NoQuery]) -> Reply:
    """Issue a callback token for the job's current attempt."""
    call.instance.check_own(call.job_id)
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
    moment = await follow(call.instance, call.job_id, call.query, story)
    return Reply(payload=timeline_view(story.finished(moment.now), moment, call.instance.policy))


async def explain(call: Call[None, AsOfQuery]) -> Reply:
    """Show why a job's status is what it is."""
    inquiry = Inquiry()
    moment = await follow(call.instance, call.job_id, call.query, inquiry)
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


async def _current(call: Call[Any, Any]) -> Snapshot:
    job = await call.instance.store.job(call.job_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    return job


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
