"""What a trainer needs to know when it is started: its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

import orjson

from projections.job import JobState
from service.settings import Settings

# Keys for the object store are the operator's own variables; they are handed on as they are.
PASSED_ON = ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")


def trainer_environment(
    state: JobState, settings: Settings, *, token: str, service_url: str
) -> dict[str, str]:
    """Return the trainer's variables for the job's current attempt, secrets included."""
    environment = {
        "JOB_ID": str(state.id),
        "ATTEMPT": str(state.attempt),
        "TRACE_ID": state.trace_id,
        "BACKEND_BASE_URL": service_url,
        "CALLBACK_TOKEN": token,
        "STORAGE_TYPE": settings.storage_type.value,
        "BUCKET": settings.bucket,
        "R2_ENDPOINT": settings.s3_endpoint,
        "DATASET_ID": state.dataset_id,
        "MODEL_NAME": state.model_name,
        "EPOCHS": str(state.epochs),
        "IMGSZ": _text(state.imgsz),
        "BATCH": _text(state.batch),
        "RESUME_FROM": state.checkpoint if state.attempt > 1 else None,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "HEARTBEAT_SECONDS": f"{settings.heartbeat_seconds:g}",
        "TRAIN_PARAMS": orjson.dumps(state.params).decode() if state.params else None,
        **_passed_on(os.environ),
    }
    return {name: value for name, value in environment.items() if value}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in PASSED_ON if name in environ}
