"""The routes on which trainers call back."""

from __future__ import annotations

import time
from typing import Any

from projections.decide import Report, ReportCallbacks, directive
from projections.events import Done, Heartbeat, TrainerEvent
from service.batch import Outcome, Recorded
from service.request_schemas import (
    AnyCallback,
    CallbacksBody,
    DoneBody,
    EventBody,
    HeartbeatBody,
    NoQuery,
)
from service.routing import Call, Reply

Body = HeartbeatBody | EventBody | DoneBody | CallbacksBody
Reports = tuple[Report, ...]
"""A body that was usual enough to be read in one step: `usual_callbacks`."""


async def heartbeat(call: Call[HeartbeatBody | Reports, NoQuery]) -> Reply:
    """Record that the trainer lives."""
    return await _one(call)


async def event(call: Call[EventBody | Reports, NoQuery]) -> Reply:
    """Record what the trainer names itself."""
    return await _one(call)


async def done(call: Call[DoneBody, NoQuery]) -> Reply:
    """Record the trainer's final word."""
    return await _one(call)


async def callbacks(call: Call[CallbacksBody | Reports, NoQuery]) -> Reply:
    """Record several callbacks in order, all or none."""
    outcome = await _record(call)
    results = [_result(outcome, item) for item in outcome.recorded]
    return Reply(payload={"results": results, **_guidance(call, outcome)})


def reports_of(body: Body | Reports) -> Reports:
    """Return the callbacks of a body as the log takes them."""
    if isinstance(body, tuple):
        return body
    if isinstance(body, CallbacksBody):
        return tuple(_report(item, body) for item in body.callbacks)
    return (_report(body),)


async def _one(call: Call[Any, NoQuery]) -> Reply:
    outcome = await _record(call)
    return Reply(payload={**_result(outcome, outcome.recorded[0]), **_guidance(call, outcome)})


async def _record(call: Call[Any, NoQuery]) -> Outcome:
    claims = call.caller
    command = ReportCallbacks(attempt=claims.attempt, reports=reports_of(call.body))
    return await call.instance.log.handle(claims.job_id, command)


def _result(outcome: Outcome, recorded: Recorded) -> dict[str, Any]:
    result: dict[str, Any] = {
        "position": recorded.position,
        "version": recorded.version,
        "status": outcome.state.status,
        "applied": recorded.rule is None,
        "duplicate": recorded.duplicate,
    }
    if recorded.rule is not None:
        result["rule"] = recorded.rule
    return result


def _guidance(call: Call[Any, NoQuery], outcome: Outcome) -> dict[str, Any]:
    """Tell the trainer what to do next, with a fresh token where its own runs out."""
    claims = call.caller
    told = directive(outcome.state, claims.attempt)
    if told == "stop" or not claims.wants_renewal(time.time()):
        return {"directive": told}
    fresh = call.instance.callback_tokens.issue(claims.job_id, claims.attempt)
    return {"directive": told, "token": fresh.token}


def _report(
    body: HeartbeatBody | EventBody | DoneBody | AnyCallback,
    around: CallbacksBody | None = None,
) -> Report:
    """Return a callback as the log takes it; what it leaves out, the body around it may say."""
    outer = around or body
    return Report(
        event=_event(body),
        event_id=body.event_id,
        seq=body.seq,
        occurred_at=body.occurred_at or outer.occurred_at,
        trace_id=outer.trace_id if body.trace_id is None else body.trace_id,
    )


def _event(body: HeartbeatBody | EventBody | DoneBody) -> Heartbeat | TrainerEvent | Done:
    extra = body.model_extra or {}
    match body:
        case HeartbeatBody():
            return Heartbeat(
                epoch=body.epoch,
                epochs=body.epochs,
                progress=body.progress,
                batch=body.batch,
                batches=body.batches,
                metrics=body.metrics,
                gpu=body.gpu,
                extra=extra,
            )
        case EventBody():
            return TrainerEvent(type=body.type, data=body.data, extra=extra)
        case DoneBody():
            return Done(
                status=body.status,
                mlflow_run_id=body.mlflow_run_id,
                artifacts=tuple(item.model_dump(exclude_none=True) for item in body.artifacts),
                metrics=body.metrics,
                error=body.error.model_dump(exclude_unset=True) if body.error else None,
                extra=extra,
            )
