"""What a line of a trainer's log says, without what stamps it."""

from __future__ import annotations

import json
import re
from typing import Any

# How our own trainer's lines of text begin: time, level, trace, and within an epoch its number.
_STAMP = re.compile(r"^\S+ [A-Z]+ \[TRACE:[^]]*\] (?:epoch=\d+ )?")


def unstamped(line: str) -> str:
    """Return the words of a line, of a traceback in JSON the last; of others' lines everything."""
    told = spoken_in_json(line)
    if told is None:
        return _STAMP.sub("", line)
    lines = str(told.get("exception") or told.get("message", "")).strip().splitlines()
    return lines[-1] if lines else ""


def as_text(line: str) -> list[str]:
    """Return a trainer's line of JSON as it would have been said in text; others' as they are."""
    told = spoken_in_json(line)
    if told is None:
        return [line]
    begin = f"{told['timestamp']} {str(told['level']).upper()} {told['trace']} "
    if "epoch" in told:
        begin += f"epoch={told['epoch']} "
    whole = "\n".join(str(told[name]) for name in ("message", "exception") if told.get(name))
    return [begin + part for part in whole.split("\n")]


def spoken_in_json(line: str) -> dict[str, Any] | None:
    """Return what a line of our trainer's JSON tells; None where it is none."""
    try:
        told = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not {"timestamp", "level", "trace"} <= told.keys():
        return None
    return told
