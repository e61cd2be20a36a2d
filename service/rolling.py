"""Reads a range job by job, checks its chains and rolls up the heartbeats that may go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from projections.archives import RollUpDigest
from projections.chain import GENESIS, link
from projections.events import Heartbeats, Record
from projections.rollup import Roller
from service.postgres import Session
from service.ranges import GrowthError, Range
from service.records import event_columns, record_of
from service.store import Store

PAGE = 100
"""So many events are worked on before others have their turn."""


@dataclass(slots=True)
class Rolling:
    """What stands in a range, and the roll-ups for it; a broken chain is never covered up."""

    session: Session
    store: Store
    part: Range
    drafts: bool
    """Whether to write the roll-ups into the draft, or only to count."""
    digest: RollUpDigest = field(default_factory=RollUpDigest)
    """Over the roll-ups that stand in the range already and those that are new."""
    events: int = 0
    new: int = 0
    """How many roll-ups are new."""
    gone: int = 0
    """How many events they spare."""
    waiting: int = 0
    """How many heartbeats could go, if their attempts were over."""
    waiting_for: list[int] = field(default_factory=list)
    _ready: list[Record] = field(default_factory=list)
    _running: dict[int, int] = field(default_factory=dict)
    _before: dict[int, str] = field(default_factory=dict)
    _roller: Roller = field(default_factory=Roller)
    _last: Record | None = None

    async def run(self) -> None:
        """Work through the range. Raises GrowthError where an event is not what its hash says."""
        async for page in self._pages():
            await self._look_up(page)
            for record in page:
                if self._last is None or record.job_id != self._last.job_id:
                    await self._begin(record)
                self._take(record)
            await self._write()
            await asyncio.sleep(0)
        self._end()
        await self._write()

    async def _pages(self) -> AsyncIterator[list[Record]]:
        place = (0, 0)
        span = (self.part.first_position, self.part.end_position)
        while rows := await self.session.rows("range_by_job", *span, *place, PAGE):
            yield [record_of(row) for row in rows]
            place = (rows[-1]["job_id"], rows[-1]["version"])

    async def _look_up(self, page: Sequence[Record]) -> None:
        """Fetch which attempts of a page's jobs go on, and the hashes before their first events."""
        rows = await self.session.rows("running_attempts", list({one.job_id for one in page}))
        self._running = {row["id"]: row["attempt"] for row in rows}
        known = self._last.job_id if self._last else None
        firsts = {one.job_id: one for one in reversed(page) if one.job_id != known}
        begun = [one for one in firsts.values() if _first_version(one) > 1]
        ids, versions = [one.job_id for one in begun], [_first_version(one) - 1 for one in begun]
        rows = await self.session.rows("hashes_of_versions", ids, versions)
        self._before = {row["job_id"]: row["hash"].hex() for row in rows}

    async def _begin(self, first: Record) -> None:
        """Turn to the next job, with everything that was before the range."""
        self._end()
        attempt = self._running.get(first.job_id)
        self._roller = Roller(running=() if attempt is None else (attempt,))
        self._last = None
        if first.version > 1 and attempt != 1:
            upto = self.part.first_position - 1
            async for page in self.store.history(first.job_id, position=upto):
                for record in page:
                    self._roller.pass_by(record)
                await asyncio.sleep(0)

    def _take(self, record: Record) -> None:
        self._check(record)
        self.events += 1
        self._keep(self._roller.add(record))
        if isinstance(record.event, Heartbeats):
            self.digest.add(record)
        self._last = record

    def _check(self, record: Record) -> None:
        version, digest = self._behind(record)
        follows = _first_version(record) == version + 1
        is_rolled_up = isinstance(record.event, Heartbeats)
        if not follows or not (is_rolled_up or link(record, digest) == record.hash):
            raise GrowthError(
                f"The range {self.part.name} stays as it is: version {record.version} of job"
                f" {record.job_id}, at position {record.position}, is not what its hash says;"
                " `epochlog verify` tells more."
            )

    def _behind(self, record: Record) -> tuple[int, str]:
        """Return the version and the hash behind which the event has to stand."""
        if self._last is not None:
            return self._last.version, self._last.hash
        before = self._before.get(record.job_id)
        return (0, GENESIS) if before is None else (_first_version(record) - 1, before)

    def _keep(self, roll_ups: Iterable[Record]) -> None:
        for roll_up in roll_ups:
            assert isinstance(roll_up.event, Heartbeats)  # noqa: S101 - for the type checker
            self.digest.add(roll_up)
            self.new += 1
            self.gone += roll_up.event.count - 1
            self._ready.append(roll_up)

    def _end(self) -> None:
        self._keep(self._roller.finish())
        if self._roller.waiting and self._last is not None:
            self.waiting += self._roller.waiting
            self.waiting_for.append(self._last.job_id)

    async def _write(self) -> None:
        if self._ready and self.drafts:
            await self.session.run("add_to_log_draft", *event_columns(self._ready))
        self._ready.clear()


def _first_version(record: Record) -> int:
    event = record.event
    return event.from_version if isinstance(event, Heartbeats) else record.version
