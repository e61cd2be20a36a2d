"""The ranges of positions that the log has tables for, and how each was archived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from projections.archives import FULL, SLIM, Registered
from service.postgres import COMPACT_LOCK, Database, Session
from service.records import Row


class GrowthError(Exception):
    """A range cannot be compacted or restored; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A complete range of the log, to which nothing is added any more."""

    first_position: int
    end_position: int
    newest_at: datetime
    size: int
    """The bytes that its table and the indexes on it take."""
    registered: Registered | None
    """None where it was never archived."""
    signature: bytes
    roll_ups: int
    registered_at: datetime | None
    ready: bool
    """A job has ended whose heartbeats could not be rolled up before."""
    now: datetime

    @property
    def name(self) -> str:
        """Its first and last position, which is how people name it."""
        return f"{self.first_position}-{self.end_position - 1}"

    def is_due(self, older_than: float) -> bool:
        """Return whether it is to be compacted, where that is done after so many seconds.

        One that was restored rests for as long again.
        """
        since = self.now - timedelta(seconds=older_than)
        if self.newest_at > since:
            return False
        if self.registered is None:
            return True
        if self.registered.state == SLIM:
            return self.ready
        return self.registered_at is not None and self.registered_at <= since

    @property
    def is_slim(self) -> bool:
        """Whether roll-ups may stand in it."""
        return self.registered is not None and self.registered.state != FULL


async def ranges(session: Session) -> list[Range]:
    """Return every complete range, the oldest first."""
    log_id = str(await session.value("log_identity"))
    return [_range(row, log_id) for row in await session.rows("list_ranges")]


@asynccontextmanager
async def compacting(database: Database) -> AsyncIterator[Session]:
    """Lend a session while nobody else compacts or restores this log, or raise GrowthError."""
    async with database.working_session() as session:
        if not await session.value("try_to_compact", COMPACT_LOCK):
            raise GrowthError("Somebody else compacts or restores this log now; try again later.")
        yield session


def _range(row: Row, log_id: str) -> Range:
    return Range(
        first_position=row["first_position"],
        end_position=row["end_position"],
        newest_at=row["newest_at"],
        size=row["bytes"],
        registered=_registered(row, log_id) if row["state"] is not None else None,
        signature=row["signature"] or b"",
        roll_ups=row["roll_ups"] or 0,
        registered_at=row["registered_at"],
        ready=row["ready"],
        now=row["now"],
    )


def _registered(row: Row, log_id: str) -> Registered:
    return Registered(
        log_id=log_id,
        first_position=row["first_position"],
        end_position=row["end_position"],
        state=row["state"],
        manifest=row["manifest"],
        digest=row["digest"],
        waiting_for=row["waiting_for"],
    )
