"""How long to wait before a callback is tried again. Pure: chance and time are arguments."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_CEILING = 0.5
HIGHEST_CEILING = 15.0
# A service may ask for a pause, but not for so long that its job looks dead meanwhile.
LONGEST_ASKED_FOR = 120.0


def delay(tries: int, chance: float, asked_for: float | None = None) -> float:
    """Return the pause after `tries` failures; `chance` in [0, 1) spreads many trainers out."""
    ceiling: float = min(HIGHEST_CEILING, FIRST_CEILING * 2.0 ** min(tries, 16))
    jittered = ceiling * (0.5 + chance / 2)
    if asked_for is None:
        return jittered
    return max(jittered, min(asked_for, LONGEST_ASKED_FOR))


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds a Retry-After header asks for, or None where it says nothing useful."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
