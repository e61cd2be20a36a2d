"""Everything that is known of one job: the state that the folds make and the rules read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from projections.checkpoints import Saved
from projections.events import AttemptFailed, Data, Positions
from projections.progress import Progress
from projections.rules import Rule


class JobStatus(StrEnum):
    """Where a job stands; the last three are final."""

    PENDING = "pending"  # accepted, nothing done yet
    QUEUED = "queued"  # waits for its turn, its process or its pod
    RUNNING = "running"  # the current attempt was seen alive or called back
    SUCCEEDED = "succeeded"  # the current attempt said so
    FAILED = "failed"  # the last attempt failed and there will be no other
    CANCELLED = "cancelled"  # somebody asked for it, and the attempt is over

    @property
    def is_final(self) -> bool:
        """Whether nothing can change it any more."""
        return self is self.SUCCEEDED or self is self.FAILED or self is self.CANCELLED


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the status is what it is: a stable code for programs, a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A cancel that was asked for."""

    at: datetime
    position: int
    reason: str | None = None
    delivered: int | None = None
    """The position at which the trainer was told, if it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The executor was told to end the attempt."""

    at: datetime
    position: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The attempt's pod is being ended."""

    at: datetime
    """When that was first noted, for whatever reason."""
    position: int
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The attempt's process or pod was seen gone."""

    at: datetime
    position: int
    exit_code: int | None = None
    signal: int | None = None
    machine_lost: bool = False
    refused: bool = False
    message: str = ""
    cause: str | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the current attempt's `done` said."""

    position: int
    succeeded: bool
    after_cancel: bool
    """The trainer had been told of a cancel before it said so."""
    error: Data = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JobState:
    """Everything the log says about a job that a rule or a reader needs."""

    # Who it is
    id: int = 0
    trace_id: str = ""
    dataset_id: str = ""
    model_name: str = ""
    epochs: int = 0
    max_retries: int = 3
    imgsz: int | None = None
    batch: int | None = None
    params: Data = field(default_factory=dict)
    labels: Data = field(default_factory=dict)
    priority: int = 0
    cluster: str | None = None
    idempotency_key: str | None = None
    created_at: datetime | None = None

    # Where it stands
    status: JobStatus = JobStatus.PENDING
    reason: Reason = field(default_factory=lambda: Reason("nothing_yet", "Nothing is in the log."))
    rule: Rule = Rule.NOTHING_YET
    decided_by: Positions = ()
    attempt: int = 1
    retry_count: int = 0
    interruptions: int = 0
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    cancel: Cancel | None = None

    # The current attempt
    executor: str | None = None
    place: str | None = None
    uid: str | None = None
    """What the executor's cluster calls the attempt; a name may be given away again."""
    pod: str | None = None
    """The uid of the attempt's pod that was last told of."""
    attempt_queued_at: datetime | None = None
    waiting_since: datetime | None = None
    """Since when it waits for what `reason` says."""
    running_since: datetime | None = None
    retry_delay: float = 0.0
    attempt_progress: Progress = field(default_factory=Progress)
    """What this attempt alone has reported; one that resumes further back advances, too."""
    alive_at: datetime | None = None
    advanced_at: datetime | None = None
    reachable_at: datetime | None = None
    stop: Stop | None = None
    ending: Ending | None = None
    exit: Exit | None = None
    result: Result | None = None
    failure: AttemptFailed | None = None
    failure_at: int = 0
    verdict: str = "not_running"
    releasing: int | None = None
    """An earlier attempt whose process was not seen gone yet; until then no other starts."""
    releasing_place: str | None = None
    releasing_uid: str | None = None

    # What it brought
    progress: Progress = field(default_factory=Progress)
    checkpoint: str | None = None
    """The first of `checkpoints`: where a further attempt goes on."""
    checkpoint_epoch: int | None = None
    checkpoints: tuple[Saved, ...] = ()
    """The newest of all attempts, the furthest first."""
    mlflow_run_id: str | None = None
    artifacts: tuple[Data, ...] = ()

    # Where in the log
    version: int = 0
    position: int = 0
    first_position: int = 0
    """Where the job was created."""
    final_position: int | None = None
    """Where it became final."""

    @property
    def exists(self) -> bool:
        """Whether the job was ever created."""
        return self.version > 0

    def is_another(self, pod: str | None) -> bool:
        """Whether this is a pod of the attempt, and not the one that was last told of."""
        return pod is not None and self.pod not in (None, pod)

    @property
    def may_live(self) -> bool:
        """Whether the current attempt may have a process or pod somewhere."""
        signs = (self.executor, self.alive_at, self.reachable_at)
        return any(sign is not None for sign in signs)

    @property
    def holds_resources(self) -> bool:
        """Whether a process or pod that we started was not seen gone yet."""
        return self.releasing is not None or self.was_started

    @property
    def was_started(self) -> bool:
        """Whether the current attempt was given to an executor and was not seen gone yet."""
        return self.executor is not None and self.exit is None


def changed(state: JobState, **fields: Any) -> JobState:
    """Return the state with some fields changed; every event does this, so it has to be quick.

    A copy of the fields as they are, ten times quicker than `dataclasses.replace`.
    """
    new = object.__new__(JobState)
    new.__dict__.update(state.__dict__, **fields)
    return new


def stands_alike(one: JobState, other: JobState) -> bool:
    """Return whether the fleet's view shows no difference between two states of a job."""
    return (
        one.status is other.status
        and one.attempt == other.attempt
        and one.verdict == other.verdict
        and (one.alive_at is None) == (other.alive_at is None)  # else its health is not known
        and one.reason == other.reason
    )


def counted(counts: Mapping[str, int], before: JobState, after: JobState) -> Mapping[str, int]:
    """Return how many jobs have each status after one of them has changed."""
    if before.exists and before.status is after.status:
        return counts
    moved = dict(counts)
    if before.exists:
        moved[before.status.value] = moved.get(before.status.value, 0) - 1
    moved[after.status.value] = moved.get(after.status.value, 0) + 1
    return moved
