"""Telling somebody that a long work gets on."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[], None]
"""Is called after each piece of a work that is done: a file, or a megabyte of a large one."""


def uncounted() -> None:
    """Nobody counts the pieces."""
