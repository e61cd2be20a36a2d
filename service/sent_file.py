"""A file on its way into a store: read in order, hashed, and told of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

Tell = Callable[[int], None]


class SourceChangedError(Exception):
    """The file that was to be kept is not the one that was meant."""


def ignore(_count: int) -> None:
    """Take no notice of how many bytes went."""


class SentFile:
    """A file that may only arrive as the one that was meant."""

    def __init__(self, source: Path, sha256: str | None, tell: Tell) -> None:
        """Take the hash that it is to have, if that is known, and who hears how far it is."""
        self._source, self._wanted = source, sha256
        self._digest = hashlib.sha256()
        self._read = 0
        self.tell = tell

    def size(self) -> int:
        """Return how long it is now, in bytes."""
        return self._source.stat().st_size

    def next_piece(self, length: int) -> bytes:
        """Return the next bytes, at most so many; not for two threads at once."""
        with self._source.open("rb") as file:
            file.seek(self._read)
            piece = file.read(length)
        self._digest.update(piece)
        self._read += len(piece)
        return piece

    def pieces(self, length: int) -> Iterator[bytes]:
        """Return all of it in pieces of a length."""
        while piece := self.next_piece(length):
            yield piece

    def refuse_other(self) -> None:
        """Raise SourceChangedError unless what was read is what was meant."""
        found = self._digest.hexdigest()
        if self._wanted not in {None, found}:
            raise SourceChangedError(
                f"{self._source} has changed: its SHA-256 is {found}, not {self._wanted}."
            )
