"""A folder as an object store."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.object_store import CHUNK, ObjectMissingError, ObjectStoreError
from service.sent_file import SentFile, Tell, ignore


class Folder:
    """Keeps files in a folder, which is made when the first of them comes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self._path)

    async def put(
        self, name: str, source: Path, *, sha256: str | None = None, tell: Tell = ignore
    ) -> None:
        """Copy the file beside its place, and move it there when it is safe on the disk."""
        try:
            sent = SentFile(source, sha256, tell)
            await asyncio.to_thread(_copy_durably, sent, self._path / name)
        except OSError as error:
            raise ObjectStoreError(f"{self._path / name} cannot be written: {error}") from error

    async def fetch(self, name: str, target: Path) -> None:
        """Copy the file out."""
        try:
            await asyncio.to_thread(shutil.copyfile, self._path / name, target)
        except FileNotFoundError as error:
            raise ObjectMissingError(f"There is no {self._path / name}.") from error
        except OSError as error:
            raise ObjectStoreError(f"{self._path / name} cannot be read: {error}") from error

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Walk the folder."""
        try:
            return await asyncio.to_thread(_sizes_below, self._path, prefix)
        except OSError as error:
            raise ObjectStoreError(f"{self._path / prefix} cannot be listed: {error}") from error

    async def remove(self, name: str) -> None:
        """Unlink the file."""
        try:
            await asyncio.to_thread((self._path / name).unlink, missing_ok=True)
        except OSError as error:
            raise ObjectStoreError(f"{self._path / name} cannot be removed: {error}") from error

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold nothing: a folder needs no connection."""
        yield


def _sizes_below(root: Path, prefix: str) -> dict[str, int]:
    """Return the files whose names, from the root on, begin so; none that is being written."""
    start = root / prefix.rpartition("/")[0]
    found: dict[str, int] = {}
    for folder, folders, files in os.walk(start):
        below = Path(folder).relative_to(root)
        names = {one: f"{(below / one).as_posix()}/" for one in folders}
        folders[:] = [
            one for one, name in names.items() if name.startswith(prefix) or prefix.startswith(name)
        ]
        for file in files:
            name = (below / file).as_posix()
            if name.startswith(prefix) and not file.startswith("."):
                found[name] = (root / name).stat().st_size
    return found


def _copy_durably(sent: SentFile, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with aside.open("xb") as copy:
            for piece in sent.pieces(CHUNK):
                copy.write(piece)
                sent.tell(len(piece))
            sent.refuse_other()
            copy.flush()
            os.fsync(copy.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
