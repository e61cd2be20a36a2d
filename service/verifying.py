"""Reads the whole log, or one job's part of it, and what is kept beside it, for an audit.

Events never change, so they are read in many short statements up to where the log ends; only its
last stretch and the rows that do change are read as of one moment. A snapshot that is held for
minutes would keep PostgreSQL from tidying up behind the writer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from projections.anchored import AnchorChain, Anchored
from projections.anchors import Anchor, AnchorKeys
from projections.archives import Seal
from projections.audit import Audit, JobRow, OtherLog, StrayId
from service.anchor_reading import read_anchors
from service.anchors import AnchorsFile
from service.archive_audit import ArchiveAudit, registered_ranges
from service.audit_reading import Rows, ahead, all_events, events_of, record_to_audit
from service.postgres import HISTORY_LOCK, Database, Session
from service.records import Row

NEAR = 10_000
"""So many events are read together with the rows that change."""
ROWS = 5_000
JOBS = 1_000
MOST_STRAYS = 100
LOWEST = -(2**63)

Tell = Callable[[int, int], None]
"""Called with how far the audit is and where the log ends."""


def silently(_position: int, _end: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification looked at, and what it found."""

    log_id: str
    audit: Audit
    anchors: int
    """The number of the last anchor."""
    anchored_position: int
    """How far the anchors reach."""


async def verify(
    database: Database,
    keys: AnchorKeys,
    *,
    seal: Seal | None = None,
    job_id: int | None = None,
    copy: AnchorsFile | None = None,
    tell: Tell = silently,
) -> Verified:
    """Check the chain of one job or of all, and hold them against the anchors.

    `copy` is a file of anchors that was kept outside the database; `seal` knows what was archived.
    Raises StoreUnavailableError.
    """
    async with database.working_session() as session, database.session() as anchors:
        await session.run("share_history", HISTORY_LOCK)
        log_id = str(await session.value("log_identity"))
        archived = await registered_ranges(session)
        slim = [range(part.first_position, part.end_position) for part in archived if part.is_slim]
        audit = Audit(only_job=job_id, brought=await _brought(session), slim=slim)
        chain = AnchorChain(keys, log_id, audit.findings)
        async with aclosing(read_anchors(anchors, chain, copy)) as lines:
            verification = _Verification(session, audit, Anchored(audit), lines, tell)
            await verification.run()
        await ArchiveAudit(session, seal or Seal(None), audit, archived).run()
        last = verification.anchored.last
        return Verified(log_id, audit, chain.number, last.position if last else 0)


@dataclass(slots=True)
class _Verification:
    session: Session
    audit: Audit
    anchored: Anchored
    anchors: AsyncIterator[Anchor]
    tell: Tell
    _next: Anchor | None = field(default=None)

    async def run(self) -> None:
        self._next = await anext(self.anchors, None)
        if self.audit.only_job is None:
            while (end := await self._end()) - self.audit.position > NEAR:
                await self._take_all(all_events(self.session, self.audit.position, end), end)
        async with self.session.transaction(isolation="repeatable_read"):
            end = await self._end()
            await self._take_all(self._rest(), end)
            await self._compare_rows(end)
        await self._compare_ids(end)
        while self._next is not None:
            await self._take_anchor(self._next)
        self.audit.finish()
        self.anchored.finish()

    def _rest(self) -> AsyncIterator[Rows]:
        if self.audit.only_job is None:
            return all_events(self.session, self.audit.position, None)
        return events_of(self.session, self.audit.only_job)

    async def _end(self) -> int:
        position: int | None = await self.session.value("head_position")
        return position or 0

    async def _take_all(self, pages: AsyncIterator[Rows], end: int) -> None:
        async with aclosing(ahead(pages)) as read:
            async for page in read:
                for row in page:
                    while self._next is not None and self._next.position < row["position"]:
                        await self._take_anchor(self._next)
                    self._take(row)
                self.tell(self.audit.position, end)

    def _take(self, row: Row) -> None:
        record = record_to_audit(row)
        if record is None:
            self.audit.take_unreadable(row["position"], row["job_id"], row["version"])
            return
        self.audit.take(record, row["has_id"])
        if record.job_id in self.anchored.awaited:
            self.anchored.meet(record)

    async def _take_anchor(self, anchor: Anchor) -> None:
        self.anchored.take(anchor)
        self._next = await anext(self.anchors, None)

    async def _compare_rows(self, end: int) -> None:
        if self.audit.only_job is None:
            self.audit.end_at(end)
        async for rows in self.session.pages("audit_jobs", self.audit.only_job, size=ROWS):
            for row in rows:
                self.audit.take_row(_job_row(row))

    async def _compare_ids(self, end: int) -> None:
        """Find ids whose events are gone: of a job that has more of them than events."""
        for after, upto in self._job_ranges():
            for row in await self.session.rows("count_event_ids", after, upto, end):
                if self.audit.chain(row["job_id"]).events != row["ids"]:
                    await self._take_strays(row["job_id"], end)

    def _job_ranges(self) -> Iterator[tuple[int, int | None]]:
        if self.audit.only_job is not None:
            yield self.audit.only_job - 1, self.audit.only_job
            return
        after = LOWEST
        for upto in sorted(self.audit.chains)[JOBS - 1 :: JOBS]:
            yield after, upto
            after = upto
        yield after, None

    async def _take_strays(self, job_id: int, end: int) -> None:
        for row in await self.session.rows("stray_event_ids", job_id, end, MOST_STRAYS):
            stray = StrayId(
                job_id=job_id,
                version=row["version"],
                position=row["position"],
                event_id=str(row["event_id"]),
            )
            self.audit.take_stray(stray)


async def _brought(session: Session) -> OtherLog | None:
    row = await session.row("imported_job")
    return OtherLog(row["job_id"], row["last_position"]) if row else None


def _job_row(row: Row) -> JobRow:
    return JobRow(
        job_id=row["id"],
        version=row["version"] or 0,
        position=row["position"] or 0,
        hash=(row["hash"] or b"").hex(),
        first_position=row["first_position"] or 0,
    )
