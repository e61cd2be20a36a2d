"""The shapes of every request: they check what comes in, and describe it in the API's schema."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from projections.job import JobStatus
from projections.policy import View
from service.settings import KUBE_NAME
from service.storage_keys import LARGEST, MOST_PARTS

INTEGER, BIGINT = 2**31 - 1, 2**63 - 1
MAX_PARAMS = 32 * 1024  # they travel in every state of the job, and in a variable of its trainer
# asyncpg takes the very first and the very last datetime for PostgreSQL's infinities.
EARLIEST, LATEST = datetime(1000, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

NAME, PATH = r"^[A-Za-z0-9][A-Za-z0-9._-]*$", r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"
HASH, ANY_HASH = r"^[0-9a-f]{64}$", r"^[0-9a-fA-F]{64}$"
PATTERN_WORDS = {
    NAME: "needs letters, digits, '.', '_' and '-', the first a letter or a digit",
    PATH: "needs letters, digits, '.', '_', '-' and '/', the first a letter or a digit",
    KUBE_NAME: "needs 1 to 63 small letters, digits and '-', no '-' at either end",
    HASH: "needs the 64 hexadecimal digits of a SHA-256, in small letters",
    ANY_HASH: "needs the 64 hexadecimal digits of a SHA-256",
}

PLAIN_UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"
_is_plain_uuid = re.compile(PLAIN_UUID).match


def parse_time(value: object) -> datetime:
    """Return the moment that an RFC 3339 string names, in UTC; ValueError where it names none."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("needs an RFC 3339 time such as 2026-11-23T01:02:03.456Z")
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("needs an RFC 3339 time that exists") from None
    if not EARLIEST <= moment < LATEST:
        raise ValueError("needs an RFC 3339 time of the years 1000 to 9999")
    return moment


def _uuid(value: str) -> str:
    if _is_plain_uuid(value):
        return value
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError("needs a UUID") from None


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(value)) > MAX_PARAMS:
        raise ValueError(f"must not be larger than {MAX_PARAMS // 1024} KiB as JSON")
    return value


def _path_without_escape(value: str) -> str:
    if any(part in {"", ".", ".."} for part in value.split("/")):
        raise ValueError("must not have an empty, '.' or '..' part between slashes")
    return value


Time = Annotated[
    datetime, BeforeValidator(parse_time), WithJsonSchema({"type": "string", "format": "date-time"})
]
Uuid = Annotated[str, AfterValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=128)]
ModelName = Annotated[
    str,
    StringConstraints(pattern=PATH, max_length=200),
    AfterValidator(_path_without_escape),
]
ClusterName = Annotated[str, StringConstraints(pattern=KUBE_NAME)]
LabelKey = Annotated[str, StringConstraints(pattern=PATH, max_length=63)]
LabelValue = Annotated[str, StringConstraints(max_length=200)]
Metrics = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=200)], float],
    Field(max_length=1000),
]
Count = Annotated[int, Field(ge=0, le=INTEGER)]
Seq = Annotated[int, Field(ge=1, le=BIGINT)]
FreeData = dict[str, Any]


class _Strict(BaseModel):
    """A request that must say what it means: no other type is taken for the right one."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


ObjectKey = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
UploadId = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class NewJob(_Strict):
    """What to train, on what, and how often to try."""

    dataset_id: Name
    model_name: ModelName
    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    imgsz: Annotated[int, Field(ge=32, le=8192)] | None = None
    batch: Annotated[int, Field(ge=1, le=65536)] | None = None
    params: Annotated[FreeData, Field(max_length=200), AfterValidator(_small)] = {}
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    cluster: ClusterName | None = None


class CancelRequest(_Strict):
    """Why the job is to be cancelled."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None


class NewApiTokenRequest(_Strict):
    """Which API token to make."""

    role: Literal["viewer", "operator", "admin"]
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "unnamed"


class ObjectName(_Strict):
    """Which object of the storage to read."""

    key: ObjectKey


class ObjectToWrite(_Strict):
    """Which object of the storage to write, and what it is going to be."""

    key: ObjectKey
    bytes: Annotated[int, Field(ge=0, le=LARGEST)]
    sha256: Annotated[str, StringConstraints(pattern=HASH)]
    upload_id: UploadId | None = None


class UploadedPart(_Strict):
    """A part that arrived, and what the store called it."""

    number: Annotated[int, Field(ge=1, le=MOST_PARTS)]
    etag: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CompleteUpload(_Strict):
    """The parts of which an object is to be put together, in their order."""

    key: ObjectKey
    upload_id: UploadId
    parts: Annotated[list[UploadedPart], Field(min_length=1, max_length=MOST_PARTS)]


