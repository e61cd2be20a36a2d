"""What a process printed last before it ended badly: evidence, and often the reason."""

from __future__ import annotations

import re
from dataclasses import replace

import orjson

from projections.events import Evidence
from projections.sighting import Gone
from service.redaction import recordable

LAST_WORDS_LINES = 20
LAST_WORDS_WIDTH = 500
MESSAGE_WIDTH = 300

# How our own trainer's log lines begin: time, level, trace, and within an epoch its number.
_PREFIX = re.compile(r"^\S+ [A-Z]+ \[TRACE:[^]]*\] (?:epoch=\d+ )?")


def with_last_words(seen: Gone, output: str) -> tuple[Gone, Evidence | None]:
    """Return the end with the last line as its message, and the last lines as evidence."""
    spoken = "\n".join(said for line in output.splitlines() for said in as_text(line))
    lines = [line[:LAST_WORDS_WIDTH] for line in recordable(spoken).splitlines() if line.strip()]
    lines = lines[-LAST_WORDS_LINES:]
    if not lines:
        return seen, None
    evidence = Evidence(kind="log_tail", data={"lines": lines})
    if seen.signal is not None:  # whatever it was doing then is not the reason
        return seen, evidence
    said = _PREFIX.sub("", lines[-1])[:MESSAGE_WIDTH]
    return replace(seen, message=seen.message or said), evidence


def as_text(line: str) -> list[str]:
    """Return a line of the trainer's JSON as it would have said it in text; others as they are."""
    try:
        told = orjson.loads(line) if line.startswith("{") else {}
        begin = f"{told['timestamp']} {str(told['level']).upper()} {told['trace']} "
    except (KeyError, orjson.JSONDecodeError):
        return [line]
    if "epoch" in told:
        begin += f"epoch={told['epoch']} "
    whole = "\n".join(str(told[name]) for name in ("message", "exception") if told.get(name))
    return [begin + part for part in whole.split("\n")]
