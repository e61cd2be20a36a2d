"""A folder as the bucket."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trainer.errors import ObjectMissingError, StorageDeniedError
from trainer.failures import full_disks_named
from trainer.steps import Step, uncounted
from trainer.storage import Owner, Stored, copy, refuse_other
from trainer.unfinished import clear_parts, part_of, put_in_place

REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class LocalStorage:
    """Objects as files."""

    def __init__(self, root: Path, step: Step = uncounted) -> None:
        """Take the bucket's folder, and whom to tell as fetching gets on."""
        self._root = root.absolute()
        self._step = step

    def fetch(self, key: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy an object to a file."""
        return self._copy_in(self._root / key, target, sha256)

    def fetch_uri(self, uri: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy what a file:// URI names."""
        return self._copy_in(path_of(uri), target, sha256)

    def store(self, source: Path, key: str, *, owner: Owner | None = None) -> Stored:  # noqa: ARG002
        """Write a file under a key, by way of a temporary name beside it; it cannot say whose."""
        target = self._root / key
        with _denials(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, size = copy_whole(source, target)
        return Stored(target.as_uri(), digest, size)

    def clear(self, prefix: str) -> None:
        """Remove what killed trainers have left unfinished in a folder of keys, and just below."""
        folder = self._root / prefix
        clear_parts(folder, *(below for below in folder.glob("*") if below.is_dir()))

    def _copy_in(self, source: Path, target: Path, sha256: str | None) -> Stored:
        with _denials(source):
            if not source.is_file():
                raise ObjectMissingError(f"There is no {source} in the storage.")
            digest, size = copy_whole(source, target, sha256, self._step)
        return Stored(source.as_uri(), digest, size)


def copy_whole(
    source: Path, target: Path, sha256: str | None = None, step: Step = uncounted
) -> tuple[str, int]:
    """Copy a file so that the target is the old or the new one; return its SHA-256 and length."""
    with source.open("rb") as reader, part_of(target) as part:
        digest, size = copy(reader, part, step)
        refuse_other(str(source), digest, sha256)
        put_in_place(part, target)
    return digest, size


def path_of(uri: str) -> Path:
    """Return the file that a file:// URI names."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ObjectMissingError(f"Local storage cannot read {uri}; it needs file:///… .")
    return Path(unquote(parts.path))


@contextmanager
def _denials(path: Path) -> Iterator[None]:
    try:
        with full_disks_named():
            yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        words = f"The storage refused access to {path}: {error.strerror}."
        raise StorageDeniedError(words) from error
