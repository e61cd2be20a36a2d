"""A moment that was asked for: where the log stood then, and a job as it was."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from projections.beats import fold_glimpses
from projections.events import Record
from projections.hindsight import in_hindsight
from projections.job import JobState
from projections.policy import Moment, View
from projections.rollup import known_within, reaches_back
from projections.status import evolve
from service.errors import FieldError, InvalidRequestError, JobNotFoundError
from service.instance import Instance
from service.records import glimpses_in
from service.request_schemas import BIGINT, AsOfQuery, parse_time
from service.store import Store

AT_ONCE = 500  # events between two looks at who else waits
FOLDED_AT_ONCE = 1_000  # those of which only the state is wanted


@dataclass(frozen=True, slots=True)
class AsOf:
    """A moment, and where the log stood then."""

    position: int
    """The last position that had been reached."""
    time: datetime | None
    """None at a position before the log's first event."""
    is_past: bool
    """Whether it is over: of the present our own senses tell, too."""


class Replay(Protocol):
    """Something that takes a job's records in order and keeps its state."""

    state: JobState

    def add(self, record: Record) -> None:
        """Take the next record."""


@dataclass(slots=True)
class Fold:
    """The state alone."""

    state: JobState = field(default_factory=JobState)

    def add(self, record: Record) -> None:
        """Take the next record."""
        self.state = evolve(self.state, record)


def moment_in(text: str, field: str = "as_of") -> int | datetime:
    """Return the position or the time that a text names.

    Raises InvalidRequestError with the field's name where it is neither.
    """
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= BIGINT:
        return int(text)
    try:
        # A plus sign in an address stands for a space.
        return parse_time(re.sub(r" (?=\d\d:\d\d$)", "+", text))
    except ValueError as error:
        wanted = FieldError(
            field, "needs a position or an RFC 3339 time such as 2026-11-23T02:14:00Z"
        )
        raise InvalidRequestError(f"{field} {wanted.message}.", errors=[wanted]) from error


async def resolve(store: Store, moment: int | datetime | None) -> AsOf:
    """Return the moment that a position or a time stands for; without one, the present."""
    if moment is None:
        head = await store.head()
        return AsOf(head.position, head.now, is_past=False)
    if isinstance(moment, int):
        reached = await store.reached(moment)
        is_past = moment <= reached.head
    else:
        reached = await store.reached_by(moment)
        is_past = moment < reached.now
    if is_past:
        return AsOf(reached.position, reached.time, is_past=True)
    return AsOf(reached.head, reached.now, is_past=False)


async def job_at(instance: Instance, job_id: int, query: AsOfQuery) -> tuple[JobState, Moment]:
    """Return a job's state at a moment, as the query's view has it, and the moment.

    Raises as `follow` does.
    """
    if query.view is View.OCCURRED:
        fold = Fold()
        moment = await follow(instance, job_id, query, fold)
        return fold.state, moment
    async with instance.store.held() as store:
        then = await _asked(store, query)
        state = await state_at(store, job_id, then)
    return state, _moment(instance, job_id, state, then, query)


async def state_at(store: Store, job_id: int, then: AsOf) -> JobState:
    """Return a job's state as the log had it at a moment: one without events where it had none."""
    state = JobState()
    while page := await store.fold_page(
        job_id, state.version, upto=then.position, limit=FOLDED_AT_ONCE
    ):
        state = fold_glimpses(state, job_id, page["trace_id"] or "", glimpses_in(page))
        if len(page["versions"]) < FOLDED_AT_ONCE:
            break
        await asyncio.sleep(0)
    under_way = await _under_way(store, job_id, state.version, then)
    return evolve(state, under_way) if under_way else state


async def follow(instance: Instance, job_id: int, query: AsOfQuery, replay: Replay) -> Moment:
    """Feed a job's events up to a moment, as the query's view has them; return the moment.

    Raises InvalidRequestError, or JobNotFoundError where there was no such job.
    """
    then = await _asked(instance.store, query)
    async for some in records_at(instance.store, job_id, then, query.view):
        for record in some:
            replay.add(record)
        await asyncio.sleep(0)  # a long history must not keep the others waiting
    return _moment(instance, job_id, replay.state, then, query)


async def _asked(store: Store, query: AsOfQuery) -> AsOf:
    asked = moment_in(query.as_of) if query.as_of is not None else None
    if query.view is View.OCCURRED and isinstance(asked, int):
        wanted = FieldError("as_of", "needs a time for view=occurred")
        raise InvalidRequestError(
            "view=occurred needs a time as as_of:"
            " a position says when something was recorded, not when it happened.",
            errors=[wanted],
        )
    return await resolve(store, asked)


def _moment(
    instance: Instance, job_id: int, state: JobState, then: AsOf, query: AsOfQuery
) -> Moment:
    """Return what the rules may know of the moment at which a job had this state."""
    if not state.exists or then.time is None:
        as_asked = f" as of {query.as_of}" if query.as_of else ""
        raise JobNotFoundError(f"There is no job {job_id}{as_asked}.")
    if then.is_past or query.view is View.OCCURRED:
        return Moment(now=then.time, view=query.view)
    return instance.log.senses.moment_of(state, then.time)


async def records_at(
    store: Store, job_id: int, then: AsOf, view: View
) -> AsyncIterator[Iterable[Record]]:
    """Yield a job's events up to a moment, some at a time, in the order of the view."""
    if view is View.RECORDED:
        version = 0
        async for page in store.history(job_id, position=then.position):
            yield page
            version = page[-1].version
        if under_way := await _under_way(store, job_id, version, then):
            yield [under_way]
    elif then.time is not None:
        known = [
            _as_known(record, then.time) async for page in store.history(job_id) for record in page
        ]
        happened = in_hindsight(known, then.time)
        for start in range(0, len(happened), AT_ONCE):
            yield happened[start : start + AT_ONCE]


async def _under_way(store: Store, job_id: int, version: int, then: AsOf) -> Record | None:
    """Return what is known of a run that was rolled up, if one was under way at the moment.

    `version` is that of the last event by then.
    """
    if not then.is_past or then.time is None or version == 0:
        return None
    following = await store.next_event(job_id, version)
    if following is None or not reaches_back(following, then.position, then.time):
        return None
    return known_within(following, then.time)


def _as_known(record: Record, time: datetime) -> Record:
    """Return the event, or of a run that was rolled up and ended later, what is known of then."""
    lasted = record.recorded_at > time and reaches_back(record, 0, time)
    return known_within(record, time) if lasted else record
