"""Which events follow from a command, and what follows from a state and the time. Pure.

`decide` turns a command into the facts to record. `next_decision` turns a state, a moment and a
policy into the one decision that is due, if any; the caller records it and asks again until
nothing is due. Both run inside the append's transaction, after every fact and at every tick, so
that any order in which the same facts arrive leads to the same end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never
from uuid import NAMESPACE_OID, uuid5

from projections.events import (
    Adopted,
    Callback,
    CancelDelivered,
    CancelRequested,
    Created,
    Done,
    Draft,
    Event,
    Evidence,
    Exited,
    Launched,
    Queued,
    Running,
    Source,
    Terminating,
    TokenIssued,
    type_of,
)
from projections.job import JobState, JobStatus
from projections.sighting import Alive, Ending, Gone, Sighting, Unreachable, Unseen, Waiting


class JobHasEndedError(Exception):
    """The command needs a job that has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJob:
    """Make a job."""

    created: Created


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class Report:
    """One callback as the trainer sent it."""

    event: Callback
    event_id: str | None = None
    seq: int | None = None
    occurred_at: datetime | None = None
    trace_id: str | None = None
    """The trace that the trainer believes to belong to; it must be the job's."""


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class ReportCallbacks:
    """Record what a trainer says, in its order."""

    attempt: int
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancel:
    """Cancel the job."""

    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueToken:
    """Note that a callback token was handed out for an attempt that is still the current one."""

    attempt: int
    jti: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewToken:
    """Note that a trainer got a fresh token for its own attempt, whatever has become of that."""

    attempt: int
    jti: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """Note why the attempt waits, or (with `executor`) that its start is asked for now."""

    attempt: int
    reason: str
    message: str
    executor: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Record what the executor sees of an attempt, where that is new."""

    attempt: int
    sighting: Sighting
    adopting: bool = False
    """This service has just started and sees the attempt for the first time."""
    evidence: Evidence | None = None
    """What could be gone tomorrow, kept where the sighting brings news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Keep something about an attempt that decides nothing, under an id: it is kept once."""

    attempt: int
    evidence: Evidence
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Nothing happened but time."""


Command = (
    CreateJob
    | ReportCallbacks
    | RequestCancel
    | IssueToken
    | RenewToken
    | Enqueue
    | Observe
    | Note
    | Tick
)


def decide(state: JobState, command: Command) -> tuple[Draft, ...]:
    """Return the facts to record; none where the command says nothing new.

    Raises JobHasEndedError where a cancel comes too late.
    """
    match command:
        case CreateJob() if state.exists:
            return ()
        case CreateJob(created=created):
            return (Draft(event=created, source=Source.API, attempt=1),)
        case ReportCallbacks():
            return _reported(state, command)
        case RequestCancel(reason=reason):
            return _cancel_requested(state, reason)
        case IssueToken():
            return _issued(state, command)
        case RenewToken():
            return _renewed(state, command)
        case Enqueue():
            return _enqueued(state, command)
        case Observe():
            return _observed(state, command)
        case Note():
            return (_noted(command),)
        case Tick():
            return ()
        case _ as never:
            assert_never(never)


def directive(state: JobState, attempt: int) -> str:
    """Return what to tell a trainer of this attempt: `continue`, `cancel` or `stop`."""
    if state.status.is_final or attempt != state.attempt or state.result:
        return "stop"
    if state.cancel:
        return "cancel"
    return "stop" if state.stop else "continue"


def _issued(state: JobState, command: IssueToken) -> tuple[Draft, ...]:
    if state.status.is_final:
        raise JobHasEndedError
    if command.attempt != state.attempt:
        return ()
    issued = TokenIssued(jti=command.jti, expires_at=command.expires_at)
    return (Draft(event=issued, source=Source.OPERATOR, attempt=state.attempt),)


def _renewed(state: JobState, command: RenewToken) -> tuple[Draft, ...]:
    if not 1 <= command.attempt <= state.attempt:
        return ()
    issued = TokenIssued(jti=command.jti, expires_at=command.expires_at)
    return (Draft(event=issued, source=Source.API, attempt=command.attempt),)


def _reported(state: JobState, command: ReportCallbacks) -> tuple[Draft, ...]:
    drafts = tuple(
        Draft(
            event=report.event,
            source=Source.TRAINER,
            attempt=command.attempt,
            event_id=report.event_id,
            seq=report.seq,
            occurred_at=report.occurred_at,
        )
        for report in command.reports
    )
    return (*drafts, *_delivery(state, command))


def _delivery(state: JobState, command: ReportCallbacks) -> tuple[Draft, ...]:
    """Note that the answer will tell the trainer of the cancel, if it is the first to do so."""
    if state.cancel is None or state.cancel.delivered is not None:
        return ()
    ends = any(isinstance(report.event, Done) for report in command.reports)
    if ends or command.attempt != state.attempt or state.status.is_final:
        return ()
    told = CancelDelivered(because=(state.cancel.position,))
    return (Draft(event=told, source=Source.API, attempt=command.attempt),)


def _cancel_requested(state: JobState, reason: str | None) -> tuple[Draft, ...]:
    if state.status.is_final:
        raise JobHasEndedError
    if state.cancel is not None:
        return ()
    asked = CancelRequested(reason=reason)
    return (Draft(event=asked, source=Source.OPERATOR, attempt=state.attempt),)


