"""The header `traceparent` of W3C Trace Context: which span a caller's request belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = "traceparent"

_SPELLING = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of somebody else's, within which something is done."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    sampled: bool
    """Whether its owner says that it is recorded."""


def parent_in(values: list[str]) -> Parent | None:
    """Return the parent that the header's values name; None where they name none, or not well."""
    if len(values) != 1:
        return None
    found = _SPELLING.fullmatch(values[0].strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not (int(trace_id, 16) and int(span_id, 16)):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
