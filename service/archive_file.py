"""The file of an archive: a line of JSON for each event, packed with gzip."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

CHUNK = 256 * 1024
GZIP = zlib.MAX_WBITS | 16
LEVEL = 6


class ArchiveFileError(Exception):
    """A file is not the archive that it should be; the message follows its name in a sentence."""


@dataclass(slots=True)
class Content:
    """Sums up the lines of an archive."""

    events: int = 0
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def add(self, block: bytes, lines: int) -> None:
        """Take the next whole lines."""
        self.events += lines
        self.size += len(block)
        self._hash.update(block)

    @property
    def sha256(self) -> str:
        """Of everything so far."""
        digest: str = self._hash.hexdigest()
        return digest


class Packing:
    """Writes a new file: the same bytes for the same lines, as no name or time is in it."""

    def __init__(self, path: Path) -> None:
        self.content = Content()
        self._path = path
        self._pack = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._file: BinaryIO = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, lines: list[str]) -> None:
        """Write the next lines."""
        block = "".join(f"{line}\n" for line in lines).encode()
        self.content.add(block, len(lines))
        self._file.write(self._pack.compress(block))

    def finish(self) -> dict[str, Any]:
        """Write the end; return what a manifest says of the file."""
        self._file.write(self._pack.flush())
        self._file.close()
        return {
            "events": self.content.events,
            "bytes": self._path.stat().st_size,
            "sha256": _sha256(self._path),
            "content_bytes": self.content.size,
            "content_sha256": self.content.sha256,
        }


def blocks_in(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a file, some at a time. Raises ArchiveFileError."""
    unpack = zlib.decompressobj(GZIP)
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            try:
                *lines, rest = (rest + unpack.decompress(chunk)).split(b"\n")
            except zlib.error as error:
                raise ArchiveFileError(f"cannot be unpacked: {error}") from error
            if lines:
                yield lines
    if rest or not unpack.eof:
        raise ArchiveFileError("is cut off")


def check_file(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ArchiveFileError unless the file is the one that the manifest describes."""
    if path.stat().st_size != manifest["bytes"] or _sha256(path) != manifest["sha256"]:
        raise ArchiveFileError("is not the file that was archived: its SHA-256 differs")
    content = Content()
    for lines in blocks_in(path):
        content.add(b"".join(line + b"\n" for line in lines), len(lines))
    if (content.events, content.sha256) != (manifest["events"], manifest["content_sha256"]):
        raise ArchiveFileError("does not hold the events that were archived")


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write what describes an archive, for people too."""
    path.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return what such a file says; None where it is none."""
    try:
        said = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
