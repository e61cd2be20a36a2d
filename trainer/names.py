"""Which names the files of a data set may have, wherever they come from. Pure."""

from __future__ import annotations

import re

# What file systems take at most for one part of a path, in bytes.
LONGEST_PART = 255
# They could make a line of a log look like another; what is only unusual, such as the narrow
# space that macOS puts into the names of its screenshots, may stay.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def fault_of_name(name: str) -> str | None:
    """Return why a file may not be called so, as the end of a sentence; None for a good name."""
    if LONE_SURROGATE.search(name):  # how Python tells bytes that are no UTF-8
        return "is not text in UTF-8; plain names are wanted"
    if CONTROL.search(name):
        return "has control characters in its name"
    drive = len(name) > 1 and name[1] == ":"
    parts = name.split("/")
    if name.startswith("/") or drive or "\\" in name or ".." in parts or not set(parts) - {"", "."}:
        return "points outside the data set; plain relative names are wanted"
    if any(len(part) > LONGEST_PART // 4 and len(part.encode()) > LONGEST_PART for part in parts):
        return f"has a part of more than {LONGEST_PART} bytes in its name"
    return None


def escaped(text: str) -> str:
    """Return text that shows what it has of control characters and broken letters."""
    if text.isprintable():
        return text
    shown = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
