"""Usual callback bodies, straight from their bytes to what the log takes.

Nearly every request is a heartbeat or an event of which each field is one that we know. Such a body
is decoded and checked in one step. Whatever is not plainly right goes the way of all requests,
through `request_schemas`: only that way knows how to name what is wrong, to keep unknown fields and
to be lenient. What is taken here is what that way would take, and means the same.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, Raw, UnsetType

from projections.decide import Report
from projections.events import Heartbeat, TrainerEvent
from service.request_schemas import BIGINT, INTEGER, PLAIN_UUID, parse_time

_MOST_NESTED = 50
"""Lists and objects in free data, beside each other or nested: far from what is too deep."""

_Count = Annotated[int, Meta(ge=0, le=INTEGER)]
_Metrics = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=200)], float], Meta(max_length=1000)
]
_TraceId = Annotated[str, Meta(max_length=64)]


class _UnusualError(ValueError):
    """The body has something that only the long way knows how to treat."""


class _Callback(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    trace_id: _TraceId | None = None
    event_id: Annotated[str, Meta(pattern=PLAIN_UUID)] | None = None
    seq: Annotated[int, Meta(ge=1, le=BIGINT)] | None = None
    occurred_at: str | None = None


class _Heartbeat(_Callback, forbid_unknown_fields=True, gc=False):
    epoch: _Count | None = None
    epochs: _Count | None = None
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    batch: _Count | None = None
    batches: _Count | None = None
    metrics: _Metrics = {}
    gpu: Raw | UnsetType = UNSET


class _Event(_Callback, forbid_unknown_fields=True, gc=False, kw_only=True):
    type: Annotated[str, Meta(min_length=1, max_length=100)]
    data: Raw | UnsetType = UNSET


class _HeartbeatAmongOthers(_Heartbeat, tag_field="kind", tag="heartbeat", gc=False):
    pass


class _EventAmongOthers(_Event, tag_field="kind", tag="event", gc=False):
    pass


_AmongOthers = _HeartbeatAmongOthers | _EventAmongOthers


class _Callbacks(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    callbacks: Annotated[list[_AmongOthers], Meta(min_length=1, max_length=500)]
    trace_id: _TraceId | None = None
    occurred_at: str | None = None


_heartbeat = msgspec.json.Decoder(_Heartbeat).decode
_event = msgspec.json.Decoder(_Event).decode
_callbacks = msgspec.json.Decoder(_Callbacks).decode


def usual_heartbeat(body: bytes) -> tuple[Report, ...] | None:
    """Return the report of a heartbeat's body, or None where it is not a usual one."""
    try:
        return (_report(_heartbeat(_plain(body)), None, None),)
    except ValueError:  # what msgspec, orjson and parse_time raise
        return None


def usual_event(body: bytes) -> tuple[Report, ...] | None:
    """Return the report of an event's body, or None where it is not a usual one."""
    try:
        return (_report(_event(_plain(body)), None, None),)
    except ValueError:
        return None


def usual_callbacks(body: bytes) -> tuple[Report, ...] | None:
    """Return the reports of a body with several callbacks, or None where one is not usual."""
    try:
        told = _callbacks(_plain(body))
        at = None if told.occurred_at is None else parse_time(told.occurred_at)
        return tuple([_report(item, told.trace_id, at) for item in told.callbacks])
    except ValueError:
        return None


def _plain(body: bytes) -> bytes:
    if rb"\u0000" in body:  # PostgreSQL knows no NUL character
        raise _UnusualError
    return body


def _report(told: _Heartbeat | _Event, trace_id: str | None, at: Any) -> Report:
    """Return a callback as the log takes it; what it leaves out, the body around it may say."""
    return Report(
        event=_heard(told) if isinstance(told, _Heartbeat) else _named(told),
        event_id=told.event_id,
        seq=told.seq,
        occurred_at=at if told.occurred_at is None else parse_time(told.occurred_at),
        trace_id=trace_id if told.trace_id is None else told.trace_id,
    )


def _heard(told: _Heartbeat) -> Heartbeat:
    return Heartbeat(
        epoch=told.epoch,
        epochs=told.epochs,
        progress=told.progress,
        batch=told.batch,
        batches=told.batches,
        metrics=told.metrics,
        gpu=_free(told.gpu),
    )


def _named(told: _Event) -> TrainerEvent:
    return TrainerEvent(type=told.type, data=_free(told.data))


def _free(raw: Raw | UnsetType) -> dict[str, Any]:
    """Return free data as every other body's is read."""
    if raw is UNSET:
        return {}
    text = bytes(raw)
    if text.count(b"{") + text.count(b"[") > _MOST_NESTED:
        raise _UnusualError
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise _UnusualError
    return value
