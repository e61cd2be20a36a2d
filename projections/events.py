"""The events a job's log can hold: what was seen, and what was decided because of it.

A stored event has a type, fixed for ever, and data. **Facts** (`heartbeat`, `done`, `exited` …) say
what a producer saw. **Decisions** (`attempt_failed`, `succeeded` …) say what followed by the rules
of `projections.decide`, and carry the positions of the facts they rest on in `because`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal, get_args

Data = Mapping[str, Any]
Positions = tuple[int, ...]


class Source(StrEnum):
    """Who wrote an event."""

    API = "api"  # a caller of the control API
    TRAINER = "trainer"  # the training process, through a callback
    LAUNCHER = "launcher"  # the part that starts attempts
    WATCHER = "watcher"  # the part that looks at processes and pods
    SUPERVISOR = "supervisor"  # the part that decides by rules and clocks
    OPERATOR = "operator"  # a person, through the control API


class FailureClass(StrEnum):
    """What a failed attempt means for the next one."""

    INTERRUPTION = "interruption"  # infrastructure was lost: retried, charged to `interruptions`
    RETRYABLE = "retryable"  # may work next time: retried, charged to `retry_count`
    FATAL = "fatal"  # would fail again: never retried

    @classmethod
    def _missing_(cls, _value: object) -> FailureClass:
        """Read a class that only a newer build knows; what is stored must stay readable."""
        return cls.RETRYABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A request to train was accepted."""

    TYPE: ClassVar = "created"
    dataset_id: str
    model_name: str
    epochs: int
    max_retries: int = 3
    imgsz: int | None = None
    batch: int | None = None
    params: Data = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    cluster: str | None = None
    """The cluster in which the job is to run; None leaves it to the service."""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The attempt waits: for its turn, or (with `executor`) for its process or pod."""

    TYPE: ClassVar = "queued"
    reason: str
    message: str
    executor: str | None = None
    """The executor that is asked to start this attempt; written before it is asked. None while
    the attempt waits for its turn, or for somebody else to start it (`external`)."""
    place: str | None = None
    """Where that executor starts it: a machine's state folder, a cluster. No other can see it."""
    pod: str | None = None
    """The uid of the pod that waits, where there is one; a Job may make another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What was made for the attempt: from now on it is known by its uid, never by name alone."""

    TYPE: ClassVar = "launched"
    uid: str
    handle: str
    """Names it for a person, such as `Job train-7`."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The attempt's process or pod was seen alive."""

    TYPE: ClassVar = "running"
    reason: str
    message: str
    handle: str | None = None
    pod: str | None = None
    """The uid of the pod that runs, where it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A service that had just started found the attempt still alive and took it over."""

    TYPE: ClassVar = "adopted"
    handle: str
    message: str


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class Heartbeat:
    """The trainer says that it lives, and how far it is."""

    TYPE: ClassVar = "heartbeat"
    epoch: int | None = None
    epochs: int | None = None
    progress: float | None = None
    batch: int | None = None
    batches: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    gpu: Data = field(default_factory=dict)
    extra: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """A run of heartbeats, compacted: what they said together, where the last of them stood.

    A fold takes it for the whole run; what they said one by one is in the range's archive.
    """

    TYPE: ClassVar = "heartbeats"
    from_version: int
    """The version of the first of them; the last one's is the record's own."""
    from_position: int
    count: int
    first_at: str
    last_at: str
    min_gap_seconds: float
    max_gap_seconds: float
    """The longest silence between two of them."""
    seqs: tuple[tuple[int, int], ...] = ()
    """The trainer's own count of them: the first and last of each stretch without a hole."""
    advanced_at: str | None = None
    """When the last one came that brought a new epoch or batch, if one did."""
    epoch: int | None = None
    epochs: int | None = None
    progress: float | None = None
    batch: int | None = None
    batches: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    gpu: Data = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class TrainerEvent:
    """Something the trainer names itself, such as `epoch_end` or `checkpoint_saved`."""

    TYPE: ClassVar = "trainer_event"
    type: str
    data: Data = field(default_factory=dict)
    extra: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The trainer's final word on its attempt."""

    TYPE: ClassVar = "done"
    status: Literal["succeeded", "failed"]
    mlflow_run_id: str | None = None
    artifacts: tuple[Data, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: Data | None = None
    extra: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminating:
    """The attempt's pod is being ended, and is not gone yet."""

    TYPE: ClassVar = "terminating"
    reason: str
    message: str
    handle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The attempt's process or pod was seen gone."""

    TYPE: ClassVar = "exited"
    exit_code: int | None = None
    signal: int | None = None
    machine_lost: bool = False
    refused: bool = False
    message: str = ""
    cause: str | None = None
    """What ended it, where the executor knows that: `Cause` names what we tell apart."""
    node: str | None = None
    """The machine it ran on, where that is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Something worth keeping about an attempt that decides nothing by itself."""

    TYPE: ClassVar = "evidence"
    kind: str
    data: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssued:
    """A callback token was handed out; the token itself is never in the log."""

    TYPE: ClassVar = "token_issued"
    jti: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Somebody asked for the job to be cancelled."""

    TYPE: ClassVar = "cancel_requested"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDelivered:
    """The trainer was told of the cancel in the answer to a callback."""

    TYPE: ClassVar = "cancel_delivered"
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """The executor is to end the attempt's process or pod."""

    TYPE: ClassVar = "stop_requested"
    reason: str
    message: str
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged:
    """The verdict on a running attempt's health is another than before."""

    TYPE: ClassVar = "health_changed"
    verdict: str
    previous: str
    alive_at: str | None = None
    advanced_at: str | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The attempt is over and did not succeed."""

    TYPE: ClassVar = "attempt_failed"
    reason: str
    message: str
    failure_class: FailureClass
    exit_code: int | None = None
    signal: int | None = None
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """Another attempt will be made, with everything that this was decided from."""

    TYPE: ClassVar = "retry_scheduled"
    reason: str
    message: str
    failure_class: FailureClass
    next_attempt: int
    retry_count_before: int
    retry_count_after: int
    max_retries: int
    interruptions_before: int
    interruptions_after: int
    max_interruptions: int
    delay_seconds: float
    checkpoint: str | None = None
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The job is done, by the word of its current attempt."""

    TYPE: ClassVar = "succeeded"
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job has failed and will not be tried again."""

    TYPE: ClassVar = "failed"
    reason: str
    message: str
    why: str = ""
    """Why there is no further attempt: the name of the rule."""
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The job was cancelled, and its process or pod is gone."""

    TYPE: ClassVar = "cancelled"
    reason: str
    message: str
    because: Positions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecognised:
    """An event of a type that this build does not know, kept as it is."""

    type: str
    data: Data


Event = (
    Created
    | Queued
    | Launched
    | Running
    | Adopted
    | Heartbeat
    | Heartbeats
    | TrainerEvent
    | Done
    | Terminating
    | Exited
    | Evidence
    | TokenIssued
    | CancelRequested
    | CancelDelivered
    | StopRequested
    | HealthChanged
    | AttemptFailed
    | RetryScheduled
    | Succeeded
    | Failed
    | Cancelled
    | Unrecognised
)

Callback = Heartbeat | TrainerEvent | Done
"""What a trainer can say."""

KINDS: Mapping[str, type[Event]] = {
    kind.TYPE: kind for kind in get_args(Event) if kind is not Unrecognised
}
_FIELDS: Mapping[str, frozenset[str]] = {
    name: frozenset(f.name for f in fields(kind)) - {"extra"} for name, kind in KINDS.items()
}
_EMPTY: tuple[object, ...] = ((), {})
_SCALARS = frozenset({str, int, float, bool})
_OPEN = frozenset({"heartbeat", "trainer_event", "done"})  # what a trainer sends may hold more
_TUPLES = frozenset({"because", "artifacts"})
_REVIVED = _TUPLES | {"failure_class", "seqs"}


@dataclass(slots=True, kw_only=True)  # as Record: made for every callback
class Draft:
    """An event on its way into the log: everything but its place there."""

    event: Event
    source: Source
    attempt: int
    event_id: str | None = None
    seq: int | None = None
    occurred_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Record:
    """An event as the log keeps it: whose, where in the order, and when.

    Nothing changes a record that is in the log; it is not frozen because every callback makes one,
    and a frozen one takes three times as long to make.
    """

    position: int
    job_id: int
    version: int
    attempt: int
    event_id: str
    source: Source
    trace_id: str
    seq: int | None
    occurred_at: datetime
    recorded_at: datetime
    event: Event
    rule: str | None = None
    """The rule that set the event aside when it was recorded; None where it counted."""
    hash: str = ""
    stored: Data | None = field(default=None, compare=False, repr=False)
    """The data as it lies in the log: a newer build's may say more than this one reads."""
    spelled: str | None = field(default=None, init=False, compare=False, repr=False)
    """The data in canonical form, where somebody has spelled it out already."""

    @property
    def type(self) -> str:
        """The stored name of the event's type."""
        return type_of(self.event)


def type_of(event: Event) -> str:
    """Return the name under which the event is stored."""
    return event.type if isinstance(event, Unrecognised) else event.TYPE


def encode(event: Event) -> dict[str, Any]:
    """Return the event's data as stored: JSON values only, absent where they say nothing."""
    if isinstance(event, Unrecognised):
        return dict(event.data)
    data: dict[str, Any] = dict(getattr(event, "extra", ()))
    for name in _FIELDS[event.TYPE]:
        value = getattr(event, name)
        if type(value) in _SCALARS:
            data[name] = value
        elif value is not None and value not in _EMPTY:  # those say nothing
            data[name] = _plain(value)
    return data


def decode(type_name: str, data: Data) -> Event:
    """Return the event behind its stored form.

    An unknown type becomes `Unrecognised`. Unknown fields of a callback are kept in `extra`; a
    control event of a newer build loses only its new fields here, never in the log.
    """
    kind = KINDS.get(type_name)
    if kind is None:
        return Unrecognised(type=type_name, data=dict(data))
    known, names = _FIELDS[type_name], data.keys()
    if names <= known:
        values = dict(data)
    else:
        values = {name: value for name, value in data.items() if name in known}
        if type_name in _OPEN:
            values["extra"] = {name: value for name, value in data.items() if name not in known}
    for name in _REVIVED & names:
        if name in known:
            values[name] = _revived(name, values[name])
    return kind(**values)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return dict(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _revived(name: str, value: Any) -> Any:
    if name == "failure_class":
        return FailureClass(value)
    if name == "seqs":
        return tuple((first, last) for first, last in value)
    return tuple(value) if name in _TUPLES else value