def _enqueued(state: JobState, command: Enqueue) -> tuple[Draft, ...]:
    waits = state.status in (JobStatus.PENDING, JobStatus.QUEUED) and state.executor is None
    if not waits or state.exit or state.cancel or command.attempt != state.attempt:
        return ()
    if command.executor is None and command.reason == state.reason.code:
        return ()
    if command.executor is not None and state.releasing is not None:
        return ()
    event = Queued(
        reason=command.reason,
        message=command.message,
        executor=command.executor,
        place=command.place,
    )
    return (Draft(event=event, source=Source.LAUNCHER, attempt=state.attempt),)


def _observed(state: JobState, command: Observe) -> tuple[Draft, ...]:
    sighting = command.sighting
    if command.attempt == state.releasing:
        launched, event = None, _released(sighting)
    elif command.attempt == state.attempt and state.exit is None:
        launched = _launched(state, sighting)
        event = _seen(state, sighting, adopting=command.adopting)
    else:
        return ()
    kept = command.evidence if event is not None else None
    at = sighting.at if isinstance(sighting, Gone) else None
    return tuple(
        Draft(
            event=item,
            source=Source.WATCHER,
            attempt=command.attempt,
            event_id=_id_of(state, sighting, item, event),
            occurred_at=at,
        )
        for item in (launched, kept, event)
        if item is not None
    )


def _id_of(state: JobState, sighting: Sighting, event: Event, news: Event | None) -> str | None:
    """Return the id of a fact about an object of a cluster; None where it is about none.

    Whoever sees the same version of the same object, and knows of the job what we know, gives the
    fact the same id: it cannot be recorded twice. That we took an attempt over is about ourselves,
    and may happen as often as we start.
    """
    identity = None if isinstance(sighting, Unseen | Unreachable) else sighting.identity
    if identity is None or (isinstance(news, Adopted) and not isinstance(event, Launched)):
        return None
    since = state.decided_by[-1] if state.decided_by else 0
    said = type_of(news) if news is not None else ""
    reason = news.reason if isinstance(news, Terminating) else ""
    parts = (state.trace_id, identity.uid, identity.version, type_of(event), since, said, reason)
    return str(uuid5(NAMESPACE_OID, "/".join(map(str, parts))))


def _noted(command: Note) -> Draft:
    return Draft(
        event=command.evidence,
        source=Source.WATCHER,
        attempt=command.attempt,
        event_id=command.event_id,
    )


def _launched(state: JobState, sighting: Sighting) -> Launched | None:
    """Return that something was made for the attempt, where the log does not know it yet."""
    identity = None if isinstance(sighting, Unseen | Unreachable) else sighting.identity
    if identity is None or state.uid is not None:
        return None
    message = f"{identity.handle} was made for attempt {state.attempt}."
    return Launched(uid=identity.uid, handle=identity.handle, message=message)


def _seen(state: JobState, sighting: Sighting, *, adopting: bool) -> Event | None:
    match sighting:
        case Gone():
            return _exited(sighting)
        case Unseen() if state.status.is_final and state.was_started:
            return _released(sighting)
        case Unreachable() | Unseen():
            return None
        case Waiting() | Alive() | Ending() if state.status.is_final:
            return None
        case Waiting():
            return _waits(state, sighting)
        case Alive():
            return _lives(state, sighting, adopting=adopting)
        case Ending():
            return _ends(state, sighting)
        case _ as never:
            assert_never(never)


def _waits(state: JobState, sighting: Waiting) -> Event | None:
    """Return why the attempt waits, where that is news; a look may be older than a callback."""
    if sighting.reason is None or sighting.reason == state.reason.code:
        return None
    pod = sighting.identity.pod if sighting.identity is not None else None
    sent_back = sighting.sent_back or state.is_another(pod)
    if state.status is JobStatus.RUNNING and not sent_back:
        return None
    return Queued(reason=sighting.reason, message=sighting.message, pod=pod)


def _lives(state: JobState, sighting: Alive, *, adopting: bool) -> Event | None:
    handle = sighting.handle
    if adopting:
        message = f"The service started anew and took over {handle}."
        return Adopted(handle=handle, message=message)
    pod = sighting.identity.pod if sighting.identity is not None else None
    known = state.status is JobStatus.RUNNING and state.reachable_at is not None
    if known and not state.is_another(pod):
        return None
    return Running(reason="seen_alive", message=f"{handle} is alive.", handle=handle, pod=pod)


def _ends(state: JobState, sighting: Ending) -> Event | None:
    known = state.ending is not None and state.ending.reason == sighting.reason
    if sighting.reason is None or known:
        return None
    return Terminating(reason=sighting.reason, message=sighting.message, handle=sighting.handle)


def _released(sighting: Sighting) -> Event | None:
    """Return the end of an attempt that is over in the log, once nothing of it is left."""
    match sighting:
        case Gone():
            return _exited(sighting)
        case Unseen():
            return Exited(message="Nothing of it is there.")
        case Waiting() | Alive() | Ending() | Unreachable():
            return None
        case _ as never:
            assert_never(never)


def _exited(sighting: Gone) -> Exited:
    return Exited(
        exit_code=sighting.exit_code,
        signal=sighting.signal,
        machine_lost=sighting.machine_lost,
        refused=sighting.refused,
        message=sighting.message,
        cause=sighting.cause,
        node=sighting.node,
    )
