"""The limits by which the rules decide, and the moment at which they do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class View(StrEnum):
    """Two ways to see a moment of the past; they differ by what was heard of too late."""

    RECORDED = "recorded"  # what the log held by then: what we believed
    OCCURRED = "occurred"  # what had happened by then, whenever it was recorded: what was true


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits, in seconds unless the name says otherwise."""

    heartbeat_timeout: float = 300.0
    """Without a callback for this long the verdict is `silent`; twice as long ends the attempt."""
    stall_timeout: float = 1800.0
    """Without a new epoch or batch for this long the verdict is `stalled`."""
    queue_timeout: float = 0.0
    """A job that waits longer than this fails; 0 means that it may wait for ever."""
    done_grace: float = 120.0
    """How long an exit 0 waits for the `done` that should have come before it."""
    exit_settle: float = 2.0
    """How long any other exit waits for a `done` that was under way when the process ended."""
    retry_backoff: float = 30.0
    """The wait before the first retry; doubled for each further one."""
    retry_backoff_cap: float = 600.0
    cancel_grace: float = 30.0
    """How long the trainer has to end by itself before the executor ends it."""
    stop_grace: float = 30.0
    """How long a stop may take before it is forced, and again before it is given up."""
    max_interruptions: int = 10
    """How often an attempt may be lost with its infrastructure and be made again."""


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class Moment:
    """Now, and what is known of our own ability to see."""

    now: datetime
    """The database's clock."""
    listening_since: datetime | None = None
    """Since when callbacks could reach us; silence before it proves nothing."""
    unreachable: bool = False
    """The executor cannot be asked at present; its silence proves nothing either."""
    reachable_at: datetime | None = None
    """When the process or pod was last seen by whoever asks; the log notes only the first time."""
    view: View | None = None
    """How a moment of the past is seen; None where it is now, and our own senses tell."""
