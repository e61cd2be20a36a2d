"""States and records as the API shows them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson

from projections.events import Record, encode
from projections.health import assess
from projections.job import JobState
from projections.policy import Moment, Policy
from projections.timeline import Timeline


def to_json(payload: Any) -> bytes:
    """Return an answer's JSON: dataclasses and times included, times in UTC."""
    return orjson.dumps(payload, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def job_view(state: JobState, moment: Moment, policy: Policy) -> dict[str, Any]:
    """Return a job as `GET /v1/jobs/{id}` shows it."""
    return {
        "id": state.id,
        "status": state.status,
        "reason": state.reason,
        "trace_id": state.trace_id,
        "attempt": state.attempt,
        "retry_count": state.retry_count,
        "max_retries": state.max_retries,
        "interruptions": state.interruptions,
        "dataset_id": state.dataset_id,
        "model_name": state.model_name,
        "epochs": state.epochs,
        "imgsz": state.imgsz,
        "batch": state.batch,
        "params": state.params,
        "labels": state.labels,
        "priority": state.priority,
        "cluster": state.cluster,
        "progress": asdict(state.progress),
        "health": assess(state, moment, policy),
        "mlflow_run_id": state.mlflow_run_id,
        "artifacts": state.artifacts,
        "checkpoint": state.checkpoint,
        "created_at": state.created_at,
        "queued_at": state.queued_at,
        "started_at": state.started_at,
        "completed_at": state.completed_at,
        "cancel_requested": state.cancel is not None,
        "version": state.version,
        "position": state.position,
    }


def event_view(record: Record) -> dict[str, Any]:
    """Return an event as the API shows it."""
    return {
        "position": record.position,
        "job_id": record.job_id,
        "version": record.version,
        "attempt": record.attempt,
        "event_id": record.event_id,
        "type": record.type,
        "source": record.source,
        "trace_id": record.trace_id,
        "seq": record.seq,
        "occurred_at": record.occurred_at,
        "recorded_at": record.recorded_at,
        "data": encode(record.event) if record.stored is None else record.stored,
        "hash": record.hash,
        "rule": record.rule,
    }


def timeline_view(timeline: Timeline, moment: Moment, policy: Policy) -> dict[str, Any]:
    """Return a timeline as the API shows it."""
    return {
        "job": job_view(timeline.state, moment, policy),
        "attempts": timeline.attempts,
        "entries": timeline.entries,
    }
