"""Where data sets come from and checkpoints go. Adapter today: a local folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from trainer.errors import ObjectMissingError, StorageDeniedError, StorageUnsupportedError

CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in the storage, and the proof of its content."""

    uri: str
    sha256: str
    bytes: int


class Storage(Protocol):
    """Objects by key, each written whole or not at all."""

    def fetch(self, key: str, target: Path) -> Stored:
        """Copy an object to a file."""

    def fetch_uri(self, uri: str, target: Path) -> Stored:
        """Copy what `Stored.uri` named earlier."""

    def store(self, source: Path, key: str) -> Stored:
        """Write a file under a key; readers see the old object or the new."""

    def sibling(self, uri: str, name: str) -> str:
        """Return the URI of another object beside this one."""


def open_storage(storage_type: str, bucket: str) -> Storage:
    """Return the adapter for a storage type."""
    if storage_type == "local":
        return LocalStorage(Path(bucket.removeprefix("file://")))
    raise StorageUnsupportedError(
        f"This trainer cannot read {storage_type} storage yet; STORAGE_TYPE=local can be used."
    )


class LocalStorage:
    """A folder as the bucket."""

    def __init__(self, root: Path) -> None:
        """Take the bucket's folder."""
        self._root = root.absolute()

    def fetch(self, key: str, target: Path) -> Stored:
        """Copy an object to a file."""
        return self._copy_in(self._root / key, target)

    def fetch_uri(self, uri: str, target: Path) -> Stored:
        """Copy what a file:// URI names."""
        return self._copy_in(_path_of(uri), target)

    def store(self, source: Path, key: str) -> Stored:
        """Write a file under a key, by way of a temporary name beside it."""
        target = self._root / key
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        with _denials(target), source.open("rb") as reader:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as writer:
                    digest, size = copy(reader, writer)
                    writer.flush()
                    os.fsync(writer.fileno())
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        return Stored(target.as_uri(), digest, size)

    def sibling(self, uri: str, name: str) -> str:
        """Return the file:// URI of another file in the same folder."""
        return _path_of(uri).with_name(name).as_uri()

    def _copy_in(self, source: Path, target: Path) -> Stored:
        with _denials(source):
            if not source.is_file():
                raise ObjectMissingError(f"There is no {source} in the storage.")
            with source.open("rb") as reader, target.open("wb") as writer:
                digest, size = copy(reader, writer)
        return Stored(source.as_uri(), digest, size)


def copy(reader: BinaryIO, writer: BinaryIO) -> tuple[str, int]:
    """Copy all of it in pieces; return its SHA-256 and length."""
    digest, size = hashlib.sha256(), 0
    while piece := reader.read(CHUNK):
        digest.update(piece)
        writer.write(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ObjectMissingError(f"Local storage cannot read {uri}; it needs file:///… .")
    return Path(unquote(parts.path))


@contextmanager
def _denials(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StorageDeniedError(f"The storage refused access to {path}.") from error
