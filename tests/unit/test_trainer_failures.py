from __future__ import annotations

import errno
from pathlib import Path

import pytest

from trainer.errors import ParamsInvalidError, TrainerError
from trainer.failures import (
    HIDDEN,
    LONGEST_LINE,
    MOST_EVIDENCE,
    code_of,
    evidence,
    explain,
    newest_lines,
    redact,
    secrets_in,
)
from trainer.outcomes import Failed, Left, Succeeded, done_body, failed

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJqb2JfaWQiOjd9.c2lnbmF0dXJlLW9mLWl0"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "oom", True),
        (MemoryError(), "oom", True),
        (RuntimeError("DataLoader worker (pid 9) is killed by signal: Killed."), "oom", True),
        (
            RuntimeError("DataLoader worker (pid 9) is killed by signal: Segmentation fault."),
            "error",
            True,
        ),
        (RuntimeError("Unexpected bus error encountered in worker."), "oom", True),
        (
            RuntimeError("unable to write to file </torch_1_2>: No space left on device"),
            "oom",
            True,
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full", True),
        (RuntimeError("Training failed: NaN persisted for 4 epochs"), "nan_loss", False),
        (RuntimeError("Dataset 'data.yaml' error ❌ images not found"), "dataset_invalid", False),
        (FileNotFoundError("No images found in /x"), "dataset_invalid", False),
        (NotImplementedError("no such head"), "params_invalid", False),
        (ValueError("final batch=1 gives BatchNorm a single value"), "params_invalid", False),
        (ImportError("no torch"), "not_installed", False),
        (RuntimeError("whatever"), "error", True),
    ],
)
def test_an_exception_has_a_stable_code_that_says_whether_to_try_again(
    error: Exception, code: str, retryable: bool
) -> None:
    ended = failed(error)

    assert (ended.code, ended.retryable) == (code, retryable)
    assert code_of(error) == code


def test_a_full_disk_is_known_however_deep_it_lies() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        Path("/dev/full").write_text("x")
    error = RuntimeError("Dataset 'data.yaml' error")
    error.__cause__ = full.value

    assert code_of(error) == "disk_full"
    assert isinstance(explain(error), TrainerError)


def test_an_error_of_our_own_keeps_its_words() -> None:
    error = ParamsInvalidError("The parameter x cannot be set.")

    assert explain(error) is error
    assert failed(error).message == "The parameter x cannot be set."


@pytest.mark.parametrize(
    "secret",
    [
        "the-callback-token",
        f"Authorization: Bearer {JWT}",
        "Bearer abcdefgh12345678",
        JWT,
        "AKIAIOSFODNN7EXAMPLE",
        "https://user:hunter22@storage/x",
        "https://s3/x?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=0a1b2c3d",
    ],
)
def test_no_secret_gets_into_the_evidence(secret: str) -> None:
    told = evidence(RuntimeError(f"refused: {secret} end"), ["the-callback-token"])

    text = "\n".join(told["lines"])
    assert HIDDEN in text
    assert text.endswith(" end")
    for part in ("the-callback-token", JWT, "abcdefgh12345678", "AKIA", "hunter22", "0a1b2c3d"):
        assert part not in text


def test_the_evidence_shows_the_way_to_the_error() -> None:
    with pytest.raises(ValueError, match="invalid literal") as wrong:
        int("no number")
    told = evidence(wrong.value, [])

    assert (told["code"], told["exception"]) == ("error", "ValueError")
    assert told["lines"][0] == "Traceback (most recent call last):"
    assert told["lines"][-1].startswith("ValueError: invalid literal")


def test_long_evidence_keeps_its_end_and_is_never_too_large() -> None:
    told = evidence(RuntimeError("\n".join("ü" * 2000 for _ in range(50))), [])

    assert told["lines"][0] == "…"
    assert max(map(len, told["lines"])) <= LONGEST_LINE
    assert sum(len(line.encode()) + 1 for line in told["lines"]) <= MOST_EVIDENCE + 4
    assert newest_lines(["a", "b", "c"], 4) == ["…", "b", "c"]


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    environment = {
        "CALLBACK_TOKEN": "token-of-the-job",
        "R2_SECRET_ACCESS_KEY": "secret-access-key-of-r2",
        "R2_ACCESS_KEY_ID": "id-of-the-key",
        "SHORT_TOKEN": "x",
        "EPOCHS": "1000000000",
    }

    found = secrets_in(environment)

    assert found == ["secret-access-key-of-r2", "token-of-the-job", "id-of-the-key"]
    assert redact("token-of-the-job x 1000000000", found) == f"{HIDDEN} x 1000000000"


def test_the_last_word_says_how_it_ended() -> None:
    def said(ended: Succeeded | Failed | Left, told: str = "terminated") -> dict[str, object]:
        return done_body(ended, "run-1", told=told, secrets=["top-secret"])

    best = [{"name": "best.pt"}]
    assert said(Succeeded({"mAP50": 0.5}, best))["status"] == "succeeded"
    assert said(Failed("error", "top-secret is wrong", retryable=True))["error"] == {
        "code": "error",
        "message": f"{HIDDEN} is wrong",
        "retryable": True,
    }
    left = said(Left(best))
    assert (left["artifacts"], left["mlflow_run_id"]) == (best, "run-1")
    assert left["error"] == {
        "code": "terminated",
        "message": "The training was told to end by a signal.",
        "retryable": True,
    }
    cancelled = said(Left(), "cancelled")
    assert cancelled["error"] == {
        "code": "cancelled",
        "message": "The training was cancelled.",
        "retryable": False,
    }
    assert "artifacts" not in cancelled
