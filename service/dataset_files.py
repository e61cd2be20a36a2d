"""A data set on this disk: its files, their hashes, and the zip made of them."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

CHUNK = 1024 * 1024
WORKERS = 8
PIECE = 100
# The trainer's rule for names, which stands in trainer/names.py, too.
LONGEST_PART = 255
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
# What data sets gather on the way and no training wants; a *.cache would be code to its reader.
UNWANTED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
NEVER_SENT = frozenset({".cache"})
# Pictures do not shrink, and are found quicker where they were not made to.
STORED = frozenset({".avif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".webp"})
# Zip entries carry a time; a fixed one makes equal data sets equal byte for byte.
TIMESTAMP = (2020, 1, 1, 0, 0, 0)

Tell = Callable[[int], None]


class DatasetFilesError(Exception):
    """The files cannot be a data set as they are; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of a data set: its path in the set, where it is, how long and how old."""

    path: str
    source: Path
    bytes: int
    changed: int  # in nanoseconds

    def refuse_changed(self) -> None:
        """Raise DatasetFilesError where it is not what it was when it was listed."""
        try:
            about = self.source.stat()
        except OSError:
            about = None
        if about is None or (about.st_size, about.st_mtime_ns) != (self.bytes, self.changed):
            raise self.has_changed()

    def has_changed(self) -> DatasetFilesError:
        """Return what to raise where it is not what it was."""
        return DatasetFilesError(
            f"{self.path} has changed while it was sent; push again when nobody writes there."
        )


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file whose content is known."""

    file: LocalFile
    sha256: str


def files_of(root: Path) -> list[LocalFile]:
    """Return what belongs to a data set, in the order of the paths; nothing hidden.

    Raises DatasetFilesError for what would be lost on the way or refused by a trainer, and OSError.
    """
    return sorted(_files_of(root), key=lambda file: file.path)


def _files_of(root: Path) -> Iterator[LocalFile]:
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if not _is_unwanted(name)]
        below = Path(folder).relative_to(root)
        for name in folders:
            if Path(folder, name).is_symlink():
                raise _link(below / name, "a folder; put the folder itself there")
        for name in names:
            source = Path(folder, name)
            if _is_unwanted(name):
                continue
            if source.is_file():
                yield _local_file((below / name).as_posix(), source)
            elif source.is_symlink():
                raise _link(below / name, "nothing")


def _local_file(path: str, source: Path) -> LocalFile:
    if (fault := fault_of_name(path)) is not None:
        raise DatasetFilesError(f"The name {path!a} {fault}.")
    about = source.stat()
    return LocalFile(path, source, about.st_size, about.st_mtime_ns)


def _link(place: Path, to: str) -> DatasetFilesError:
    return DatasetFilesError(f"{place.as_posix()} is a link to {to}.")


def _raise(error: OSError) -> None:
    raise error


def fault_of_name(name: str) -> str | None:
    """Return why a trainer would refuse the name, as the end of a sentence; None for a good one."""
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


def _is_unwanted(name: str) -> bool:
    return name.startswith(".") or name in UNWANTED or PurePosixPath(name).suffix in NEVER_SENT


def hash_all(files: Sequence[LocalFile], tell: Tell) -> list[HashedFile]:
    """Return the files with their hashes; what `tell` raises ends it."""

    def hashed(piece: Sequence[LocalFile]) -> list[HashedFile]:
        return [HashedFile(file, sha256_of(file.source, tell)) for file in piece]

    pieces = [files[at : at + PIECE] for at in range(0, len(files), PIECE)]
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(chain.from_iterable(pool.map(hashed, pieces)))


def sha256_of(path: Path, tell: Tell | None = None) -> str:
    """Return the hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            if tell is not None:
                tell(len(piece))
    return digest.hexdigest()


def pack(files: Sequence[LocalFile], target: Path, tell: Tell) -> None:
    """Write a zip of the files, the same for the same files; what `tell` raises ends it."""
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.path, TIMESTAMP)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            stored = Path(file.path).suffix.lower() in STORED
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.file_size = file.bytes
            with file.source.open("rb") as reader, archive.open(entry, "w") as writer:
                while piece := reader.read(CHUNK):
                    writer.write(piece)
                    tell(len(piece))
            file.refuse_changed()
