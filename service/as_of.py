"""A moment that was asked for: where the log stood then, and a job as it was."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from projections.events import Record
from projections.hindsight import in_hindsight
from projections.job import JobState
from projections.policy import Moment, View
from projections.rollup import known_within, reaches_back
from projections.status import evolve
from service.errors import FieldError, InvalidRequestError, JobNotFoundError
from service.instance import Instance
from service.request_schemas import BIGINT, AsOfQuery, parse_time
from service.store import Store

AT_ONCE = 500  # events between two looks at who else waits


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
        wanted = FieldError(field, "needs a position or an RFC 3339 time")
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


async def follow(instance: Instance, job_id: int, query: AsOfQuery, replay: Replay) -> Moment:
    """Feed a job's events up to a moment, as the query's view has them; return the moment.

    Raises InvalidRequestError, or JobNotFoundError where there was no such job.
    """
    asked = moment_in(query.as_of) if query.as_of is not None else None
    if query.view is View.OCCURRED and isinstance(asked, int):
        wanted = FieldError("as_of", "needs a time for view=occurred")
        raise InvalidRequestError(
            "view=occurred needs a time as as_of:"
            " a position says when something was recorded, not when it happened.",
            errors=[wanted],
        )
    then = await resolve(instance.store, asked)
    async for some in records_at(instance.store, job_id, then, query.view):
        for record in some:
            replay.add(record)
        await asyncio.sleep(0)  # a long history must not keep the others waiting
    if not replay.state.exists or then.time is None:
        as_asked = f" as of {query.as_of}" if query.as_of else ""
        raise JobNotFoundError(f"There is no job {job_id}{as_asked}.")
    if then.is_past or query.view is View.OCCURRED:
        return Moment(now=then.time, view=query.view)
    return instance.log.senses.moment_of(replay.state, then.time)


async def records_at(
    store: Store, job_id: int, then: AsOf, view: View
) -> AsyncIterator[Iterable[Record]]:
    """Yield a job's events up to a moment, some at a time, in the order of the view."""
    if view is View.RECORDED:
        version = 0
        async for page in store.history(job_id, position=then.position):
            yield page
            version = page[-1].version
        if then.is_past and then.time is not None and version:
            following = await store.next_event(job_id, version)
            if following and reaches_back(following, then.position, then.time):
                yield [known_within(following, then.time)]
    elif then.time is not None:
        known = [
            _as_known(record, then.time) async for page in store.history(job_id) for record in page
        ]
        happened = in_hindsight(known, then.time)
        for start in range(0, len(happened), AT_ONCE):
            yield happened[start : start + AT_ONCE]


def _as_known(record: Record, time: datetime) -> Record:
    """Return the event, or of a run that was rolled up and ended later, what is known of then."""
    lasted = record.recorded_at > time and reaches_back(record, 0, time)
    return known_within(record, time) if lasted else record
