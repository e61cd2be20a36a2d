"""What the log and its read model say: everything the service reads and does not write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from projections.events import Record
from projections.job import JobState
from service.bundle import Seen
from service.imported import Imported
from service.postgres import Database, Held
from service.records import Row, record_of, state_of
from service.writing import Head, Writer

PAGE = 500


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job's state as read, and the database's time at that."""

    state: JobState
    now: datetime


@dataclass(slots=True)
class Watched:
    """The jobs that are looked after, by who is served first, where the log stood so."""

    jobs: dict[int, JobState]
    position: int
    generation: int
    """Which of the rebuilt projections it was read from."""
    now: datetime

    def learn(self, jobs: Iterable[JobState], now: datetime | None = None) -> None:
        """Take over how some of them stand by now, where that is newer."""
        for job in jobs:
            known = self.jobs.get(job.id)
            if known is not None and known.version < job.version:
                self.jobs[job.id] = job
        self.now = max(now or self.now, self.now)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the log was at a moment, and how far it is now."""

    position: int
    """0 where the log held nothing yet."""
    time: datetime | None
    """None where it held nothing yet at a position."""
    head: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Store:
    """The readers of the log; each raises StoreUnavailableError while the database is away."""

    database: Database | Held

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Store]:
        """Lend the readers by way of one connection: each other one costs about a statement."""
        async with self.database.session() as session:
            yield replace(self, database=Held(session))

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

    async def watched(self, since: Watched | None = None) -> Watched:
        """Return which jobs the supervisor looks after, and how they stand.

        Only those that have changed are read again where it is told what was read `since` when.
        """
        async with self.database.session() as session:
            seen = (since.position, since.generation) if since is not None else (0, 0)
            row = await session.row("watched_jobs", *seen)
        assert row is not None  # noqa: S101 - the statement always answers one row
        known = dict(since.jobs) if since is not None else {}
        for job in map(state_of, row["changed"]):
            if job.id not in known or known[job.id].version <= job.version:
                known[job.id] = job  # unless something newer was learned meanwhile
        jobs = {job_id: known[job_id] for job_id in row["ids"]}
        return Watched(jobs, row["position"], row["generation"], row["now"])

    async def events(
        self, job_id: int, *, after: int, type_name: str | None, limit: int
    ) -> list[Record]:
        """Return a page of a job's events, in version order."""
        async with self.database.session() as session:
            rows = await session.rows("list_events", job_id, after, type_name, limit)
        return [record_of(row) for row in rows]

    async def job_page(
        self, job_id: int, after: int, *, upto: int | None = None, limit: int = PAGE
    ) -> list[Record]:
        """Return a page of a job's events after a version, up to a position of the log."""
        async with self.database.session() as session:
            rows = await session.rows("history_page", job_id, after, upto, limit)
        return [record_of(row) for row in rows]

    async def log_page(
        self,
        after: int,
        *,
        upto: int | None = None,
        job_ids: list[int] | None = None,
        limit: int = PAGE,
    ) -> list[Record]:
        """Return a page of the whole log, or of what it says of some jobs, in position order."""
        async with self.database.session() as session:
            rows = await session.rows("log_page", after, upto, job_ids, limit)
        return [record_of(row) for row in rows]

    async def jobs_named(self, job_ids: Iterable[int]) -> dict[int, Snapshot]:
        """Return the jobs of these ids as they are now."""
        async with self.database.session() as session:
            rows = await session.rows("get_jobs", list(job_ids))
        return {row["id"]: Snapshot(state_of(row["state"]), row["now"]) for row in rows}

    async def resume_page(self, job_id: int, after: int, *, limit: int = PAGE) -> list[Record]:
        """Return a page of what a further attempt can go on from, in version order."""
        async with self.database.session() as session:
            rows = await session.rows("resume_page", job_id, after, limit)
        return [record_of(row) for row in rows]

    async def launches(self, job_id: int) -> list[tuple[int, str | None, str | None]]:
        """Return of each launch of a job the attempt, and where it was asked for or its uid."""
        async with self.database.session() as session:
            rows = await session.rows("launches_of_job", job_id)
        return [(row["attempt"], row["place"], row["uid"]) for row in rows]

    async def head(self) -> Head:
        """Return where the log ends, and how many jobs have each status there."""
        async with self.database.session() as session:
            return await Writer(session).head()

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

    async def fold_page(self, job_id: int, after: int, *, upto: int, limit: int) -> Row | None:
        """Return what a fold looks at in a job's events after a version, up to a position."""
        async with self.database.session() as session:
            return await session.row("fold_page", job_id, after, upto, limit)

    async def next_event(self, job_id: int, version: int) -> Record | None:
        """Return a job's first event behind a version, if there is one."""
        async with self.database.session() as session:
            row = await session.row("next_event", job_id, version)
        return record_of(row) if row else None

    async def reached(self, position: int) -> Reached:
        """Return when the log reached this position."""
        return await self._reached("time_of_position", position)

    async def reached_by(self, time: datetime) -> Reached:
        """Return which position the log had reached by this time."""
        return await self._reached("position_at_time", time)

    async def _reached(self, statement: str, moment: int | datetime) -> Reached:
        async with self.database.session() as session:
            row = await session.row(statement, moment)
        assert row is not None  # noqa: S101 - the statements always answer one row
        return Reached(**row)

    async def imported(self) -> Imported | None:
        """Return the job that was brought in from another log, if one was."""
        async with self.database.session() as session:
            row = await session.row("imported_job")
        if row is None:
            return None
        seen = Seen.model_validate(row["moment"])
        return Imported(row["job_id"], str(row["log_id"]), row["last_position"], seen.moment())

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
