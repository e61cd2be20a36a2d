"""Archives: a range's events as they were recorded, in one compressed file beside its manifest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from projections.archives import Manifest
from service.archive_file import (
    ArchiveFileError,
    Packing,
    check_file,
    read_manifest,
    write_manifest,
)
from service.object_store import ObjectMissingError, ObjectStore, ObjectStoreError
from service.postgres import Session
from service.ranges import GrowthError, Range
from service.records import Row

PAGE = 1_000
ENDING = ".ndjson.gz"


async def archive(session: Session, store: ObjectStore, part: Range, log_id: str) -> Manifest:
    """Have a range that stands in full archived; return the manifest of what was read back.

    What an earlier run has written is taken, where it holds the same events. Raises GrowthError or
    ObjectStoreError.
    """
    with TemporaryDirectory(prefix="epochlog-archive-") as folder:
        spool = Path(folder, "events")
        manifest = await _pack(session, part, log_id, spool)
        if known := await _known(store, manifest):
            return known
        await store.put(manifest.file, spool)
        said = Path(folder, "manifest")
        await asyncio.to_thread(write_manifest, said, manifest.as_json())
        await store.put(_name_of_manifest(manifest.file), said)
    await check_archive(store, manifest.as_json())
    return manifest


async def check_archive(store: ObjectStore, manifest: Mapping[str, Any]) -> None:
    """Read an archive back; GrowthError or ObjectStoreError unless it is what its manifest says."""
    with TemporaryDirectory(prefix="epochlog-archive-") as folder:
        await fetch_archive(store, manifest, Path(folder, "events"))


async def fetch_archive(store: ObjectStore, manifest: Mapping[str, Any], path: Path) -> None:
    """Fetch an archive's file; GrowthError or ObjectStoreError unless it is what was written."""
    await store.fetch(manifest["file"], path)
    try:
        await asyncio.to_thread(check_file, path, manifest)
    except ArchiveFileError as error:
        raise GrowthError(f"{store.url}/{manifest['file']} {error}.") from error


async def check_manifest(store: ObjectStore, manifest: Mapping[str, Any]) -> None:
    """Raise GrowthError unless the manifest beside an archive is the registered one."""
    name = _name_of_manifest(manifest["file"])
    if await _fetch_manifest(store, name) != dict(manifest):
        raise GrowthError(f"{store.url}/{name} is not the manifest that the log has registered.")


async def _pack(session: Session, part: Range, log_id: str, path: Path) -> Manifest:
    jobs, after = set[int](), part.first_position - 1
    first: Row | None = None
    last: Row | None = None
    with Packing(path) as packing:
        while rows := await session.rows("archive_page", after, part.end_position, PAGE):
            await asyncio.to_thread(packing.add, [row["line"] for row in rows])
            jobs.update(row["job_id"] for row in rows)
            first, last = first or rows[0], rows[-1]
            after = last["position"]
        packed = await asyncio.to_thread(packing.finish)
    if first is None or last is None:
        raise GrowthError(f"The range {part.name} holds nothing.")
    digits = f"{part.first_position:016}-{part.end_position - 1:016}"
    return Manifest(
        log_id=log_id,
        first_position=part.first_position,
        last_position=part.end_position - 1,
        jobs=len(jobs),
        first_recorded_at=_text(first["recorded_at"]),
        last_recorded_at=_text(last["recorded_at"]),
        file=f"{log_id}/events-{digits}{ENDING}",
        **packed,
    )


async def _known(store: ObjectStore, manifest: Manifest) -> Manifest | None:
    """Return the manifest of an archive that lies there already, whole and of the same events."""
    with suppress(ObjectMissingError):
        known = await _fetch_manifest(store, _name_of_manifest(manifest.file))
        if known is None or not _alike(known, manifest.as_json()):
            return None
        try:
            await check_archive(store, known)
        except (GrowthError, ObjectStoreError):
            return None  # what lies there is broken: it is written anew
        return Manifest(**known)
    return None


def _alike(known: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Return whether both are of the same events; another zlib may have packed them otherwise."""
    packed = {"bytes", "sha256"}
    return known.keys() == manifest.keys() and all(
        known[name] == manifest[name] for name in manifest.keys() - packed
    )


async def _fetch_manifest(store: ObjectStore, name: str) -> dict[str, Any] | None:
    with TemporaryDirectory(prefix="epochlog-archive-") as folder:
        path = Path(folder, "manifest")
        await store.fetch(name, path)
        return await asyncio.to_thread(read_manifest, path)


def _name_of_manifest(file: str) -> str:
    return f"{file.removesuffix(ENDING)}.manifest.json"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
