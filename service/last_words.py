"""What a process printed last before it ended badly: evidence, and often the reason."""

from __future__ import annotations

import re
from dataclasses import replace

from projections.events import Evidence
from projections.sighting import Gone
from service.redaction import recordable

LAST_WORDS_LINES = 20
LAST_WORDS_WIDTH = 500
MESSAGE_WIDTH = 300

# How our own trainer's log lines begin: time, level, trace.
_PREFIX = re.compile(r"^\S+ [A-Z]+ \[TRACE:[^]]*\] ")


def with_last_words(seen: Gone, output: str) -> tuple[Gone, Evidence | None]:
    """Return the end with the last line as its message, and the last lines as evidence."""
    spoken = recordable(output).splitlines()
    lines = [line[:LAST_WORDS_WIDTH] for line in spoken if line.strip()]
    if not lines:
        return seen, None
    evidence = Evidence(kind="log_tail", data={"lines": lines})
    if seen.signal is not None:  # whatever it was doing then is not the reason
        return seen, evidence
    said = _PREFIX.sub("", lines[-1])[:MESSAGE_WIDTH]
    return replace(seen, message=seen.message or said), evidence
