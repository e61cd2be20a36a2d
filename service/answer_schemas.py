"""The shapes of every answer: the API's schema, against which the tests hold the answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from projections.health import Verdict
from projections.job import JobStatus
from service.request_schemas import Artifact, FreeData


class _Answer(BaseModel):
    """An answer; later versions may add fields, never rename one or change what it means."""

    model_config = ConfigDict(extra="allow")


class ReasonAnswer(_Answer):
    """Why: a stable code and a sentence."""

    code: str
    message: str


class ProgressAnswer(_Answer):
    """How far the training is."""

    epoch: int
    epochs: int
    fraction: float
    metrics: dict[str, float]
    batch: int | None
    batches: int | None


class HealthAnswer(_Answer):
    """Three clocks and what they say together."""

    verdict: Verdict
    alive_at: datetime | None
    advanced_at: datetime | None
    reachable_at: datetime | None


class JobAnswer(_Answer):
    """A job as its events leave it."""

    id: int
    status: JobStatus
    reason: ReasonAnswer
    trace_id: str
    attempt: int
    retry_count: int
    max_retries: int
    interruptions: int
    dataset_id: str
    model_name: str
    epochs: int
    imgsz: int | None
    batch: int | None
    params: FreeData
    labels: dict[str, str]
    priority: int
    cluster: str | None
    progress: ProgressAnswer
    health: HealthAnswer
    mlflow_run_id: str | None
    artifacts: list[Artifact]
    checkpoint: str | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    cancel_requested: bool
    version: int
    position: int


class NewJobAnswer(JobAnswer):
    """A job that was made; with executor `external` also the token for who launches it."""

    callback_token: str | None = None


class JobsAnswer(_Answer):
    """Jobs, newest first, and where the next page begins."""

    jobs: list[JobAnswer]
    next_cursor: str | None


class MomentAnswer(_Answer):
    """A moment: the last position that was reached, and the time."""

    position: int
    time: datetime | None


class CountsAnswer(_Answer):
    """How many jobs had each status."""

    pending: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class BriefHealthAnswer(_Answer):
    """The verdict alone."""

    verdict: Verdict


class FleetHealthAnswer(BriefHealthAnswer):
    """The verdict and the last callback of the attempt."""

    alive_at: datetime | None


class FleetJobAnswer(_Answer):
    """A job at a glance; `since` is when it came to stand like this."""

    id: int
    status: JobStatus
    reason: ReasonAnswer
    trace_id: str
    attempt: int
    dataset_id: str
    model_name: str
    labels: dict[str, str]
    progress: ProgressAnswer
    health: FleetHealthAnswer
    created_at: datetime
    since: datetime | None
    version: int
    position: int


class FleetAnswer(_Answer):
    """The whole fleet at a moment: counts, and every job that was not final, newest first."""

    as_of: MomentAnswer
    counts: CountsAnswer
    jobs: list[FleetJobAnswer]


class StandingAnswer(_Answer):
    """How a job stood at a moment, and since when."""

    status: JobStatus
    reason: ReasonAnswer
    attempt: int
    health: BriefHealthAnswer
    since: datetime


class ChangeAnswer(_Answer):
    """A job that stood otherwise at two moments; `from` is null where it did not exist yet."""

    id: int
    from_: Annotated[StandingAnswer | None, Field(alias="from")]
    to: StandingAnswer


class FleetDiffAnswer(_Answer):
    """What changed between two moments, by the jobs' ids."""

    from_: Annotated[MomentAnswer, Field(alias="from")]
    to: MomentAnswer
    jobs: list[ChangeAnswer]


class EventAnswer(_Answer):
    """An event as it lies in the log."""

    position: int
    job_id: int
    version: int
    attempt: int
    event_id: str
    type: str
    source: str
    trace_id: str
    seq: int | None
    occurred_at: datetime
    recorded_at: datetime
    data: FreeData
    hash: str
    rule: str | None


class EventsAnswer(_Answer):
    """Events in version order, and the version after which the next page begins."""

    events: list[EventAnswer]
    next_after: int


class StreamMessage(_Answer):
    """A message of a stream: consecutive events of one job, and the job no earlier than these."""

    events: list[EventAnswer]
    job: JobAnswer


class CallbackTokenAnswer(_Answer):
    """A token with which the current attempt may call back."""

    callback_token: str
    attempt: int
    expires_at: datetime


class BestAnswer(_Answer):
    """The best weights up to a checkpoint."""

    uri: str
    sha256: str | None
    bytes: int | None
    epoch: int | None


class OfferAnswer(_Answer):
    """A checkpoint from which an attempt may go on."""

    uri: str
    sha256: str | None
    bytes: int | None
    epoch: int | None
    attempt: int
    position: int
    partial: bool
    best: BestAnswer | None


