"""Data sets in the storage: as a zip, or as a manifest and the files that it lists."""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from service.dataset_files import HashedFile, fault_of_name, sha256_of
from service.object_store import ObjectMissingError, ObjectStore
from service.sent_file import SourceChangedError, Tell, ignore

FORMAT = "epochlog-dataset/1"
PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
AT_ONCE = 8
SHA256 = re.compile(r"[0-9a-f]{64}")
# As trainer/manifest.py has it.
LONGEST_VERSION = 100
# What opening and reading a zip raises that is damaged, encrypted or none.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class DatasetDamagedError(Exception):
    """What lies in the storage is no data set; the message says why."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push has done."""

    version: int
    sent_files: int
    sent_bytes: int
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class DatasetStorage:
    """One data set's place in the storage."""

    objects: ObjectStore
    dataset_id: str

    @property
    def zip_name(self) -> str:
        """Where its zip lies."""
        return f"datasets/{self.dataset_id}.zip"

    @property
    def folder(self) -> str:
        """Below what all but the zip lies."""
        return f"datasets/{self.dataset_id}/"

    @property
    def manifest_name(self) -> str:
        """Where its newest manifest lies."""
        return f"{self.folder}_manifest.json"

    def version_name(self, version: int, sha256: str) -> str:
        """Where the manifest of a version is kept: each its own, also of two pushes at once."""
        return f"{self.folder}manifests/{version}-{sha256[:16]}.json"

    def file_name(self, sha256: str) -> str:
        """Where a file of this content lies."""
        return f"{self.folder}files/{sha256[:2]}/{sha256}"

    async def manifest(self) -> dict[str, Any] | None:
        """Return the newest manifest; None where there is none. Raises DatasetDamagedError."""
        async with self.fetched(self.manifest_name) as file:
            if file is None:
                return None
            content = await asyncio.to_thread(file.read_bytes)
        try:
            manifest = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise DatasetDamagedError(f"its manifest is not JSON ({error})") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise DatasetDamagedError(f"its manifest is not of the format {FORMAT}")
        if not _is_version(manifest.get("version")) or not _lists_files(manifest):
            raise DatasetDamagedError("its manifest lacks a version, or its files are not listed")
        return manifest

    async def has_zip(self) -> bool:
        """Return whether there is a zip."""
        return self.zip_name in await self.objects.sizes(self.zip_name)

    async def push_zip(self, archive: Path, tell: Tell = ignore) -> None:
        """Put the zip in place; from then on no manifest stands before it."""
        await self.objects.put(self.zip_name, archive, tell=tell)
        await self.objects.remove(self.manifest_name)

    async def push_manifest(
        self,
        files: Sequence[HashedFile],
        metadata: Mapping[str, Any],
        now: datetime,
        tell: Tell,
        *,
        all_again: bool = False,
    ) -> Pushed:
        """Send what is not there yet, and the manifest after all that it lists.

        Raises DatasetFilesError where a file changes meanwhile, and ObjectStoreError.
        """
        listed = [self._entry(file) for file in files]
        former = await self._former()
        there = {} if all_again else await self.objects.sizes(self.file_name("")[:-1])
        new = {
            file.sha256: file
            for file in files
            if there.get(self.file_name(file.sha256)) != file.file.bytes
        }
        await self._send(new.values(), tell)
        sent = (len(new), sum(file.file.bytes for file in new.values()))
        # Unchecked, it says nothing about what it holds, and takes nothing back.
        if _is_same(former, listed, metadata or (former or {}).get("metadata")):
            return Pushed(former_of(former), *sent, unchanged=not new)
        about = {"created_at": now.isoformat().replace("+00:00", "Z"), "metadata": metadata}
        version = await self._next_version(former)
        await self._put_manifest(version, {**about, "files": listed})
        return Pushed(version, *sent)

    async def _former(self) -> dict[str, Any] | None:
        try:
            return await self.manifest()
        except DatasetDamagedError:
            return None  # this push replaces it

    def _entry(self, file: HashedFile) -> dict[str, Any]:
        return {
            "path": file.file.path,
            "key": self.file_name(file.sha256),
            "bytes": file.file.bytes,
            "sha256": file.sha256,
        }

    async def _send(self, files: Iterable[HashedFile], tell: Tell) -> None:
        async def send(file: HashedFile) -> None:
            file.file.refuse_changed()
            name = self.file_name(file.sha256)
            try:
                await self.objects.put(name, file.file.source, sha256=file.sha256, tell=tell)
            except SourceChangedError as error:
                raise file.file.has_changed() from error

        await at_once(send, files)

    async def _next_version(self, former: Mapping[str, Any] | None) -> int:
        """Return a number above every manifest that was ever kept."""
        kept = await self.objects.sizes(f"{self.folder}manifests/")
        numbers = (Path(name).stem.partition("-")[0] for name in kept)
        versions = [int(number) for number in numbers if number.isdecimal()]
        return max(versions, default=former_of(former)) + 1

    async def _put_manifest(self, version: int, about: Mapping[str, Any]) -> None:
        manifest = {"format": FORMAT, "dataset_id": self.dataset_id, "version": version, **about}
        content = orjson.dumps(manifest)
        with tempfile.TemporaryDirectory(prefix="epochlog-") as folder:
            file = Path(folder, "_manifest.json")
            await asyncio.to_thread(file.write_bytes, content)
            kept = self.version_name(version, hashlib.sha256(content).hexdigest())
            await self.objects.put(kept, file)
            await self.objects.put(self.manifest_name, file)

    @asynccontextmanager
    async def fetched(self, name: str) -> AsyncIterator[Path | None]:
        """Lend a copy of an object; None where it is missing."""
        with tempfile.TemporaryDirectory(prefix="epochlog-") as folder:
            target: Path | None = Path(folder, "fetched")
            try:
                await self.objects.fetch(name, Path(folder, "fetched"))
            except ObjectMissingError:
                target = None
            yield target

    async def faults_of_files(
        self, manifest: Mapping[str, Any], tell: Tell, *, deep: bool
    ) -> list[str]:
        """Return a sentence for each file of a manifest that is not in the storage as listed."""
        there = await self.objects.sizes(self.folder)
        listed = Counter(file["path"] for file in manifest["files"])
        faults: list[str] = []
        whole = []
        for file in manifest["files"]:
            if (fault := self._fault_of(file, listed, there)) is not None:
                faults.append(fault)
            else:
                whole.append(file)
        if deep:
            unique = {file["sha256"]: file for file in whole}
            faults += await self._wrong_contents(unique.values(), tell)
        return faults

    def _fault_of(
        self, file: Mapping[str, Any], listed: Mapping[str, int], there: Mapping[str, int]
    ) -> str | None:
        """Return why a trainer would refuse the file, without reading it."""
        path, key, size = file["path"], file["key"], there.get(file["key"])
        if (fault := fault_of_name(path)) is not None:
            return f"{path!a} {fault}"
        if listed[path] > 1:
            return f"{path} is listed {listed[path]} times"
        if not key.startswith(self.folder):
            return f"{path}: its key {key!a} is not below {self.folder}"
        if size is None:
            return f"{path}: the storage has no {key}"
        if size != file["bytes"]:
            return f"{path}: {size} bytes, where {file['bytes']} are listed"
        return None

    async def _wrong_contents(self, files: Iterable[Mapping[str, Any]], tell: Tell) -> list[str]:
        faults: list[str] = []

        async def check(file: Mapping[str, Any]) -> None:
            async with self.fetched(file["key"]) as copy:
                found = await asyncio.to_thread(sha256_of, copy) if copy else None
            if found != file["sha256"]:
                faults.append(f"{file['path']}: its content is not what the manifest lists")
            tell(file["bytes"])

        await at_once(check, files)
        return sorted(faults)

    async def fault_of_zip(self, *, deep: bool) -> str | None:
        """Return what is wrong with the zip, if anything is."""
        async with self.fetched(self.zip_name) as archive:
            if archive is None:
                return f"the storage has no {self.zip_name}"
            return await asyncio.to_thread(_fault_of_zip, archive, deep)


