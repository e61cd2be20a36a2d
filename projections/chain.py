"""The hash chain of a job's events: each hash covers its record and the hash before it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from projections.events import Data, Event, Record, encode, type_of

GENESIS = "0" * 64
"""Stands for the hash before a job's first event."""

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_AS_THEY_ARE = frozenset({str, bool, type(None)})
_WHOLE_FLOAT = re.compile(r"\.0(?!\d)")
_LONG_INTEGER = re.compile(r"[0-9]{19}")
_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


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
    data = spelled(record)
    rule = "null" if record.rule is None else f'"{record.rule}"'
    seq = "null" if record.seq is None else record.seq
    return (  # only the data can hold what JSON has to escape
        f'{{"attempt":{record.attempt},"data":{data}'
        f',"event_id":"{record.event_id}","job_id":{record.job_id}'
        f',"occurred_at":"{_time(record.occurred_at)}","position":{record.position}'
        f',"recorded_at":"{_time_of_many(record.recorded_at)}","rule":{rule},"seq":{seq}'
        f',"source":"{record.source.value}","trace_id":"{record.trace_id}"'
        f',"type":"{record.type}","version":{record.version}}}'
    ).encode()


def spelled(record: Record) -> str:
    """Return the record's data in canonical form."""
    if record.spelled is None:
        record.spelled = _spelled(encode(record.event) if record.stored is None else record.stored)
    return record.spelled


def spelling(event: Event) -> bytes:
    """Return the one byte form of what an event says: its type and its data."""
    return f'{{"data":{_spelled(encode(event))},"type":"{type_of(event)}"}}'.encode()


def _spelled(data: Data) -> str:
    text = _text(data)
    return _text(_normal(data)) if _may_be_spelled_otherwise(text) else text


def _may_be_spelled_otherwise(text: str) -> bool:
    """Return whether it looks as if a number is whole or longer than 64 bits: nearly none is."""
    return (
        _WHOLE_FLOAT.search(text) is not None
        or "e+" in text
        or _LONG_INTEGER.search(text) is not None
    )


def _as_float(value: int) -> float | str:
    """Return a number as readers know it that hold no longer integers than 64 bits."""
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _time(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    if moment.microsecond:
        return moment.isoformat()[:-6] + "Z"
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


_time_of_many = lru_cache(maxsize=16)(_time)
"""The same for the many records of one batch."""


def _normal(value: Any) -> Any:
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is int:
        return value if _SMALLEST <= value <= _LARGEST else _normal(_as_float(value))
    if kind is float:  # int(1e23) would not be the 10**23 that jsonb keeps
        return int(Decimal(repr(value))) if value.is_integer() else value
    if kind is dict or isinstance(value, Mapping):
        return {
            str(name): item if type(item) in _AS_THEY_ARE else _normal(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    return value
