"""Moving large objects: in pieces, tried again where they break off, and never half in place."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from trainer.backoff import delay
from trainer.errors import StorageUnreachableError
from trainer.failures import full_disks_named
from trainer.steps import Step, uncounted
from trainer.storage import CHUNK, refuse_other
from trainer.unfinished import part_of, put_in_place

log = logging.getLogger(__name__)

Result = TypeVar("Result")

MOST_TRIES = 12
"""Without a single byte of progress in between; one to two minutes of pauses."""
SAID_EVERY = 5.0
BAR = 20
MEGABYTE = 1_000_000


class PassingError(Exception):
    """This try failed in a way in which the next one may not; the message says how."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object being read, from `start` on."""

    pieces: Iterable[bytes]
    start: int
    total: int | None
    etag: str | None


Open = Callable[[int, str | None], AbstractContextManager[Opened]]
"""Opens an object at an offset, if it is still the one of this ETag; else from its beginning."""


_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


def offset_in(content_range: str | None) -> int:
    """Return where a part of an object begins, as its header says; 0 for the whole of it.

    Not by the status: there are stores that send a part with 200.
    """
    found = _RANGE.fullmatch(content_range or "")
    return int(found[1]) if found else 0


class Pace:
    """Says every few seconds how far a transfer is."""

    def __init__(self, what: str, total: int | None) -> None:
        """Begin at nothing."""
        self._what, self._total = what, total
        self._done = 0
        self._began = self._said = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes, in whichever thread they travelled; less than none is to travel again."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            is_end = self._done == self._total and self._said > self._began
            if count < 0 or (now - self._said < SAID_EVERY and not is_end):
                return
            self._said = now
            speed = self._done / MEGABYTE / (now - self._began)
            share = f"{bar(self._done / self._total)} of " if self._total else ""
            size = (self._total or self._done) / MEGABYTE
            log.info("%s: %s%.1f MB at %.1f MB/s", self._what, share, size, speed)


def bar(share: float) -> str:
    """Return a progress bar of one line: a log is no place to draw in."""
    full = int(share * BAR)
    return f"[{'#' * full}{'-' * (BAR - full)}] {share:.0%}"


def download(
    what: str, open_at: Open, target: Path, sha256: str | None, step: Step = uncounted
) -> tuple[str, int]:
    """Write an object to a file, going on where it broke off; return its SHA-256 and length.

    `step` is called as it gets on: not for what has to come again.

    Raises StorageUnreachableError once too many tries brought nothing, DiskFullError and
    ObjectDamagedError; the file is then what it was before.
    """
    with full_disks_named(), part_of(target) as part:
        digest, size = _Download(what, open_at, part, step).whole()
        refuse_other(what, digest, sha256)
        put_in_place(part, target)
    return digest, size


class _Download:
    """One object on its way into one file."""

    def __init__(self, what: str, open_at: Open, writer: BinaryIO, step: Step) -> None:
        self._what, self._open_at, self._writer = what, open_at, writer
        self._step = step
        self._digest = hashlib.sha256()
        self._size = self._furthest = 0
        self._etag: str | None = None
        self._pace: Pace | None = None

    def whole(self) -> tuple[str, int]:
        tries = 0
        while True:
            before = self._size
            try:
                self._go_on()
            except PassingError as error:
                tries = 0 if self._size > before else tries + 1
                give_up_or_wait(self._what, tries, error)
            else:
                return self._digest.hexdigest(), self._size

    def _go_on(self) -> None:
        with self._open_at(self._size, self._etag) as opened:
            if opened.start and opened.etag != self._etag:
                # A store that takes no conditions: this is the rest of another object.
                self._begin_anew()
                raise PassingError("the object changed while it was read")
            if opened.start != self._size:
                self._begin_anew()
            self._etag = opened.etag
            self._pace = self._pace or Pace(self._what, opened.total)
            for piece in opened.pieces:
                self._writer.write(piece)
                self._digest.update(piece)
                self._size += len(piece)
                self._pace.add(len(piece))
                if self._size > self._furthest:
                    self._furthest = self._size
                    self._step()
        if opened.total is not None and self._size != opened.total:
            raise PassingError(f"{self._size} of {opened.total} bytes came")

    def _begin_anew(self) -> None:
        self._writer.seek(0)
        self._writer.truncate()
        if self._pace is not None:
            self._pace.add(-self._size)
        self._digest, self._size, self._etag = hashlib.sha256(), 0, None


def persistently(what: str, work: Callable[[], Result]) -> Result:
    """Return what the work brings, tried again while it fails in passing.

    Raises StorageUnreachableError.
    """
    tries = 0
    while True:
        try:
            return work()
        except PassingError as error:
            tries += 1
            give_up_or_wait(what, tries, error)


def give_up_or_wait(what: str, tries: int, error: PassingError) -> None:
    """Wait before the next try, or raise StorageUnreachableError."""
    if tries >= MOST_TRIES:
        raise StorageUnreachableError(f"{what} cannot be transferred: {error}.") from error
    seconds = delay(max(tries - 1, 0), random.random())  # noqa: S311 - jitter, no secret
    log.warning("%s broke off (%s) and goes on in %.1f s", what, error, seconds)
    threading.Event().wait(seconds)


def digest_of(source: Path) -> tuple[str, int]:
    """Return a file's SHA-256 and length."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader:
        while piece := reader.read(CHUNK):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size