class ResumeAnswer(_Answer):
    """What the job's attempts have left behind for the next one."""

    attempt: int
    checkpoints: list[OfferAnswer]
    epochs_reported: int
    mlflow_run_id: str | None


class SignedAnswer(_Answer):
    """An address of the storage that is good for a while, and how to call it."""

    method: Literal["GET"]
    url: str
    headers: dict[str, str]
    expires_at: datetime


class SignedPartAnswer(_Answer):
    """Where a part of a large object goes, by PUT."""

    number: int
    url: str


class SignedUploadAnswer(_Answer):
    """Where an object goes: to one address or, if it is large, in parts to be completed."""

    method: Literal["PUT"] | None = None
    url: str | None = None
    headers: dict[str, str] | None = None
    upload_id: str | None = None
    part_bytes: int | None = None
    parts: list[SignedPartAnswer] | None = None
    expires_at: datetime


class ObjectAnswer(_Answer):
    """Which object it was about."""

    key: str


class CallbackResult(_Answer):
    """Where a callback stands in the log and whether it counted."""

    position: int
    version: int
    status: JobStatus
    applied: bool
    rule: str | None = None
    duplicate: bool


class CallbackAnswer(CallbackResult):
    """What became of a callback, and what the trainer is to do."""

    directive: Literal["continue", "cancel", "stop"]
    token: str | None = None


class CallbacksAnswer(_Answer):
    """What became of several callbacks, and what the trainer is to do."""

    results: list[CallbackResult]
    directive: Literal["continue", "cancel", "stop"]
    token: str | None = None


class PhaseAnswer(_Answer):
    """A stretch of an attempt; `to` is null while it goes on."""

    phase: str
    from_: Annotated[datetime, Field(alias="from")]
    to: datetime | None
    seconds: float
    reason: str


class EpochAnswer(_Answer):
    """An epoch that was completed."""

    epoch: int
    at: datetime
    seconds: float | None
    metrics: dict[str, Any]


class CheckpointAnswer(_Answer):
    """A checkpoint that was saved."""

    epoch: int | None
    uri: str | None
    at: datetime


class GapAnswer(_Answer):
    """Callbacks that are missing between two numbers of the trainer's count."""

    after_seq: int
    before_seq: int


class AttemptAnswer(_Answer):
    """One launch of the trainer."""

    attempt: int
    phases: list[PhaseAnswer]
    epochs: list[EpochAnswer]
    lost_epochs: list[EpochAnswer] = Field(default_factory=list)
    checkpoints: list[CheckpointAnswer]
    gaps: list[GapAnswer]
    outcome: Literal["succeeded", "failed", "cancelled"] | None
    reason: ReasonAnswer | None


class EntryAnswer(_Answer):
    """One line of the story."""

    at: datetime
    position: int
    kind: str
    title: str
    detail: str


class TimelineAnswer(_Answer):
    """A job's attempts and its story."""

    job: JobAnswer
    attempts: list[AttemptAnswer]
    entries: list[EntryAnswer]


class BecauseAnswer(_Answer):
    """An event that decided the status."""

    position: int
    type: str
    why: str


class IgnoredAnswer(_Answer):
    """An event that did not count, and the rule that set it aside."""

    position: int
    type: str
    rule: str
    why: str


class ConflictAnswer(_Answer):
    """Facts that contradict each other, and which of them holds."""

    positions: list[int]
    verdict: str
    why: str


class ExhibitAnswer(_Answer):
    """An event that decided nothing and explains something, with the end of its traceback."""

    position: int
    type: str
    why: str
    lines: list[str]


class ExplainAnswer(_Answer):
    """Why the status is what it is."""

    status: JobStatus
    reason: ReasonAnswer
    rule: str
    rule_text: str
    because: list[BecauseAnswer]
    ignored: list[IgnoredAnswer]
    conflicts: list[ConflictAnswer]
    health: HealthAnswer
    evidence: list[ExhibitAnswer] = Field(default_factory=list)


class ApiTokenAnswer(_Answer):
    """A new API token: the only time that it is shown."""

    id: int
    token: str
    name: str
    role: Literal["viewer", "operator", "admin"]
    created_at: datetime


class HealthzAnswer(_Answer):
    """The process answers."""

    status: Literal["ok"]


class ClusterContactAnswer(_Answer):
    """How the service stands with one cluster."""

    heard_seconds_ago: float | None
    problem: str | None


class ReadyzAnswer(_Answer):
    """The log can be read; what else is wrong is told."""

    status: Literal["ok", "degraded"]
    problems: dict[str, str]
    clusters: dict[str, ClusterContactAnswer]
    leads: bool


class FieldErrorAnswer(_Answer):
    """One field that is wrong."""

    field: str
    message: str


class ProblemAnswer(_Answer):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldErrorAnswer] | None = None
