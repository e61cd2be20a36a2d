"""Identifiers that the service makes itself."""

from __future__ import annotations

import secrets
import time
import uuid


def new_event_id() -> str:
    """Return a UUIDv7: its first 48 bits are the time in milliseconds (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def new_trace_id() -> str:
    """Return a random UUID, whose hex digits are a valid W3C trace id too."""
    return str(uuid.uuid4())
