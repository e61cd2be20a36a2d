"""Files in the making: what a killed trainer has left of one is cleared by who starts there next.

Whoever makes one holds a lock on it, which ends with the process, also in another container.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

# Another file system, a file with very many links, and those that know no links.
NO_LINKS = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOSYS})
# How often a file is made anew that somebody has cleared at once, and how soon.
TRIES, CLEARED_WITHIN = 10, 0.01
PART = re.compile(r"\..+\.(\d+)\.\d+\.part")
"""The name of a file in the making; the first number is its maker's process."""


@contextmanager
def part_of(target: Path) -> Iterator[BinaryIO]:
    """Give a new file beside the target, which `put_in_place` makes the target; else it goes."""
    path = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    with _locked_file(path) as file:
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def put_in_place(part: BinaryIO, target: Path) -> None:
    """Make a part the target, once the disk has it: readers see the old file or the new."""
    part.flush()
    os.fsync(part.fileno())
    Path(part.name).replace(target)


def name_first(made: Path, target: Path) -> None:
    """Give what is whole the target's name, unless somebody else was faster."""
    try:
        target.hardlink_to(made)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not target.exists():
            made.replace(target)


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """Give a new folder beside the target to make it in, for what writes more than one file."""
    folder = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def clear_parts(*folders: Path) -> None:
    """Remove the parts in these folders whose makers are dead."""
    for folder in folders:
        for path in folder.glob(".*.part"):
            if named := PART.fullmatch(path.name):
                _remove_abandoned(path, int(named[1]))


def clear_beside(target: Path) -> None:
    """Remove what was begun beside the target to become it, where who began it is dead."""
    wanted = re.compile(rf"\.{re.escape(target.name)}\.(\d+)(\.\d+)?(-journal)?")
    for path in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if named := wanted.fullmatch(path.name):
            _remove_abandoned(path, int(named[1]))


@contextmanager
def _locked_file(path: Path) -> Iterator[BinaryIO]:
    for left in reversed(range(TRIES)):
        with path.open("wb") as file:
            if _is_ours(file, path) or not left:
                yield file
                return


def _is_ours(file: BinaryIO, path: Path) -> bool:
    """Lock the file; return whether nobody has cleared it before that."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # somebody is about to clear it
        threading.Event().wait(CLEARED_WITHIN)
        return False
    except OSError:
        return True  # some file systems know no locks
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_abandoned(path: Path, maker: int) -> None:
    if maker != os.getpid() and _lives(maker):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        log.info("removed what a killed process had begun: %s", path)
    except OSError as error:  # its maker lives, or nobody can tell
        log.debug("%s stays: %s", path, error)
    finally:
        os.close(descriptor)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
