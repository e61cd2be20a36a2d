"""The incident bundle: what a job's zip holds, and how its events follow from each other.

A line of `events.ndjson` is the event's canonical form with its hash as the last member, so that
anybody can check the chain without knowing how we spell numbers: cut the hash off, hash the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from projections.chain import GENESIS, canonical, link
from projections.events import Heartbeats, Record, Source, decode
from projections.policy import Moment
from service.request_schemas import BIGINT, INTEGER, Time, Uuid

FORMAT, FORMAT_VERSION = "epochlog-bundle", 1
MANIFEST, EVENTS = "manifest.json", "events.ndjson"
JOB, TIMELINE, EXPLAIN = "job.json", "timeline.json", "explain.json"
README, VIEWER = "README.txt", "index.html"
EVIDENCE_FOLDER, LOGS_FOLDER = "evidence/", "logs/"


def _not_all_zeros(value: str) -> str:
    if not value.strip("0-"):
        raise ValueError("must not be all zeros")
    return value


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TraceId = Annotated[Uuid, AfterValidator(_not_all_zeros)]
Positive = Annotated[int, Field(ge=1, le=BIGINT)]


class BundleError(Exception):
    """A bundle cannot be used; the message says why, and which part of it is to blame."""


class _Open(BaseModel):
    """Part of a manifest; a later version may say more."""

    model_config = ConfigDict(extra="allow", frozen=True)


class FileEntry(_Open):
    """A file of the bundle as it has to be."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0, le=BIGINT)]


class Head(_Open):
    """The job's last event in the bundle."""

    version: Positive
    position: Positive
    hash: Sha256


class Seen(_Open):
    """What the service that exported knew of its moment, as `projections.policy.Moment`."""

    now: Time
    listening_since: Time | None
    unreachable: bool
    reachable_at: Time | None

    def moment(self) -> Moment:
        """Return the moment at which the bundle's job stands."""
        return Moment(
            now=self.now,
            listening_since=self.listening_since,
            unreachable=self.unreachable,
            reachable_at=self.reachable_at,
        )


class Manifest(_Open):
    """What the bundle says of itself, and the hash of every other file in it."""

    format: Literal["epochlog-bundle"]
    format_version: int
    product_version: str
    log_id: Uuid
    job_id: Positive
    exported_at: Time
    head: Head
    moment: Seen
    possible_secrets: list[Positive] = []
    """The positions of events that seem to hold a secret: the chain covers them as they are."""
    redacted: dict[str, int] = {}
    """How often something that looked like a secret was taken out of a file of `logs/`."""
    files: dict[str, FileEntry]


class _Line(BaseModel):
    """A line of `events.ndjson`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    position: Positive
    job_id: Positive
    version: Positive
    attempt: Annotated[int, Field(ge=1, le=INTEGER)]
    event_id: Uuid
    type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,62}$")]
    source: Literal["api", "trainer", "launcher", "watcher", "supervisor", "operator"]
    trace_id: TraceId
    seq: Positive | None
    occurred_at: Time
    recorded_at: Time
    rule: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,62}$")] | None
    data: dict[str, Any]
    hash: Sha256


def line_of(record: Record) -> bytes:
    """Return an event's line, with its end."""
    return canonical(record)[:-1] + b',"hash":"' + record.hash.encode() + b'"}\n'


def record_in(line: bytes) -> Record:
    """Return the event that a line holds; ValueError where it holds none."""
    said = _Line.model_validate(orjson.loads(line))
    values = {name: value for name, value in said if name not in {"type", "data", "source"}}
    try:
        event = decode(said.type, said.data)
    except TypeError as error:
        raise ValueError(f"a {said.type} says more than this: {error}") from error
    return Record(**values, source=Source(said.source), event=event, stored=said.data)


@dataclass(slots=True)
class Chain:
    """Follows one job's events from the first, and refuses what does not follow."""

    hash: str = GENESIS
    last: Record | None = None

    def follow(self, line: bytes) -> Record:
        """Return the next line's event, or raise BundleError."""
        number = self.last.version + 1 if self.last else 1
        try:
            record = record_in(line)
        except (ValidationError, ValueError) as error:
            told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise _broken(number, f"is not an event: {told}") from error
        if _first_version(record) != number:
            raise _broken(number, f"is missing: version {record.version} stands in its place")
        if self.last is not None and not _follows(self.last, record):
            raise _broken(number, "does not belong behind the event before it")
        # A roll-up stands for heartbeats, and its hash is that of the last of them.
        if not isinstance(record.event, Heartbeats) and link(record, self.hash) != record.hash:
            raise _broken(number, "does not have the hash that it should")
        self.hash, self.last = record.hash, record
        return record


def _first_version(record: Record) -> int:
    """Return the first version that the event stands for."""
    match record.event:
        case Heartbeats(count=count) as event if count == record.version - event.from_version + 1:
            return event.from_version
        case _:
            return record.version


def _follows(before: Record, record: Record) -> bool:
    same = (before.job_id, before.trace_id) == (record.job_id, record.trace_id)
    later = before.position < record.position and before.recorded_at <= record.recorded_at
    return same and later


def _broken(version: int, why: str) -> BundleError:
    return BundleError(f"The bundle is damaged: event {version} in {EVENTS} {why}.")
