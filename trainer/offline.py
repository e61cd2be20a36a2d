"""The environment that keeps the libraries on this machine and inside the work folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Beyond this, more threads slow the small operators of a detector down.
MOST_THREADS = 16


def offline_environment(work: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set before the heavy libraries are imported."""
    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
    return {
        "YOLO_CONFIG_DIR": str(work / "settings"),
        "YOLO_OFFLINE": "1",  # no pip look-ups, no analytics
        "YOLO_AUTOINSTALL": "0",
        "ULTRALYTICS_SAFE_LOAD": "1",  # a checkpoint may hold known classes, and no code
        "MPLCONFIGDIR": str(work / "settings"),
        "MPLBACKEND": "Agg",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # Whether and when to ask a tracking server again is for `trainer.tracking` to say.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": environment.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": environment.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
        # Ultralytics would take one thread; on a machine without a GPU that is half the speed.
        "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS") or str(threads),
    }
