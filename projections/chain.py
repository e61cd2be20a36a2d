"""The hash chain of a job's events: each hash covers its record and the hash before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from projections.events import Event, Record, encode, type_of

GENESIS = "0" * 64
"""Stands for the hash before a job's first event."""

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def link(record: Record, previous: str) -> str:
    """Return the SHA-256, in hex, of the record in canonical form behind the previous hash.

    A record that was read from the log is taken with its data as stored: decoding drops what this
    build does not know, and a hash must cover that, too.
    """
    return hashlib.sha256(previous.encode() + b"\n" + canonical(record)).hexdigest()


def canonical(record: Record) -> bytes:
    """Return the one byte form of a record: sorted JSON without spaces, in UTF-8.

    Times are UTC with six decimals. A number that is whole is written without fraction or
    exponent, because PostgreSQL's jsonb keeps the value of a number and not its spelling.
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
        "rule": record.rule,
        "data": _normal(encode(record.event) if record.stored is None else record.stored),
    }
    return _json(fields)


def spelling(event: Event) -> bytes:
    """Return the one byte form of what an event says: its type and its data."""
    return _json({"type": type_of(event), "data": _normal(encode(event))})


def _json(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _as_float(value: int) -> float | str:
    """Return a number as readers know it that hold no longer integers than 64 bits."""
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _normal(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(Decimal(repr(value)))  # int(1e23) would not be the 10**23 that jsonb keeps
        case int() if not _SMALLEST <= value <= _LARGEST:
            return _normal(_as_float(value))
        case Mapping():
            return {str(name): _normal(item) for name, item in value.items()}
        case list() | tuple():
            return [_normal(item) for item in value]
        case _:
            return value
