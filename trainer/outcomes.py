"""How an attempt can end, and what `done` says of each end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

from trainer.errors import TrainerError
from trainer.failures import brief, explain, own_code, redact

LONGEST_MESSAGE = 2000


# What each code of `Stop` says; nobody wants a cancelled training to be tried again.
LEFT: dict[str, dict[str, Any]] = {
    "cancelled": {"message": "The training was cancelled.", "retryable": False},
    "terminated": {"message": "The training was told to end by a signal.", "retryable": True},
}


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The training went through."""

    metrics: dict[str, float]
    artifacts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong."""

    code: str
    message: str
    retryable: bool
    error: BaseException | None = None
    artifacts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody asked the trainer to end; what could still be stored is named."""

    artifacts: list[dict[str, Any]] = field(default_factory=list)


Outcome: TypeAlias = Succeeded | Failed | Left


def failed(error: Exception, explain: Callable[[Exception], Exception] = explain) -> Failed:
    """Return what an exception means for the job; `explain` knows whose words it may be in."""
    known = explain(error)
    if isinstance(known, TrainerError):
        return Failed(known.code, str(known), known.retryable, error)
    message = f"{type(error).__name__}: {brief(error)}"
    return Failed(own_code(known), message, not isinstance(error, ImportError), error)


def done_body(
    ended: Outcome, run_id: str | None, *, told: str, secrets: list[str]
) -> dict[str, Any]:
    """Return the last callback's body; `told` is the code of who asked the trainer to end."""
    body: dict[str, Any] = {"mlflow_run_id": run_id} if run_id else {}
    match ended:
        case Succeeded(metrics, artifacts):
            return {"status": "succeeded", **body, "artifacts": artifacts, "metrics": metrics}
        case Failed(code, message, retryable, _, artifacts):
            text = redact(message, secrets)[:LONGEST_MESSAGE]
            error = {"code": code, "message": text, "retryable": retryable}
            return {"status": "failed", **body, **_named(artifacts), "error": error}
        case Left(artifacts):
            error = {"code": told, **LEFT[told]}
            return {"status": "failed", **body, **_named(artifacts), "error": error}
        case _:
            assert_never(ended)


def _named(artifacts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"artifacts": artifacts} if artifacts else {}
