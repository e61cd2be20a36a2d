"""A data set on this disk: its files, their hashes, and the zip made of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CHUNK = 1024 * 1024
WORKERS = 8
# What data sets gather on the way and no training wants; a *.cache would be code to its reader.
UNWANTED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
NEVER_SENT = frozenset({".cache"})
# Pictures do not shrink, and are found quicker where they were not made to.
STORED = frozenset({".avif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".webp"})
# Zip entries carry a time; a fixed one makes equal data sets equal byte for byte.
TIMESTAMP = (2020, 1, 1, 0, 0, 0)

Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of a data set: its path in the set, where it is, and how long."""

    path: str
    source: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file whose content is known."""

    file: LocalFile
    sha256: str


def files_of(root: Path) -> list[LocalFile]:
    """Return what belongs to a data set, in the order of the paths; nothing hidden."""
    return sorted(_files_of(root), key=lambda file: file.path)


def _files_of(root: Path) -> Iterator[LocalFile]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _is_unwanted(name)]
        below = Path(folder).relative_to(root)
        for name in names:
            source = Path(folder, name)
            if not _is_unwanted(name) and source.is_file():
                yield LocalFile((below / name).as_posix(), source, source.stat().st_size)


def _is_unwanted(name: str) -> bool:
    return name.startswith(".") or name in UNWANTED or PurePosixPath(name).suffix in NEVER_SENT


def hash_all(files: Sequence[LocalFile], tell: Tell) -> list[HashedFile]:
    """Return the files with their hashes."""

    def hashed(file: LocalFile) -> HashedFile:
        done = HashedFile(file, sha256_of(file.source))
        tell(file.bytes)
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(hashed, files))


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(files: Sequence[LocalFile], target: Path, tell: Tell) -> None:
    """Write a zip of the files, the same for the same files."""
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.path, TIMESTAMP)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            stored = Path(file.path).suffix.lower() in STORED
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.file_size = file.bytes
            with file.source.open("rb") as reader, archive.open(entry, "w") as writer:
                shutil.copyfileobj(reader, writer, CHUNK)
            tell(file.bytes)
