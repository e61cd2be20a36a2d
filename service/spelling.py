"""The canonical form of an event's data, quicker than `projections.chain` spells it out.

Two libraries that write JSON differ in few numbers. Where the data holds none of them, one in C
gives the very text that the hash chain covers; everything else is left to the chain's own.
"""

from __future__ import annotations

import re

import orjson

from projections.events import Event, encode

_WHOLE = re.compile(rb"\.0(?!\d)")


def quick_spelling(event: Event) -> str | None:
    """Return the event's data in canonical form, or None where only the chain can tell it."""
    try:
        text = orjson.dumps(encode(event), option=orjson.OPT_SORT_KEYS)
    except TypeError:  # among others an integer of more than 64 bits
        return None
    # A whole number with a fraction; what Python writes with an exponent, or orjson does.
    if _WHOLE.search(text) or b"e+" in text or b"e-" in text or b"0.0000" in text:
        return None
    return text.decode()
