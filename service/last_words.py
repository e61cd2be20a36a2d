"""What a process printed last before it ended badly: evidence, and often the reason."""

from __future__ import annotations

from dataclasses import replace

from projections.events import Evidence
from projections.sighting import Gone
from projections.spoken import as_text, unstamped
from service.redaction import recordable

LAST_WORDS_LINES = 20
LAST_WORDS_WIDTH = 500
MESSAGE_WIDTH = 300


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
    said = unstamped(lines[-1])[:MESSAGE_WIDTH]
    return replace(seen, message=seen.message or said), evidence
