"""The limits by which the rules decide, and the moment at which they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from projections.causes import Cause


class View(StrEnum):
    """Two ways to see a moment of the past; they differ by what was heard of too late."""

    RECORDED = "recorded"  # what the log held by then: what we believed
    OCCURRED = "occurred"  # what had happened by then, whenever it was recorded: what was true


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an attempt may wait for one thing, and the cause of its failure after that."""

    seconds: float
    cause: Cause


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
    image_pull_grace: float = 180.0
    """How long an image may fail to be pulled; registries have bad minutes."""
    config_grace: float = 120.0
    """How long a Secret or ConfigMap may be missing: the callback token's comes after the Job."""
    container_grace: float = 180.0
    """How long the container's runtime may fail to make the container."""
    start_timeout: float = 1800.0
    """How long a pod that has its node may take to start: large images take their time."""
    ending_grace: float = 120.0
    """How long a pod may take to end beyond the grace that it was given; then it is given up for
    stuck, or for lost with its node."""

    @property
    def waiting_graces(self) -> Mapping[str, Patience]:
        """How long an attempt may wait for each reason that is not its turn in a queue."""
        pull = Patience(seconds=self.image_pull_grace, cause=Cause.IMAGE_PULL_BACKOFF)
        return {
            "image_pull_backoff": pull,
            "invalid_image_name": Patience(seconds=0.0, cause=Cause.INVALID_IMAGE_NAME),
            "config_error": Patience(seconds=self.config_grace, cause=Cause.CONFIG_ERROR),
            "container_error": Patience(seconds=self.container_grace, cause=Cause.CONTAINER_ERROR),
            "container_creating": Patience(seconds=self.start_timeout, cause=Cause.START_TIMEOUT),
        }


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
