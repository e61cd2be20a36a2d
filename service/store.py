"""What the log and its read model say: everything the service reads and does not write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from projections.events import Record
from projections.job import JobState
from service.postgres import SUPERVISOR_LOCK, Database, Session
from service.records import record_of, state_of

PAGE = 500


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job's state as read, and the database's time at that."""

    state: JobState
    now: datetime


class Lease:
    """The right to supervise, for as long as this session lives."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def check(self) -> None:
        """Raise an error where the session, and so the lease, is lost."""
        await self._session.run("clock")


@dataclass(frozen=True, slots=True)
class Store:
    """The readers of the log; each raises StoreUnavailableError while the database is away."""

    database: Database

    @asynccontextmanager
    async def supervising(self) -> AsyncIterator[Lease | None]:
        """Hold the lease on supervising this log, or None while another service holds it."""
        async with self.database.working_session() as session:
            held = await session.value("try_to_supervise", SUPERVISOR_LOCK)
            yield Lease(session) if held else None

    async def log_id(self) -> str:
        """Return what tells this log from every other."""
        async with self.database.session() as session:
            return str(await session.value("log_identity"))

    async def job(self, job_id: int) -> Snapshot | None:
        """Return the job as it is now, if there is one."""
        async with self.database.session() as session:
            row = await session.row("get_job", job_id)
        return Snapshot(state_of(row["state"]), row["now"]) if row else None

    async def jobs(
        self, *, status: str | None, labels: dict[str, str] | None, below: int | None, limit: int
    ) -> list[Snapshot]:
        """Return jobs, newest first, that are below an id and match."""
        async with self.database.session() as session:
            rows = await session.rows("list_jobs", status, labels, below, limit)
        return [Snapshot(state_of(row["state"]), row["now"]) for row in rows]

    async def watched(self) -> list[Snapshot]:
        """Return every job that the supervisor looks after."""
        async with self.database.session() as session:
            rows = await session.rows("watched_jobs")
        return [Snapshot(state_of(row["state"]), row["now"]) for row in rows]

    async def events(
        self, job_id: int, *, after: int, type_name: str | None, limit: int
    ) -> list[Record]:
        """Return a page of a job's events, in version order."""
        async with self.database.session() as session:
            rows = await session.rows("list_events", job_id, after, type_name, limit)
        return [record_of(row) for row in rows]

    async def history(
        self, job_id: int, *, position: int | None = None
    ) -> AsyncIterator[list[Record]]:
        """Yield pages of a job's events, all of them or up to a position."""
        version = 0
        while True:
            async with self.database.session() as session:
                rows = await session.rows("history_page", job_id, version, position, PAGE)
            if rows:
                yield [record_of(row) for row in rows]
            if len(rows) < PAGE:
                return
            version = rows[-1]["version"]

    async def time_of(self, position: int) -> datetime | None:
        """Return when the log reached this position; None where it holds nothing before it."""
        async with self.database.session() as session:
            reached: datetime | None = await session.value("time_of_position", position)
        return reached

    async def position_at(self, time: datetime) -> int:
        """Return the last position that was recorded by this time; 0 where there is none."""
        async with self.database.session() as session:
            position: int = await session.value("position_at_time", time)
        return position

    async def now(self) -> datetime:
        """Return the database's time."""
        async with self.database.session() as session:
            moment: datetime = await session.value("clock")
        return moment

    async def add_api_token(self, name: str, role: str, digest: bytes) -> tuple[int, datetime]:
        """Keep a token's hash; return its id and when it was made."""
        async with self.database.session() as session:
            row = await session.row("add_api_token", name, role, digest)
        assert row is not None  # noqa: S101 - the statement always answers one row
        return row["id"], row["created_at"]

    async def api_token_role(self, digest: bytes) -> str | None:
        """Return the role of the token with this hash, if there is one."""
        async with self.database.session() as session:
            row = await session.row("find_api_token", digest)
        return row["role"] if row else None