async def at_once(work: Callable[[Any], Awaitable[None]], items: Iterable[Any]) -> None:
    """Await the work for each item, eight at a time; the first error ends it after what is begun.

    What is begun is not cut off: a file is looked at once more when it has been sent.
    """
    waiting = iter(items)
    ended = False

    async def worker() -> None:
        nonlocal ended
        for item in waiting:
            if ended:
                return
            try:
                await work(item)
            except Exception:
                ended = True
                raise

    for result in await asyncio.gather(*(worker() for _ in range(AT_ONCE)), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def former_of(manifest: Mapping[str, Any] | None) -> int:
    """Return a manifest's version; 0 before the first, and for one that is no number."""
    version = manifest["version"] if manifest else 0
    return version if isinstance(version, int) else 0


def _is_same(former: Mapping[str, Any] | None, files: Any, metadata: Any) -> bool:
    return former is not None and (former["files"], former.get("metadata")) == (files, metadata)


def _is_version(value: Any) -> bool:
    """Return whether a trainer takes it: a number, or a short name of somebody else's."""
    if isinstance(value, str):
        return len(value) <= LONGEST_VERSION
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _lists_files(manifest: Mapping[str, Any]) -> bool:
    files = manifest.get("files")
    return (
        isinstance(files, list)
        and bool(files)
        and all(
            isinstance(file, dict)
            and isinstance(file.get("path"), str)
            and isinstance(file.get("key"), str)
            and isinstance(file.get("bytes"), int)
            and file["bytes"] >= 0
            and isinstance(file.get("sha256"), str)
            and SHA256.fullmatch(file["sha256"])
            for file in files
        )
    )


def _fault_of_zip(archive: Path, deep: bool) -> str | None:
    try:
        with zipfile.ZipFile(archive) as opened:
            broken = opened.testzip() if deep else None
    except BROKEN as error:
        return f"it is not a zip that can be opened ({error})"
    return f"{broken} in it is damaged" if broken else None
