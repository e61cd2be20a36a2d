"""Unpacks a zip from strangers: nothing is written outside the root, nor without a limit."""

from __future__ import annotations

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trainer.errors import DatasetInvalidError
from trainer.names import fault_of_name
from trainer.steps import Step, uncounted

CHUNK = 1024 * 1024
# Ten times the files of the largest public detection sets; beyond, the file system suffers first.
MOST_FILES = 5_000_000
# Above any set that one machine trains on from its own disk.
MOST_BYTES = 2 * 1024**4
# Pictures hardly shrink and label text shrinks tenfold; a bomb shrinks a thousandfold.
HIGHEST_RATIO = 100
# Small archives of small text may exceed the ratio and still do no harm.
RATIO_FREE_BYTES = 64 * 1024**2
# What macOS adds to zips, and no data set means.
JUNK = frozenset({"__MACOSX", ".DS_Store"})
# Ultralytics unpickles a *.cache beside the labels: from a stranger's zip that is code.
NEVER_UNPACKED = frozenset({".cache"})

BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an archive may become, in bytes really written."""

    files: int = MOST_FILES
    total: int = MOST_BYTES
    ratio: int = HIGHEST_RATIO
    ratio_free: int = RATIO_FREE_BYTES


def unpack(archive: Path, root: Path, limits: Limits | None = None, step: Step = uncounted) -> int:
    """Write the archive's files under the new folder root; return how many.

    `step` is called as it gets on.

    Raises DatasetInvalidError naming the entry; what was written until then stays for the caller
    to remove.
    """
    limits = limits or Limits()
    root.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = choose_entries(opened.infolist(), limits)
            _write_all(opened, entries, root, _ceiling(archive, limits), step)
    except BROKEN as error:
        raise DatasetInvalidError(f"The data set is not a readable zip: {error}.") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a damaged list sends its reader before the file's begin
            raise
        raise DatasetInvalidError(
            "The data set is not a readable zip: its list is damaged."
        ) from error
    return len(entries)


def choose_entries(
    listed: list[zipfile.ZipInfo], limits: Limits
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return where each file goes, relative to the root; refuse what no data set needs."""
    if len(listed) > limits.files:
        raise DatasetInvalidError(
            f"The zip lists {len(listed)} entries; at most {limits.files} are unpacked."
        )
    chosen: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in listed:
        place = safe_place(entry.orig_filename)
        refuse_special(entry)
        if entry.is_dir() or is_unwanted(place):
            continue
        if place in chosen:
            raise DatasetInvalidError(f"The zip holds {entry.filename!r} twice; once is wanted.")
        chosen[place] = entry
    refuse_files_as_folders(chosen)
    return chosen


def is_unwanted(place: PurePosixPath) -> bool:
    """Return whether a file is no part of a data set, or a dangerous one."""
    return bool(JUNK & set(place.parts)) or place.suffix in NEVER_UNPACKED


def safe_place(name: str, what: str = "zip entry") -> PurePosixPath:
    """Return an entry's place below the root, or refuse its name."""
    fault = fault_of_name(name)
    if fault is not None:
        raise DatasetInvalidError(f"The {what} {name!r} {fault}.")
    return PurePosixPath(*(part for part in name.split("/") if part not in {"", "."}))


def refuse_special(entry: zipfile.ZipInfo) -> None:
    """Refuse encrypted entries, links, devices and pipes."""
    if entry.flag_bits & 0x1:
        raise DatasetInvalidError(
            f"The zip entry {entry.filename!r} is encrypted; a plain one is wanted."
        )
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise DatasetInvalidError(
            f"The zip entry {entry.filename!r} is a link or a special file; "
            "only files and folders are wanted."
        )


def refuse_files_as_folders(
    chosen: Mapping[PurePosixPath, object], what: str = "zip entry"
) -> None:
    """Refuse a name that would have to be both."""
    for place in chosen:
        for parent in place.parents:
            if parent in chosen:
                raise DatasetInvalidError(
                    f"The {what} {str(parent)!r} is a file and also a folder; one is wanted."
                )


def _ceiling(archive: Path, limits: Limits) -> int:
    by_ratio = max(limits.ratio_free, archive.stat().st_size * limits.ratio)
    return min(limits.total, by_ratio)


def _write_all(
    opened: zipfile.ZipFile,
    entries: dict[PurePosixPath, zipfile.ZipInfo],
    root: Path,
    ceiling: int,
    step: Step,
) -> None:
    left = ceiling
    for place, entry in entries.items():
        left -= _write_one(opened, entry, root / place, left, step)


def _write_one(
    opened: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    target: Path,
    left: int,
    step: Step,
) -> int:
    """Write one file of at most `left` bytes; return its length as it really was."""
    written = 0
    with opened.open(entry) as reader, _create(target, entry) as writer:
        while piece := reader.read(CHUNK):
            written += len(piece)
            if written > left:
                raise DatasetInvalidError(
                    f"The zip grows too large at entry {entry.filename!r}: "
                    "more than a hundred times its size, or than any disk."
                )
            writer.write(piece)
            step()
    return written


def _create(target: Path, entry: zipfile.ZipInfo) -> BinaryIO:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")
    except (FileExistsError, NotADirectoryError, ValueError) as error:
        raise DatasetInvalidError(
            f"The zip entry {entry.filename!r} collides with another one."
        ) from error
