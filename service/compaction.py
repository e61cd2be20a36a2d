"""Compaction: old ranges of the log are archived, and heartbeats in them rolled up.

Nothing goes before it lies in an archive that was read back. What is interrupted anywhere has
changed nothing, and the next run goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import structlog

from projections.archives import SLIM, Manifest, Registered, Seal
from service.archiving import archive, check_archive
from service.errors import StoreUnavailableError
from service.object_store import ObjectStore, ObjectStoreError
from service.postgres import HISTORY_LOCK, Database, LockedError, RefusedDataError, Session
from service.ranges import GrowthError, Range, compacting, ranges
from service.rolling import Rolling
from service.store import Store

SWAP_SECONDS = 1800.0
"""How long one range may take; readers and writers wait for milliseconds of it."""
PATIENCE = 600.0
"""How long to wait for whoever reads the whole log, such as `epochlog verify`."""
PAUSE = 0.5
LONGEST_ROUND = 600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What became of a range, or would."""

    part: Range
    events: int
    gone: int
    roll_ups: int
    waiting: int
    bytes_after: int | None = None
    """None where nothing was done."""
    manifest: Manifest | None = None


@dataclass(slots=True, kw_only=True)
class Compaction:
    """Compacts what is old enough."""

    database: Database
    objects: ObjectStore
    seal: Seal
    token_ttl: float
    """A younger event may still be told again under its id."""

    async def run(self, after: float) -> None:
        """Compact whatever becomes so many seconds old, until cancelled; no error ends it."""
        while True:
            try:
                async for done in self.compacted(after):
                    log.info("compacted", range=done.part.name, events=done.events, gone=done.gone)
            except StoreUnavailableError:
                pass  # the pools have said so
            except (GrowthError, ObjectStoreError) as error:
                log.warning("not_compacted", error=str(error))
            except Exception:
                log.exception("compaction_failed")
            await asyncio.sleep(min(max(after / 10, 1.0), LONGEST_ROUND))

    async def compacted(
        self, older_than: float, *, dry_run: bool = False
    ) -> AsyncIterator[Compacted]:
        """Compact one range after the other, the oldest first, and yield what became of each.

        Raises GrowthError, ObjectStoreError or StoreUnavailableError.
        """
        age = max(older_than, self.token_ttl)
        async with compacting(self.database) as session:
            for part in await ranges(session):
                if part.is_due(age):
                    yield await self._compact(session, part, dry_run=dry_run)

    async def _compact(self, session: Session, part: Range, *, dry_run: bool) -> Compacted:
        rolling = Rolling(session, Store(self.database), part, drafts=not dry_run)
        if not dry_run:
            await session.run("open_log_draft")
        await rolling.run()
        done = Compacted(
            part=part,
            events=rolling.events,
            gone=rolling.gone,
            roll_ups=rolling.digest.roll_ups,
            waiting=rolling.waiting,
        )
        if dry_run:
            return done
        manifest = await self._archived(session, part)
        await self._slim(session, part, manifest, rolling)
        (now,) = [one for one in await ranges(session) if one.first_position == part.first_position]
        return replace(done, manifest=Manifest(**manifest), bytes_after=now.size)

    async def _archived(self, session: Session, part: Range) -> dict[str, Any]:
        """Return the manifest of the range's archive, once that was seen to be whole."""
        if part.registered is not None and part.is_slim:
            manifest = dict(part.registered.manifest)
            self._check_seal(part)
            await check_archive(self.objects, manifest)
            return manifest
        log_id = str(await session.value("log_identity"))
        return (await archive(session, self.objects, part, log_id)).as_json()

    def _check_seal(self, part: Range) -> None:
        if part.registered and not self.seal.is_on(part.registered, part.signature):
            raise GrowthError(f"The registration of the range {part.name} does not bear our seal.")

    async def _slim(
        self, session: Session, part: Range, manifest: dict[str, Any], rolling: Rolling
    ) -> None:
        registered = Registered(
            log_id=manifest["log_id"],
            first_position=part.first_position,
            end_position=part.end_position,
            state=SLIM,
            manifest=manifest,
            digest=rolling.digest.value(),
            waiting_for=rolling.waiting_for,
        )
        async with swapping(session, part):
            await session.value(
                "slim_log_partition",
                part.first_position,
                manifest,
                registered.digest,
                list(registered.waiting_for),
                self.seal.sign(registered),
                timeout=SWAP_SECONDS,
            )


@asynccontextmanager
async def swapping(session: Session, part: Range) -> AsyncIterator[None]:
    """Keep whoever reads the whole log away while a range is put in another's place."""
    deadline = time.monotonic() + PATIENCE
    while not await session.value("try_to_own_history", HISTORY_LOCK):
        if time.monotonic() > deadline:
            raise GrowthError(f"The range {part.name} stays as it is: the whole log is being read.")
        await asyncio.sleep(PAUSE)
    try:
        yield
    except RefusedDataError as error:
        raise GrowthError(f"The range {part.name} stays as it is: {error}.") from error
    except LockedError as error:
        raise GrowthError(
            f"The range {part.name} stays as it is: something reads the log for too long."
        ) from error
    finally:
        if not session.is_closed:
            await session.run("let_history_go", HISTORY_LOCK)
