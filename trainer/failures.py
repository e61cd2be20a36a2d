"""What an exception means: our stable code for it, whether to try again, and its evidence."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainer.dataset_errors import explain_dataset_error
from trainer.errors import (
    DatasetInvalidError,
    DiskFullError,
    NanLossError,
    OutOfMemoryError,
    ParamsInvalidError,
    TrainerError,
)

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
HIDDEN = "[redacted]"
MOST_EVIDENCE = 16 * 1024
LONGEST_LINE = 1000
# Shorter ones are no secrets, and would black out half of a traceback.
SHORTEST_SECRET = 8
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|ACCESS_KEY|CREDENTIAL|API_KEY")
SECRET_LOOKS = re.compile(
    r"(?P<before>\bBearer\s+|\bBasic\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"  # a JWT
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # an AWS access key's id
    r"|(?P<name>X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+"
    r"|(?P<user>://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.IGNORECASE,
)


def explain(error: Exception) -> Exception:
    """Return the error under our stable code, or itself where we know no better."""
    known = explain_machine(error)
    if known is not error or isinstance(error, TrainerError | ImportError):
        return known
    text = str(error)
    if isinstance(error, NotImplementedError):
        return ParamsInvalidError(f"Ultralytics cannot do that: {brief(error)}")
    if "BatchNorm" in text or "more than 1 value per channel" in text:
        return ParamsInvalidError(f"The batch does not fit the data set: {brief(error)}")
    if (words := explain_dataset_error(text)) is not None:
        return DatasetInvalidError(f"Ultralytics refuses the data set: {words}")
    if text.startswith("Dataset '"):
        return DatasetInvalidError(f"Ultralytics refuses the data set: {brief(error)}")
    if "NaN" in text:
        return NanLossError(f"The loss is no longer a finite number: {brief(error)}")
    return error


def explain_machine(error: Exception) -> Exception:
    """Return the error under our code where the machine is at fault, whatever it trains with."""
    if isinstance(error, TrainerError | ImportError):
        return error
    lower = str(error).lower()
    if _is_shared_memory(lower):
        return OutOfMemoryError(f"A data loader ran out of memory: {brief(error)}")
    if any(map(_is_full_disk, causes(error))):
        return DiskFullError(f"A disk is full: {brief(error)}")
    if isinstance(error, MemoryError) or "out of memory" in lower:
        return OutOfMemoryError(f"The device ran out of memory: {brief(error)}")
    return error


@contextmanager
def full_disks_named() -> Iterator[None]:
    """Raise DiskFullError for what fails because a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFullError(f"A disk is full: {brief(error)}") from error


def code_of(error: BaseException) -> str:
    """Return the stable code of an error."""
    return own_code(explain(error) if isinstance(error, Exception) else error)


def own_code(error: BaseException) -> str:
    """Return the stable code of an error that is explained already."""
    if isinstance(error, TrainerError):
        return error.code
    return "not_installed" if isinstance(error, ImportError) else "error"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Return the error and all that led to it."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__cause__, one.__context__]


def brief(error: BaseException) -> str:
    """Return the error's own words on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def evidence(
    error: BaseException, secrets: Iterable[str], code: str | None = None
) -> dict[str, Any]:
    """Return what the event `traceback` says: where it happened, without anybody's secrets."""
    text = redact("".join(traceback.TracebackException.from_exception(error).format()), secrets)
    return {
        "code": code or code_of(error),
        "exception": type(error).__name__,
        "lines": newest_lines([line[:LONGEST_LINE] for line in text.splitlines()]),
    }


def newest_lines(lines: list[str], most: int = MOST_EVIDENCE) -> list[str]:
    """Return the lines, without the oldest where there are too many: the last one says most."""
    kept: list[str] = []
    left = most
    for line in reversed(lines):
        left -= len(line.encode()) + 1
        if left < 0:
            return ["…", *reversed(kept)]
        kept.append(line)
    return kept[::-1]


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Return the values of an environment that nobody is to read, the longest first."""
    found = {value for name, value in environment.items() if SECRET_NAME.search(name)}
    return sorted((one for one in found if len(one) >= SHORTEST_SECRET), key=len, reverse=True)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the secrets, and without what only looks like one."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return SECRET_LOOKS.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    return "".join(part for part in found.groupdict().values() if part) + HIDDEN


def _is_shared_memory(lower: str) -> bool:
    """Whether the kernel killed a data loader's worker, or it had too little /dev/shm."""
    if (
        "killed by signal: killed" in lower
        or "bus error" in lower
        or "insufficient shared memory" in lower
    ):
        return True
    return "unable to write to file </torch_" in lower


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    text = str(error).lower()
    return "no space left on device" in text or "database or disk is full" in text
