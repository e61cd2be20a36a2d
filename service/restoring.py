"""The way back: what an archive holds is put in the place of the roll-ups that stand for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from projections.archives import FULL, NO_ROLL_UPS, Registered, Seal
from projections.chain import GENESIS, link
from projections.events import Heartbeats, Record, Source, decode
from service.archive_file import blocks_in
from service.archiving import check_manifest, fetch_archive
from service.compaction import SWAP_SECONDS, swapping
from service.object_store import ObjectStore
from service.postgres import Database, Session
from service.ranges import GrowthError, Range, compacting, ranges

PAGE = 500


@dataclass(slots=True, kw_only=True)
class Restoration:
    """Brings archived ranges back."""

    database: Database
    objects: ObjectStore
    seal: Seal

    async def restored(self, wanted: Sequence[str] | None) -> AsyncIterator[tuple[Range, int]]:
        """Bring back the ranges of these names, or all; yield each and how many events came back.

        Raises GrowthError, ObjectStoreError or StoreUnavailableError.
        """
        async with compacting(self.database) as session:
            found = [part for part in await ranges(session) if part.registered is not None]
            for part in found if wanted is None else [_named(found, name) for name in wanted]:
                if part.is_slim:
                    yield part, await self._restore(session, part)

    async def _restore(self, session: Session, part: Range) -> int:
        registered = part.registered
        if registered is None or not self.seal.is_on(registered, part.signature):
            raise GrowthError(f"The registration of the range {part.name} does not bear our seal.")
        with TemporaryDirectory(prefix="epochlog-restore-") as folder:
            path = Path(folder, "events.ndjson.gz")
            await check_manifest(self.objects, registered.manifest)
            await fetch_archive(self.objects, registered.manifest, path)
            await session.run("open_log_draft")
            await _Putting(session, part).run(path)
        return await self._put_back(session, part, registered)

    async def _put_back(self, session: Session, part: Range, registered: Registered) -> int:
        whole = Registered(
            log_id=registered.log_id,
            first_position=part.first_position,
            end_position=part.end_position,
            state=FULL,
            manifest=registered.manifest,
            digest=NO_ROLL_UPS,
        )
        async with swapping(session, part):
            back: int = await session.value(
                "restore_log_partition",
                part.first_position,
                dict(whole.manifest),
                whole.digest,
                self.seal.sign(whole),
                timeout=SWAP_SECONDS,
            )
        return back


@dataclass(slots=True)
class _Putting:
    """Holds an archive against what stands online, and writes what is missing into the draft."""

    session: Session
    part: Range
    hashes: dict[int, str] = field(default_factory=dict)
    """The hash of each job's last event so far."""

    async def run(self, path: Path) -> None:
        after = self.part.first_position - 1
        for lines in _pages(path):
            records = [record_in(line) for line in lines]
            await self._meet(records)
            online = await self._online(after, records[-1].position)
            missing = [
                line.decode()
                for line, record in zip(lines, records, strict=True)
                if self._is_missing(record, online.pop(record.position, None))
            ]
            if online:
                raise self._wrong(f"position {min(online)} is not in it")
            await self.session.run("restore_to_log_draft", missing)
            after = records[-1].position
            await asyncio.sleep(0)
        if await self._online(after, self.part.end_position - 1):
            raise self._wrong("the log holds more")

    async def _meet(self, records: Sequence[Record]) -> None:
        """Fetch the hashes behind which the jobs go on that began before the range."""
        new = {
            one.job_id: one.version for one in reversed(records) if one.job_id not in self.hashes
        }
        begun = [(job_id, version - 1) for job_id, version in new.items() if version > 1]
        ids, versions = [job_id for job_id, _ in begun], [version for _, version in begun]
        rows = await self.session.rows("hashes_of_versions", ids, versions)
        self.hashes.update({row["job_id"]: row["hash"].hex() for row in rows})

    async def _online(self, after: int, last: int) -> dict[int, Any]:
        """Return what stands online behind a position up to another."""
        rows = await self.session.rows("skeleton_page", after, last + 1, last - after)
        return {row["position"]: row for row in rows}

    def _is_missing(self, record: Record, online: Any) -> bool:
        """Return whether the event is not online any more; raise where another stands there."""
        if link(record, self.hashes.get(record.job_id, GENESIS)) != record.hash:
            raise self._wrong(f"the event at position {record.position} is not what its hash says")
        self.hashes[record.job_id] = record.hash
        if online is None:
            return True
        if online["hash"].hex() != record.hash:
            raise self._wrong(f"another event stands at position {record.position}")
        return bool(online["type"] == Heartbeats.TYPE)

    def _wrong(self, how: str) -> GrowthError:
        return GrowthError(
            f"The archive of the range {self.part.name} does not fit the log: {how}."
        )


def record_in(line: bytes) -> Record:
    """Return the event that a line of an archive holds."""
    said = orjson.loads(line)
    return Record(
        position=said["position"],
        job_id=said["job_id"],
        version=said["version"],
        attempt=said["attempt"],
        event_id=said["event_id"],
        source=Source(said["source"]),
        trace_id=said["trace_id"],
        seq=said["seq"],
        occurred_at=datetime.fromisoformat(said["occurred_at"]),
        recorded_at=datetime.fromisoformat(said["recorded_at"]),
        event=decode(said["type"], said["data"]),
        rule=said["rule"],
        hash=said["hash"],
        stored=said["data"],
    )


def _pages(path: Path) -> Iterator[list[bytes]]:
    lines = (line for block in blocks_in(path) for line in block)
    while page := list(islice(lines, PAGE)):
        yield page


def _named(found: Sequence[Range], name: str) -> Range:
    """Return the range of a name: its first position, or the first and the last."""
    for part in found:
        if name in (part.name, str(part.first_position)):
            return part
    raise GrowthError(f"There is no archived range {name}; `epochlog archives` lists them.")
