"""How numbers, durations, moments and sizes are written for a person."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float) -> str:
    """Return a length of time with as much precision as its size deserves."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def offset(seconds: float) -> str:
    """Return how long after the beginning something was, in a narrow column."""
    if seconds < 60:
        return f"+{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours}:{minutes:02}:{rest:02}" if hours else f"+{minutes}:{rest:02}"


def ago(at: datetime, now: datetime) -> str:
    """Return roughly how long before `now` a moment was."""
    seconds = (now - at).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def moment(at: datetime) -> str:
    """Return a moment to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def clock(at: datetime) -> str:
    """Return a moment's time of day, in UTC."""
    return f"{at.astimezone(UTC):%H:%M:%S}"


def number(value: object) -> str:
    """Return a number with four digits that matter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size(count: int) -> str:
    """Return a number of bytes."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def percent(fraction: float) -> str:
    """Return a share; 100 % only where it is all."""
    return f"{int(fraction * 100)} %"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"
