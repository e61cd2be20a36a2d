"""What lies in a cluster and should not: the pure choice of what is an orphan, and what may go.

Nothing may go but what the log says is ours and over: launched by this log at this place, under
this uid, for an attempt that is over. What the log does not know is told of, and left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from projections.job import JobState
from service.executor import Found
from service.store import Snapshot

GRACE_SECONDS = 120.0
"""How long after the end of its attempt a thing may still be there: it is being ended by then."""

NameOf = Callable[[int, int], str]
"""Under which name an attempt of a job is launched."""


class Kind(StrEnum):
    """What kind of orphan it is."""

    UNKNOWN = "unknown"  # it names our log, and our log has not launched it
    OVER = "over"  # its attempt is over in the log, and it lives
    POD = "pod"  # its Job was deleted, and it was left behind


@dataclass(frozen=True, slots=True)
class Launched:
    """What the log says of one attempt's launch."""

    places: frozenset[str] = frozenset()
    """Where it was asked for."""
    uids: frozenset[str] = frozenset()
    """What was seen to be made for it; none where we were cut off before that was noted."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that should not be there."""

    found: Found
    kind: Kind
    message: str
    attempt: int | None = None
    """The attempt of our log for which it says it was made, where there is such a one."""
    may_go: bool = False


def launches(rows: Iterable[tuple[int, str | None, str | None]]) -> dict[int, Launched]:
    """Return what the log says of each attempt, from (attempt, place, uid) of its events."""
    found: dict[int, Launched] = {}
    for attempt, place, uid in rows:
        known = found.get(attempt, Launched())
        places = known.places | ({place} if place else frozenset())
        uids = known.uids | ({uid} if uid else frozenset())
        found[attempt] = Launched(places, uids)
    return found


def is_current(found: Found, state: JobState, name_of: NameOf) -> bool:
    """Return whether this is plainly what the log looks after: no more need be read of it."""
    return (
        not state.status.is_final
        and found.is_job
        and found.trace_id == state.trace_id
        and found.place == state.place
        and found.uid == state.uid
        and found.job_name == name_of(state.id, state.attempt)
    )


def orphan_of(
    found: Found, known: Snapshot | None, launched: Mapping[int, Launched], name_of: NameOf
) -> Orphan | None:
    """Return what is wrong with something that names our log, or the trace of one of our jobs.

    `known` is the job that it names, if the log has it, as it stood after this was found.
    """
    attempt = attempt_of(found, known, name_of)
    if known is None or attempt is None:
        return _unknown(found, "the log has no such attempt") if found.is_job else None
    if not found.lives:
        return None
    if not found.is_job:
        return _left_behind(found, attempt)
    told = launched.get(attempt, Launched())
    if found.place not in told.places:
        return _unknown(found, f"the log never asked for attempt {attempt} there", attempt)
    if told.uids and found.uid not in told.uids:
        return _unknown(found, f"the log has launched another for attempt {attempt}", attempt)
    over_since = _over_since(known.state, attempt)
    if over_since is None or (known.now - over_since).total_seconds() < GRACE_SECONDS:
        return None
    ends = "is being deleted" if found.ending else "is deleted now"
    message = f"Attempt {attempt} is over, and Job {found.name} is still there; it {ends}."
    return Orphan(found, Kind.OVER, message, attempt, may_go=not found.ending)


def attempt_of(found: Found, known: Snapshot | None, name_of: NameOf) -> int | None:
    """Return the attempt that it names, where that is one of the job's."""
    if known is None or found.trace_id != known.state.trace_id:
        return None
    numbers = range(1, known.state.attempt + 1)
    named = (one for one in numbers if name_of(known.state.id, one) == found.job_name)
    return next(named, None)


def is_over(state: JobState, attempt: int) -> bool:
    """Return whether nothing more is to come of an attempt."""
    return state.status.is_final or attempt < state.attempt


def _over_since(state: JobState, attempt: int) -> datetime | None:
    if attempt < state.attempt:
        return state.attempt_queued_at
    return state.completed_at if state.status.is_final else None


def _unknown(found: Found, why: str, attempt: int | None = None) -> Orphan:
    message = f"Job {found.name} (uid {found.uid}) names this log, but {why}; it is left alone."
    return Orphan(found, Kind.UNKNOWN, message, attempt)


def _left_behind(found: Found, attempt: int) -> Orphan | None:
    if found.ending:  # it will go
        return None
    message = f"Pod {found.name} runs on though its Job {found.job_name} was deleted."
    return Orphan(found, Kind.POD, message, attempt)
