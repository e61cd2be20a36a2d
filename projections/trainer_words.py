"""What a trainer names itself, in words: the title and the detail that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projections.events import Data
from projections.progress import stretches_in, whole_number


def trainer_title(name: str, data: Data) -> str:
    """Return what happened, in a few words."""
    match name, data:
        case "epoch_end", {"epoch": int(epoch)}:
            return f"Epoch {epoch} complete" + (" again" if data.get("redone") is True else "")
        case "checkpoint_saved", {"epoch": int(epoch)}:
            return f"Checkpoint of epoch {epoch} saved"
        case "checkpoint_damaged", _:
            return "A checkpoint is damaged or gone"
        case "checkpoint_failed", _:
            return "A checkpoint could not be saved"
        case "resume_failed", _:
            return "The trainer could not resume"
        case "phase_started", {"phase": str(phase)}:
            return f"The trainer starts: {phase}"
        case "training_started", {"device": str(device)}:
            return f"Training starts on {device}"
        case "tracking_started", {"mlflow_run_id": str(run_id)}:
            return f"Tracked as MLflow run {run_id}"
        case "mlflow_unavailable", _:
            return "MLflow cannot be reached"
        case "mlflow_recovered", _:
            return "MLflow answers again"
        case "mlflow_refused", _:
            return "MLflow refuses something"
        case "mlflow_run_gone", _:
            return "The run in MLflow is gone"
        case "mlflow_incomplete", _:
            return "MLflow lacks a part of this attempt"
        case "traceback", _:
            return "The traceback of the failure"
        case "done_reduced", _:
            return "The trainer's last word was cut down"
        case "callbacks_dropped", _:
            return _dropped(data)
        case _ if name.startswith("storage_"):
            return f"The storage: {name.removeprefix('storage_').replace('_', ' ')}"
        case _:
            return f"The trainer says: {name}"


def trainer_detail(name: str, data: Data) -> str:
    """Return what else it says, in one line; empty where that is nothing."""
    match name, data:
        case "epoch_end", {"metrics": Mapping() as metrics}:
            return metrics_text(metrics)
        case "checkpoint_saved", {"uri": str(uri)}:
            return uri
        case "training_started", {"resumed_from": str(uri)}:
            return f"from {uri}"
        case "checkpoint_damaged", {"uri": str(uri), "message": str(message)}:
            return f"{uri}: {message}"
        case "traceback", {"exception": str(exception)}:
            return " ".join(exception.split())
        case "mlflow_recovered", {"missed": int(missed)} if missed:
            return f"It was told {missed:,} things that it had missed."
        case "callbacks_dropped", {"detail": str(detail)}:
            return ": ".join(part for part in (data.get("code"), detail) if isinstance(part, str))
        case _, {"message": str(message)}:
            return message
        case _:
            return ""


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """Return metrics as `name value` pairs in one line."""
    shown = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in metrics.items()
    )
    return ", ".join(shown)


def _dropped(data: Data) -> str:
    thinned, status = data.get("why") == "thinned", whole_number(data.get("status"))
    count = whole_number(data.get("count"))
    if count is None:
        count = sum(last - first + 1 for first, last in stretches_in(data.get("seqs")))
    things = ("timed heartbeat" if thinned else "callback") + "s" * (count != 1)
    told = f"The trainer dropped {count:,} {things}"
    if thinned:
        return f"{told}: its outbox was full"
    return f"{told} that the service refused" + (f" (HTTP {status})" if status else "")
