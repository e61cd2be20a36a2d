from __future__ import annotations

from typing import Any

import pytest

from trainer.errors import NanLossError
from trainer.outcomes import Failed
from trainer.run import _outcome_of


class Attempt:
    """An attempt that ends in an error at once."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def do(self) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ImportError("no torch"), "not_installed", False),
        (NanLossError(), "nan_loss", False),
        (RuntimeError("broken"), "error", True),
        (SystemExit("a library gave up"), "error", True),
    ],
)
def test_an_error_becomes_a_code_that_says_whether_to_try_again(
    error: BaseException, code: str, retryable: bool
) -> None:
    attempt: Any = Attempt(error)

    ended = _outcome_of(attempt)

    assert isinstance(ended, Failed)
    assert (ended.code, ended.retryable) == (code, retryable)
