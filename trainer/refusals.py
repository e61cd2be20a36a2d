"""Whether what MLflow did not take can be told again: the thing is at fault, or the moment."""

from __future__ import annotations

import os

import requests

from trainer.failures import redact, secrets_in

LONGEST_MESSAGE = 1000
# What MLflow says of one thing that it will never take. All else may be different later.
CODES = frozenset(
    {
        "ALREADY_EXISTS",
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "NOT_FOUND",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }
)
# What the storage behind it says of a file.
STATUSES = frozenset({400, 404, 409, 411, 413, 414, 415, 422})


class UnusableError(Exception):
    """A file that was to be copied is not there, or cannot be made."""


def is_refusal(error: BaseException) -> bool:
    """Whether it would fail the same way later."""
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in STATUSES
    return isinstance(error, UnusableError) or getattr(error, "error_code", None) in CODES


def why(error: BaseException) -> str:
    """Return the error on one line, without anybody's secrets."""
    text = redact(f"{type(error).__name__}: {error}", secrets_in(os.environ))
    return " ".join(text.split())[:LONGEST_MESSAGE]
