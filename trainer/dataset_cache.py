"""Files of data sets kept on this machine by their hash, so that each is fetched once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from trainer.unfinished import NO_LINKS

log = logging.getLogger(__name__)

CHUNK = 1024 * 1024
SHA256, PART = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# What a trainer that was killed had begun to fetch.
ABANDONED_AFTER = 24 * 3600.0


class DatasetCache:
    """A folder of files named by their SHA-256, which several trainers may use at once.

    A file comes in whole, by a rename, and is checked each time it is taken out. What was not used
    for the longest time goes first when there is no room.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """Take the folder, which may not exist, and how many bytes may lie in it."""
        self._folder = folder
        self._limit = limit
        self._made = limit > 0 and _own_folder(folder)

    def holds(self, sha256: str) -> bool:
        """Return whether the file is likely there; only `take` knows."""
        return self._made and self._place(sha256).is_file()

    def take(self, sha256: str, target: Path) -> bool:
        """Put the file at the target, if it is here and whole; a damaged one is thrown away."""
        if not self._made:
            return False
        place = self._place(sha256)
        try:
            link_or_copy(place, target)
            if sha256_of(target) == sha256:
                with contextlib.suppress(FileNotFoundError):  # thrown away meanwhile
                    os.utime(place)  # the eviction's clock
                return True
            log.warning("the cached file %s is damaged and is fetched again", place)
            place.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("the cached file %s cannot be used and is fetched: %s", place, error)
        target.unlink(missing_ok=True)
        return False

    def put(self, sha256: str, file: Path) -> None:
        """Keep a file whose hash was checked."""
        if not self._made:
            return
        place, part = self._place(sha256), self._parts / uuid4().hex
        try:
            self._parts.mkdir(exist_ok=True)
            link_or_copy(file, part)
            # The data set in use may be the same file: nobody is to change it in place.
            part.chmod(stat.S_IRUSR | stat.S_IRGRP)
            place.parent.mkdir(exist_ok=True)
            part.replace(place)
            os.utime(place)
        except OSError as error:  # a cache that is full or in the way stops no training
            log.warning("a file of the data set is not kept for later: %s", error)
        with contextlib.suppress(OSError):
            part.unlink()  # it is still there also where it was the same file already

    def make_room(self, wanted: int, spared: Collection[str]) -> int:
        """Throw away what was not used longest until so many bytes fit; return how many do."""
        if not self._made:
            return 0
        try:
            with self._locked():
                self._sweep_parts()
                return max(0, self._limit - self._shrink(wanted, spared))
        except OSError as error:
            log.warning("there is no room to keep data sets for later: %s", error)
            return 0

    def _shrink(self, wanted: int, spared: Collection[str]) -> int:
        """Throw away until so many bytes more fit; return how many are left."""
        kept = sorted(self._files())
        total = sum(size for _, size, _ in kept)
        for _, size, place in kept:
            if total + wanted <= self._limit:
                break
            if place.name not in spared:
                place.unlink(missing_ok=True)
                total -= size
        return total

    def _place(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    @property
    def _parts(self) -> Path:
        return self._folder / "parts"

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Return what we have put here, and nothing else that lies in the folder."""
        for file in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            if SHA256.fullmatch(file.name) and file.name.startswith(file.parent.name):
                with contextlib.suppress(FileNotFoundError):
                    about = file.stat()
                    yield about.st_mtime, about.st_size, file

    def _sweep_parts(self) -> None:
        for part in self._parts.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                old = time.time() - part.stat().st_mtime > ABANDONED_AFTER
                if old and PART.fullmatch(part.name):
                    part.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One trainer counts and throws away at a time; taking and putting need no lock."""
        with (self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def default_folder() -> Path:
    """Return where this user's trainers keep data sets unless told otherwise."""
    return Path(tempfile.gettempdir()) / f"epochlog-{os.getuid()}" / "datasets"


def _own_folder(folder: Path) -> bool:
    """Make the folder; return whether it is one that no other user can put files in."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    except OSError as error:
        log.warning("data sets are not kept for later: %s", error)
        return False
    if not own:
        log.warning("data sets are not kept for later: %s is another user's", folder)
    return own


def link_or_copy(source: Path, target: Path) -> None:
    """Make the target the same file; a copy where that cannot be, or would be dangerous."""
    if not _may_be_mended(source):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        else:
            return
    shutil.copyfile(source, target)


def _may_be_mended(file: Path) -> bool:
    """Return whether ultralytics may write into the picture: a JPEG whose last bytes are odd."""
    with file.open("rb") as picture:
        if picture.read(len(JPEG)) != JPEG:
            return False
        picture.seek(-len(JPEG_END), os.SEEK_END)
        return picture.read() != JPEG_END


def sha256_of(file: Path) -> str:
    """Return the hash of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as reader:
        while piece := reader.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
