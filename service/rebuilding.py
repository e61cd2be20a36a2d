"""The projections made again from the log, beside the live ones, which serve on meanwhile.

Nothing here can start or tell anything: events are read and folded, and tables are written that
nobody reads before the switch. A replay that ends anywhere before it has changed nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from projections.events import Record
from projections.version import PROJECTIONS_VERSION
from service.comparing import SHOWN, Comparison
from service.errors import StoreUnavailableError
from service.postgres import HISTORY_LOCK, REPLAY_LOCK, LockedError, Session, owner_session
from service.records import job_columns, record_of, state_of
from service.refolding import Refold
from service.writing import StoredJob, span_columns

PAGE = 2_000
NEAR = 1_000
"""So many events may be folded while everybody waits for the switch."""
MOST_JOBS = 20_000
"""So many folded jobs are kept in memory; the others lie in their table."""
PATIENCE = 300.0
"""For how many seconds to try to switch; each try waits for less than a second."""
PAUSE = 0.5
PROJECTIONS = ("jobs", "job_spans", "event_ids")

Tell = Callable[[int, int], None]
"""Called with how far the fold is and where the log ends."""


def silently(_position: int, _head: int) -> None:
    """Tell nobody."""


async def check(url: str, tell: Tell = silently) -> Comparison:
    """Fold the whole log and compare it with what is stored, without changing anything.

    Raises SettingsError or StoreUnavailableError.
    """
    async with owner_session(url) as session:
        await _needs_schema(session)
        await session.run("share_history", HISTORY_LOCK)
        await session.run("prepare_check")
        making = _Making(session, tell)
        await making.catch_up()
        return await making.compared()


async def rebuild(url: str, tell: Tell = silently) -> Comparison:
    """Fold the whole log, let the result take the place of what is stored, and say what differed.

    Raises SettingsError or StoreUnavailableError; the stored projections are then as they were.
    """
    async with owner_session(url) as session:
        await _needs_schema(session)
        if not await session.value("try_to_replay", REPLAY_LOCK):
            raise StoreUnavailableError("Another replay of this log is running; wait for its end.")
        await session.run("share_history", HISTORY_LOCK)
        await session.run("prepare_rebuild")
        try:
            return await _rebuilt(session, tell)
        finally:
            with suppress(StoreUnavailableError):
                await session.run("drop_rebuild")


async def rebuild_if_old(url: str, begins: Callable[[], None], tell: Tell = silently) -> bool:
    """Rebuild where an older version of the folds made what is stored; return whether it was so."""
    async with owner_session(url) as session:
        if await session.value("projections_version") >= PROJECTIONS_VERSION:
            return False
    begins()
    await rebuild(url, tell)
    return True


async def _needs_schema(session: Session) -> None:
    """Raise SettingsError where the tables that we need are not there yet."""
    await session.value("projections_version")


async def _rebuilt(session: Session, tell: Tell) -> Comparison:
    making = _Making(session, tell)
    await making.catch_up()
    await session.run("index_rebuild")
    await making.keep_lost_ids()
    await session.run("vacuum_rebuild")
    await making.catch_up()
    found = await making.compared()
    end = time.monotonic() + PATIENCE
    while True:
        try:
            await making.switch(found)
        except LockedError as error:
            if time.monotonic() > end:
                raise StoreUnavailableError(
                    "The rebuilt projections could not be switched in: something has held a lock"
                    f" on the old ones for {PATIENCE:g} s."
                ) from error
            await asyncio.sleep(PAUSE)
            await making.catch_up()
        else:
            return found


@dataclass(slots=True)
class _Making:
    """Rebuilt projections, true for one position of the log."""

    session: Session
    tell: Tell
    refold: Refold = field(default_factory=Refold)
    position: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROJECTIONS, 0))

    async def catch_up(self) -> None:
        """Come so near to the end of the log that the rest is folded in no time."""
        while True:
            head = await self.session.value("log_position")
            if head - self.position <= NEAR:
                return
            await self._up_to(head)

    async def keep_lost_ids(self) -> None:
        """Keep the ids of events that lie in the log no more; the log gives every position one."""
        if self.rows["event_ids"] < self.position:
            kept = await self.session.value("keep_lost_event_ids", self.position)
            self.rows["event_ids"] += kept

    async def compared(self) -> Comparison:
        """Compare everything with what is stored at one moment, the end of the log included."""
        async with self.session.transaction(isolation="repeatable_read"):
            await self._to_the_end()
            await self.keep_lost_ids()
            self.rows["event_ids"] -= await self.session.value("forget_event_ids")
            return await self._compare(Comparison(), beyond=0)

    async def switch(self, found: Comparison) -> None:
        """Fold the last stretch while nobody writes, compare it, and put it all in place.

        Raises LockedError, and has done nothing then, where somebody holds on to a projection.
        """
        async with self.session.transaction():
            await self.session.run("limit_lock_waits")
            await self.session.run("close_log")
            await self.session.run("lock_projections")
            compared = self.position
            await self._to_the_end()
            await self._compare(found, beyond=compared)
            await self.session.run("switch_projections")
            await self.session.run("next_generation", dict(self.refold.counts))
            await self.session.run("note_projections", PROJECTIONS_VERSION)

    async def _to_the_end(self) -> None:
        await self._up_to(await self.session.value("log_position"))
        await self._save(sorted(self.refold.changed))

    async def _up_to(self, head: int) -> None:
        while self.position < head:
            rows = await self.session.rows("events_by_position", self.position, head, PAGE)
            reached = rows[-1]["position"] if len(rows) == PAGE else head
            await self._fold([record_of(row) for row in rows])
            made = await self.session.value("rebuild_event_ids", self.position, reached)
            self.rows["event_ids"] += made
            self.position = reached
            self.tell(reached, head)

    async def _fold(self, records: Sequence[Record]) -> None:
        refold = self.refold
        await self._fetch({record.job_id for record in records if record.version > 1})
        refold.add(records)
        if refold.spans:
            await self.session.run("save_rebuilt_spans", *span_columns(refold.spans))
            self.rows["job_spans"] += len(refold.spans)
            refold.spans.clear()
        self.rows["jobs"] += sum(record.version == 1 for record in records)
        if len(refold.jobs) > MOST_JOBS:
            await self._save(sorted(refold.changed))
            refold.put_away(MOST_JOBS // 2)

    async def _fetch(self, job_ids: set[int]) -> None:
        """Take up again the jobs that were put away."""
        missing = job_ids - self.refold.jobs.keys()
        if missing:
            rows = await self.session.rows("load_rebuilt_jobs", list(missing))
            for row in rows:
                stored = StoredJob(state_of(row["state"]), row["hash"].hex())
                self.refold.jobs[row["id"]] = stored

    async def _save(self, job_ids: Sequence[int]) -> None:
        for first in range(0, len(job_ids), PAGE):
            jobs = [self.refold.jobs[job_id] for job_id in job_ids[first : first + PAGE]]
            columns = job_columns([job.state for job in jobs], [job.hash for job in jobs])
            await self.session.run("save_rebuilt_jobs", *columns)
        self.refold.saved(job_ids)

    async def _compare(self, found: Comparison, *, beyond: int) -> Comparison:
        for table in PROJECTIONS:
            found.note(table, await self.session.rows(f"compare_{table}", beyond, SHOWN))
        found.note_counts(await self.session.value("head_counts"), self.refold.counts)
        found.rows = {**self.rows, "log_head": 1}
        return found
