"""What a trainer needs to know when it is started: its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

import orjson

from projections.job import JobState
from projections.resume import Resume
from service.settings import Settings, StorageAccess
from service.template_rules import STORAGE_KEYS

PASSED_ON = (
    "LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)
"""The operator's own variables that are handed on as they are; OTEL_SERVICE_NAME is ours alone."""


def trainer_environment(
    state: JobState,
    settings: Settings,
    *,
    token: str,
    service_url: str,
    resume: Resume | None = None,
) -> dict[str, str]:
    """Return the trainer's variables for the job's current attempt, secrets included.

    `resume` is what earlier attempts have left behind, where it is known.
    """
    environment = {
        "JOB_ID": str(state.id),
        "ATTEMPT": str(state.attempt),
        "TRACE_ID": state.trace_id,
        "BACKEND_BASE_URL": service_url,
        "CALLBACK_TOKEN": token,
        "STORAGE_TYPE": settings.storage_type.value,
        "STORAGE_ACCESS": settings.storage_access.value,
        "BUCKET": settings.bucket,
        "R2_ENDPOINT": settings.s3_endpoint,
        "DATASET_ID": state.dataset_id,
        "MODEL_NAME": state.model_name,
        "EPOCHS": str(state.epochs),
        "IMGSZ": _text(state.imgsz),
        "BATCH": _text(state.batch),
        "RESUME_FROM": _newest(resume),
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "MLFLOW_RUN_ID": resume.mlflow_run_id if resume else None,
        "HEARTBEAT_SECONDS": f"{settings.heartbeat_seconds:g}",
        "TRAIN_PARAMS": orjson.dumps(state.params).decode() if state.params else None,
        **_passed_on(os.environ, settings.storage_access),
    }
    return {name: value for name, value in environment.items() if value}


def _newest(resume: Resume | None) -> str | None:
    return resume.checkpoints[0].uri if resume and resume.checkpoints else None


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _passed_on(environ: Mapping[str, str], access: StorageAccess) -> dict[str, str]:
    keys = STORAGE_KEYS if access is StorageAccess.KEYS else ()
    return {name: environ[name] for name in (*PASSED_ON, *keys) if name in environ}
