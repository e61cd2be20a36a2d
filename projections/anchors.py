"""Anchors: signed statements of how far every job's chain had come.

A hash chain shows what was changed, and not what was cut off its end. An anchor names the last
version of each job that changed since the anchor before, is signed with a key that the database
does not hold, and carries the digest of the anchor before it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from projections.findings import Fault

NO_ANCHOR = "0" * 64
"""Stands for the digest of the anchor before the first."""

PURPOSE = b"epochlog anchors"


class JobHead(NamedTuple):
    """A job's last version, and the hash of it."""

    job_id: int
    version: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where the log stood at one moment; `heads` are the jobs that changed since the one before."""

    log_id: str
    number: int
    position: int
    recorded_at: str
    heads: tuple[JobHead, ...]
    previous: str


class AnchorError(Exception):
    """A line is no anchor of ours; `fault` says in which way."""

    def __init__(self, fault: Fault, message: str) -> None:
        """Take the fault's name and what follows `the anchor …` in a sentence."""
        super().__init__(message)
        self.fault = fault


class AnchorKeys:
    """Signs anchors with one key and accepts those of older keys too."""

    def __init__(self, key: str | None, old_keys: Sequence[str] = ()) -> None:
        """Take the service's secret keys; anchors have a key of their own that is made of each."""
        self._own = None if key is None else _derived(key)
        known = [_derived(old) for old in old_keys] + ([self._own] if self._own else [])
        self._known = {_name(derived): derived for derived in known}

    def sign(self, anchor: Anchor) -> str:
        """Return the anchor as the one line that is kept of it."""
        if self._own is None:
            raise ValueError("there is no key to sign with")
        said = _said(anchor, _name(self._own))
        return _text({**said, "signature": _signature(said, self._own)})

    def read(self, line: str) -> Anchor:
        """Return the anchor that the line holds, or raise AnchorError."""
        said = _parsed(line)
        signature = said.pop("signature")
        key = self._known.get(str(said.get("key")))
        if key is None:
            raise AnchorError(
                Fault.ANCHOR_KEY_UNKNOWN, f"is signed with a key ({said.get('key')}) unknown here"
            )
        if not hmac.compare_digest(_signature(said, key).encode(), str(signature).encode()):
            raise AnchorError(Fault.ANCHOR_FORGED, "does not bear our signature")
        # Whatever bears our signature has the shape that we gave it.
        return Anchor(
            log_id=said["log_id"],
            number=said["number"],
            position=said["position"],
            recorded_at=said["recorded_at"],
            heads=tuple(JobHead(*head) for head in said["heads"]),
            previous=said["previous"],
        )


def digest(line: str) -> str:
    """Return what the next anchor says of this one."""
    return hashlib.sha256(line.encode()).hexdigest()


def number_of(line: str) -> int:
    """Return the number that a line claims, whoever signed it, or raise AnchorError."""
    number = _parsed(line).get("number")
    if type(number) is not int:
        raise _unreadable()
    return number


def _parsed(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or "signature" not in said:
        raise _unreadable()
    return said


def _unreadable() -> AnchorError:
    return AnchorError(Fault.ANCHOR_UNREADABLE, "is not in the form of one")


def _said(anchor: Anchor, key: str) -> dict[str, Any]:
    return {
        "heads": [list(head) for head in anchor.heads],
        "key": key,
        "log_id": anchor.log_id,
        "number": anchor.number,
        "position": anchor.position,
        "previous": anchor.previous,
        "recorded_at": anchor.recorded_at,
    }


def _derived(key: str) -> bytes:
    """Return the key for anchors alone: what signs tokens must never sign anything else."""
    return hmac.new(key.encode(), PURPOSE, hashlib.sha256).digest()


def _name(derived: bytes) -> str:
    """Return the public name of a key: it tells keys apart and gives nothing away."""
    return hashlib.sha256(derived).hexdigest()[:16]


def _signature(said: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, _text(said).encode(), hashlib.sha256).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
