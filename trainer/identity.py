"""What makes each callback itself: an id that sorts by time, and the moment it happened."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime


def uuid7(milliseconds: int, randomness: int) -> uuid.UUID:
    """Build a version 7 UUID from a Unix time and 74 random bits (RFC 9562)."""
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76
    value |= (randomness >> 62 & (1 << 12) - 1) << 64
    value |= 0b10 << 62
    value |= randomness & (1 << 62) - 1
    return uuid.UUID(int=value)


def new_event_id() -> str:
    """Return a fresh id."""
    return str(uuid7(time.time_ns() // 1_000_000, secrets.randbits(74)))


def timestamp(moment: datetime | None = None) -> str:
    """Return the moment (default: now) in RFC 3339, UTC, with microseconds."""
    moment = (moment or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