class AbortUpload(_Strict):
    """Which object's parts are to be forgotten."""

    key: ObjectKey
    upload_id: UploadId


class _Callback(BaseModel):
    """What every callback may carry; fields that we do not know are kept in the event's data."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    trace_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    event_id: Uuid | None = None
    seq: Seq | None = None
    occurred_at: Time | None = None


class HeartbeatBody(_Callback):
    """The trainer lives, and how far it is."""

    epoch: Count | None = None
    epochs: Count | None = None
    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    batch: Count | None = None
    batches: Count | None = None
    metrics: Metrics = {}
    gpu: FreeData = {}


class EventBody(_Callback):
    """Something that the trainer names itself."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    data: FreeData = {}


class Artifact(BaseModel):
    """A file that the training made."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    uri: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    sha256: Annotated[str, StringConstraints(pattern=ANY_HASH)] | None = None
    bytes: Annotated[int, Field(ge=0, le=BIGINT)] | None = None


class TrainingError(BaseModel):
    """Why the training failed, and whether another attempt makes sense."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    code: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    message: Annotated[str, StringConstraints(max_length=10_000)] = ""
    retryable: bool = True


class DoneBody(_Callback):
    """The trainer's final word."""

    status: Literal["succeeded", "failed"]
    mlflow_run_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    artifacts: Annotated[list[Artifact], Field(max_length=1000)] = []
    metrics: Metrics = {}
    error: TrainingError | None = None


class HeartbeatCallback(HeartbeatBody):
    """A heartbeat among other callbacks."""

    kind: Literal["heartbeat"]


class EventCallback(EventBody):
    """An event among other callbacks."""

    kind: Literal["event"]


class DoneCallback(DoneBody):
    """A final word among other callbacks."""

    kind: Literal["done"]


AnyCallback = Annotated[
    HeartbeatCallback | EventCallback | DoneCallback, Field(discriminator="kind")
]


def _belongs_inside(value: object) -> None:
    if value is not None:
        raise ValueError("belongs to each callback, not to all of them")


OfEachCallback = Annotated[None, BeforeValidator(_belongs_inside), WithJsonSchema({"type": "null"})]


class CallbacksBody(BaseModel):
    """Several callbacks, in their order; all are recorded or none."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    callbacks: Annotated[list[AnyCallback], Field(min_length=1, max_length=500)]
    trace_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    occurred_at: Time | None = None
    event_id: OfEachCallback = None
    seq: OfEachCallback = None

    @model_validator(mode="before")
    @classmethod
    def _keep_the_unknown(cls, value: Any) -> Any:
        """Move fields that we do not know into the first callback, whose data keeps them."""
        match value:
            case {"callbacks": [dict() as first, *rest], **others}:
                known = {name: item for name, item in others.items() if name in cls.model_fields}
                unknown = {name: item for name, item in others.items() if name not in known}
                return {**known, "callbacks": [{**unknown, **first}, *rest]}
            case _:
                return value


class _Query(BaseModel):
    """Parameters of an address: text, so numbers are read from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AsOf = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Number = Annotated[int, Field(ge=0, le=BIGINT)]


class NoQuery(_Query):
    """No parameters."""


class AsOfQuery(_Query):
    """A moment of the past: a position of the log or an RFC 3339 time by the database's clock."""

    as_of: AsOf | None = None
    view: View = View.RECORDED


class FleetQuery(_Query):
    """The moment of which to show the fleet."""

    as_of: AsOf | None = None


class FleetDiffQuery(_Query):
    """The moments between which to look for changes; up to now where `to` is absent."""

    from_: Annotated[AsOf, Field(alias="from")]
    to: AsOf | None = None


class JobsQuery(_Query):
    """Which jobs to list."""

    as_of: AsOf | None = None

    status: JobStatus | None = None
    label: list[str] = []
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str, StringConstraints(max_length=64)] | None = None


class EventsQuery(_Query):
    """Which events of a job to list: those after a version."""

    after: Number = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    type: Annotated[str, StringConstraints(max_length=63)] | None = None


class FeedQuery(_Query):
    """Which events of the log to list: those after a position."""

    after: Number = 0
    limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    follow: bool = True


class StreamQuery(_Query):
    """From where on to stream: after a position of the log, or a version of the job."""

    after: Number = 0


class LogsQuery(_Query):
    """Which output to show: by default all of the current attempt."""

    attempt: Annotated[int, Field(ge=1, le=INTEGER)] | None = None
    tail: Annotated[int, Field(ge=0, le=100_000)] | None = None
