"""A data set as a list of its files, each kept under its content's hash.

Equal files lie in the storage once, and a new version of a data set costs only what has changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.errors import DatasetInvalidError
from trainer.unpack import MOST_BYTES, MOST_FILES, is_unwanted, refuse_files_as_folders, safe_place

FORMAT = "epochlog-dataset/1"
# A thousand bytes for each of the files that a manifest may list at most, and some.
LONGEST_MANIFEST = 1024 * 1024 * 1024
LONGEST_VERSION = 100
SHA256 = re.compile(r"[0-9a-f]{64}")
ENTRY = "manifest's path"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a data set: where it goes, and what it is."""

    place: PurePosixPath
    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A version of a data set."""

    version: int | str
    entries: tuple[Entry, ...]
    metadata: dict[str, Any]

    @property
    def bytes(self) -> int:
        """How large the data set is."""
        return sum(entry.bytes for entry in self.entries)


def manifest_key(dataset_id: str) -> str:
    """Return where a data set's newest manifest lies."""
    return f"datasets/{dataset_id}/_manifest.json"


def read_manifest(file: Path, dataset_id: str) -> Manifest:
    """Return the manifest, every path and key of it checked; raises DatasetInvalidError."""
    if file.stat().st_size > LONGEST_MANIFEST:
        raise DatasetInvalidError("The data set's manifest is larger than 1 GiB.")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DatasetInvalidError(f"The data set's manifest is not JSON: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        said = content.get("format") if isinstance(content, dict) else None
        raise DatasetInvalidError(
            f"The data set's manifest is of the format {said!r}; this trainer reads {FORMAT!r}."
        )
    version, files = _version(content.get("version")), content.get("files")
    if version is None or not isinstance(files, list) or not files:
        raise DatasetInvalidError("The data set's manifest needs a `version` and some `files`.")
    metadata = content.get("metadata")
    return Manifest(
        version, _entries(files, dataset_id), metadata if isinstance(metadata, dict) else {}
    )


def _version(value: Any) -> int | str | None:
    """Return a number or a short name, which goes into the log as it is; None for anything else."""
    if isinstance(value, str) and len(value) <= LONGEST_VERSION:
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_number else None


def _entries(files: list[Any], dataset_id: str) -> tuple[Entry, ...]:
    if len(files) > MOST_FILES:
        raise DatasetInvalidError(
            f"The manifest lists {len(files)} files; at most {MOST_FILES} are fetched."
        )
    chosen: dict[PurePosixPath, Entry] = {}
    for file in files:
        entry = _entry(file, f"datasets/{dataset_id}/")
        if entry.place in chosen:
            raise DatasetInvalidError(f"The {ENTRY} {str(entry.place)!r} comes twice.")
        if not is_unwanted(entry.place):
            chosen[entry.place] = entry
    refuse_files_as_folders(chosen, ENTRY)
    if sum(entry.bytes for entry in chosen.values()) > MOST_BYTES:
        raise DatasetInvalidError("The manifest lists more bytes than any disk holds.")
    return tuple(chosen.values())


def _entry(file: Any, prefix: str) -> Entry:
    if not isinstance(file, dict):
        raise DatasetInvalidError("The manifest's `files` must be objects.")
    path, key, size, sha256 = (file.get(name) for name in ("path", "key", "bytes", "sha256"))
    if (
        not isinstance(path, str)
        or not isinstance(key, str)
        or not isinstance(size, int)
        or size < 0
        or not isinstance(sha256, str)
        or not SHA256.fullmatch(sha256)
    ):
        raise DatasetInvalidError(
            f"The manifest's file {path!r} needs a path, a key, its bytes and its SHA-256."
        )
    place = safe_place(path, ENTRY)
    if not key.startswith(prefix) or ".." in key.split("/") or not key.isprintable():
        raise DatasetInvalidError(
            f"The manifest's key {key!r} is not below {prefix}, where the data set's files lie."
        )
    return Entry(place, key, size, sha256)
