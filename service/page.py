"""What every printed page is made of: lines that never lose a character, bars and status words."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, TextIO

import orjson
from rich.console import Console, RenderableType
from rich.text import Text

LABEL = 12
PIPED_WIDTH = 140

STYLES = {
    "pending": "yellow",
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "healthy": "green",
    "stalled": "red",
    "silent": "red",
    "unreachable": "red",
}


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that prints what it is given as it is: no markup, no guessed colours."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in console._environ:  # noqa: SLF001
        console.width = PIPED_WIDTH
    return console


def buffered(stream: TextIO) -> TextIO:
    """Return a stream that writes out all it is given, at the end of each line.

    With PYTHONUNBUFFERED a stream hands its text to the kernel in one call and forgets what that
    did not take: most of a long page, where the process is stopped while a pipe is full. The stream
    that was given still owns the file.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True
    )


def print_page(console: Console, page: Iterable[RenderableType]) -> None:
    """Print a page; a line that is too long is left to the terminal, never cut."""
    for part in page:
        console.print(part, soft_wrap=isinstance(part, Text | str))


def print_json(answer: Any) -> None:
    """Print an answer of the API as it came, readably."""
    sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")


def plain(text: str) -> str:
    """Return text without the control characters that could steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text.assemble(("● ", STYLES.get(status, "")), (status, f"bold {STYLES.get(status, '')}"))


def heading(text: str) -> Text:
    """Return a heading with a line of space above it."""
    return Text.assemble("\n", (text, "bold"))


def fact(label: str, value: str | Text, width: int) -> Text:
    """Return one labelled line; a long value continues below its beginning."""
    styled = value if isinstance(value, Text) else folded(value, width - LABEL - 2, LABEL + 2)
    return Text.assemble("  ", (f"{label:<{LABEL - 1}} ", "dim"), styled)


def folded(text: str, width: int, indent: int) -> Text:
    """Return prose in lines of a width, all but the first indented; long words stay whole."""
    lines = textwrap.wrap(
        plain(text), max(width, 30), break_long_words=False, break_on_hyphens=False
    )
    return Text(f"\n{' ' * indent}".join(lines))


def bar(fraction: float, width: int = 30, style: str = "cyan") -> Text:
    """Return a bar that shows a share, without colour too."""
    done = int(min(max(fraction, 0.0), 1.0) * width)
    return Text.assemble(("█" * done, style), ("░" * (width - done), "dim"))


def lane(begin: float, end: float, width: int, style: str) -> Text:
    """Return a bar that covers a stretch of 0 to 1, and is never quite invisible."""
    start = min(int(begin * width), width - 1)
    length = round((end - begin) * width)
    drawn = "█" * min(length, width - start) if length else "▏"
    return Text.assemble(" " * start, (drawn, style))
