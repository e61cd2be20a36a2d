"""What is registered of an archived range of the log, and the seal on it.

A roll-up is not covered by the hash chain: its hash is that of the last heartbeat that it stands
for. So a digest over all roll-ups of a range is signed, with a key that the database does not hold.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from projections.chain import canonical
from projections.events import Record

FORMAT = 1
SLIM, FULL = "slim", "full"
PURPOSE = b"epochlog archives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archive holds: the events of one range as they were recorded, a line of JSON each."""

    format: int = FORMAT
    log_id: str
    first_position: int
    last_position: int
    events: int
    jobs: int
    first_recorded_at: str
    last_recorded_at: str
    file: str
    compression: str = "gzip"
    bytes: int
    sha256: str
    content_bytes: int
    content_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored and written."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A range as the log has registered it: where its archive is, and how it stands online."""

    log_id: str
    first_position: int
    end_position: int
    state: str
    """`slim`: roll-ups stand for heartbeats; `full`: everything stands as it was recorded."""
    manifest: Mapping[str, Any]
    digest: bytes
    """Over the range's roll-ups."""
    waiting_for: Sequence[int] = ()
    """The jobs whose heartbeats stayed, because their attempt still went on."""


@dataclass(slots=True)
class RollUpDigest:
    """SHA-256 over the roll-ups of a range, taken in the order of jobs and versions."""

    roll_ups: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def add(self, record: Record) -> None:
        """Take the next roll-up."""
        self.roll_ups += 1
        self._hash.update(canonical(record) + b"\n" + record.hash.encode() + b"\n")

    def value(self) -> bytes:
        """Return the digest of those so far."""
        digest: bytes = self._hash.digest()
        return digest


NO_ROLL_UPS = RollUpDigest().value()


class Seal:
    """Signs what is registered of a range, and accepts what older keys have signed too."""

    def __init__(self, key: str | None, old_keys: Sequence[str] = ()) -> None:
        """Take the service's secret keys; archives have a key of their own that is made of each."""
        self._own = None if key is None else _derived(key)
        self._known = [_derived(old) for old in old_keys] + ([self._own] if self._own else [])

    def sign(self, registered: Registered) -> bytes:
        """Return the signature of a range's registration."""
        if self._own is None:
            raise ValueError("there is no key to sign with")
        return _signature(registered, self._own)

    def is_on(self, registered: Registered, signature: bytes) -> bool:
        """Return whether one of our keys has signed this, as it is."""
        return any(
            hmac.compare_digest(_signature(registered, key), signature) for key in self._known
        )


def _derived(key: str) -> bytes:
    """Return the key for archives alone: what signs tokens must never sign anything else."""
    return hmac.new(key.encode(), PURPOSE, hashlib.sha256).digest()


def _signature(registered: Registered, key: bytes) -> bytes:
    said = {
        "log_id": registered.log_id,
        "first_position": registered.first_position,
        "end_position": registered.end_position,
        "state": registered.state,
        "manifest": dict(registered.manifest),
        "digest": registered.digest.hex(),
        "waiting_for": list(registered.waiting_for),
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
