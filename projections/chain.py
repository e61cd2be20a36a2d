"""The hash chain of a job's events: each hash covers its record and the hash before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from projections.events import Record, encode

GENESIS = "0" * 64
"""Stands for the hash before a job's first event."""


def link(record: Record, previous: str) -> str:
    """Return the SHA-256, in hex, of the record in canonical form behind the previous hash."""
    return hashlib.sha256(previous.encode() + b"\n" + canonical(record)).hexdigest()


def canonical(record: Record) -> bytes:
    """Return the one byte form of a record: sorted JSON without spaces, in UTF-8.

    Times are UTC with six decimals. A number that is whole is written without a fraction, because
    PostgreSQL's jsonb keeps the value of a number and not its spelling.
    """
    fields = {
        "position": record.position,
        "job_id": record.job_id,
        "version": record.version,
        "attempt": record.attempt,
        "event_id": record.event_id,
        "type": record.type,
        "source": record.source.value,
        "trace_id": record.trace_id,
        "seq": record.seq,
        "occurred_at": _time(record.occurred_at),
        "recorded_at": _time(record.recorded_at),
        "data": _normal(encode(record.event)),
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _normal(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {str(name): _normal(item) for name, item in value.items()}
        case list() | tuple():
            return [_normal(item) for item in value]
        case _:
            return value
