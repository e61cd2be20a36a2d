"""The log and its read model in PostgreSQL: the only file that knows asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import asyncpg
import orjson
import structlog
from asyncpg.pool import PoolConnectionProxy
from pydantic import TypeAdapter

from projections.events import Record, Source, decode, encode
from projections.job import JobState
from service.errors import SettingsError, StoreUnavailableError
from service.statements import Migration, migrations, statement

SERVICE_ROLE = "epochlog_service"
LOG_LOCK = 0x65706F6C6F67  # "epolog": the one lock that orders the log's writers
MIGRATION_LOCK = LOG_LOCK + 1
SUPERVISOR_LOCK = LOG_LOCK + 2
PAGE = 500
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
# A writer that stands still (stopped, or cut off) must not keep the log's lock from the others.
SESSION = {
    "application_name": "epochlog",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

# What asyncpg raises when the database is gone, going, starting or out of room.
LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection was lost while it was given back to the pool
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)

if TYPE_CHECKING:  # generic in its stubs only
    Connection = asyncpg.Connection[asyncpg.Record]
log = structlog.get_logger(__name__)
_states = TypeAdapter(JobState)


class RefusedDataError(Exception):
    """The database refused a value that our own checks let through."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends, seen under its lock."""

    now: datetime
    position: int
    job_id: int


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job's folded state and the hash of its last event."""

    state: JobState
    hash: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job's state as read, and the database's time at that."""

    state: JobState
    now: datetime


class Writing:
    """One transaction that holds the log's lock: what it reads stays true until it commits."""

    def __init__(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        self._connection = connection

    async def head(self) -> Head:
        """Return where the log ends and the time at which this batch is recorded."""
        row = await self._connection.fetchrow(statement("read_head"))
        assert row is not None  # noqa: S101 - the statement always answers one row
        return Head(now=row["now"], position=row["position"], job_id=row["job_id"])

    async def jobs(self, job_ids: Iterable[int]) -> dict[int, StoredJob]:
        """Return the jobs of these ids that exist."""
        rows = await self._connection.fetch(statement("load_jobs"), list(job_ids))
        return {row["id"]: StoredJob(_state(row["state"]), row["hash"].hex()) for row in rows}

    async def jobs_by_key(self, keys: Iterable[str]) -> dict[str, int]:
        """Return which job each idempotency key has made."""
        rows = await self._connection.fetch(statement("load_jobs_by_key"), list(keys))
        return {row["idempotency_key"]: row["id"] for row in rows}

    async def by_event_id(self, asked: Sequence[tuple[int, str]]) -> list[Record]:
        """Return the events recorded already under these (job id, event id)."""
        ids, event_ids = [job for job, _ in asked], [UUID(event_id) for _, event_id in asked]
        rows = await self._connection.fetch(statement("find_by_event_id"), ids, event_ids)
        return [_record(row) for row in rows]

    async def by_seq(self, asked: Sequence[tuple[int, int, int]]) -> list[Record]:
        """Return the first event recorded under each of these (job id, attempt, seq)."""
        columns = [[item[column] for item in asked] for column in range(3)]
        rows = await self._connection.fetch(statement("find_by_seq"), *columns)
        return [_record(row) for row in rows]

    async def append(self, records: Sequence[Record], jobs: Iterable[StoredJob]) -> None:
        """Write the events, and the jobs as the events leave them.

        Raises RefusedDataError where the database takes a value for wrong.
        """
        try:
            await self._connection.execute(statement("append_events"), *_event_columns(records))
            await self._connection.execute(statement("save_jobs"), *_job_columns(list(jobs)))
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise RefusedDataError(str(error)) from error


class Lease:
    """The right to supervise, for as long as this connection lives."""

    def __init__(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        self._connection = connection

    async def check(self) -> None:
        """Raise an error where the connection, and so the lease, is lost."""
        await self._connection.execute(statement("clock"))


class PostgresStore:
    """A pool of connections that work in the service's own, narrow role."""

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], writers: asyncpg.Pool[asyncpg.Record]
    ) -> None:
        self._pool = pool
        self._writers = writers

    @classmethod
    async def connect(cls, url: str, *, size: int = 10) -> Self:
        """Open the pools. Raises StoreUnavailableError, or SettingsError before `migrate`.

        The writer and the supervisor have connections of their own: slow readers must not keep
        them waiting.
        """
        pool = await _open_pool(url, size)
        try:
            return cls(pool, await _open_pool(url, 2))
        except BaseException:
            await pool.close()
            raise

    async def close(self) -> None:
        """Let running statements end and close the connections."""
        await self._writers.close()
        await self._pool.close()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writing]:
        """Hold the log's lock for one transaction, which commits at the end of the block."""
        async with self._connected(self._writers) as connection, connection.transaction():
            await connection.execute(statement("lock_log"), LOG_LOCK)
            yield Writing(connection)

    @asynccontextmanager
    async def supervising(self) -> AsyncIterator[Lease | None]:
        """Hold the lease on supervising this log, or None while another service holds it."""
        async with self._connected(self._writers) as connection:
            held = await connection.fetchval(statement("try_to_supervise"), SUPERVISOR_LOCK)
            yield Lease(connection) if held else None

    async def log_id(self) -> str:
        """Return what tells this log from every other."""
        async with self._connected() as connection:
            return str(await connection.fetchval(statement("log_identity")))

    async def ready(self) -> None:
        """Raise StoreUnavailableError or SettingsError unless the log can be read."""
        async with self._connected() as connection:
            try:
                known = await connection.fetchval(statement("check_ready"))
            except asyncpg.UndefinedTableError as error:
                raise _needs_migration() from error
        if known < len(migrations()):
            raise _needs_migration()

    async def job(self, job_id: int) -> Snapshot | None:
        """Return the job as it is now, if there is one."""
        async with self._connected() as connection:
            row = await connection.fetchrow(statement("get_job"), job_id)
        return Snapshot(_state(row["state"]), row["now"]) if row else None

    async def jobs(
        self, *, status: str | None, labels: dict[str, str] | None, below: int | None, limit: int
    ) -> list[Snapshot]:
        """Return jobs, newest first, that are below an id and match."""
        async with self._connected() as connection:
            rows = await connection.fetch(statement("list_jobs"), status, labels, below, limit)
        return [Snapshot(_state(row["state"]), row["now"]) for row in rows]

    async def watched(self) -> list[Snapshot]:
        """Return every job that the supervisor looks after."""
        async with self._connected() as connection:
            rows = await connection.fetch(statement("watched_jobs"))
        return [Snapshot(_state(row["state"]), row["now"]) for row in rows]

    async def events(
        self, job_id: int, *, after: int, type_name: str | None, limit: int
    ) -> list[Record]:
        """Return a page of a job's events, in version order."""
        async with self._connected() as connection:
            rows = await connection.fetch(statement("list_events"), job_id, after, type_name, limit)
        return [_record(row) for row in rows]

    async def history(
        self, job_id: int, *, position: int | None = None, time: datetime | None = None
    ) -> AsyncIterator[list[Record]]:
        """Yield pages of a job's events up to a position, or as the log held them at a time."""
        version = 0
        while True:
            async with self._connected() as connection:
                rows = await connection.fetch(
                    statement("history_page"), job_id, version, position, time, PAGE
                )
            if rows:
                yield [_record(row) for row in rows]
            if len(rows) < PAGE:
                return
            version = rows[-1]["version"]

    async def time_of(self, position: int) -> datetime | None:
        """Return when the log reached this position; None where it holds nothing before it."""
        async with self._connected() as connection:
            reached: datetime | None = await connection.fetchval(
                statement("time_of_position"), position
            )
        return reached

    async def now(self) -> datetime:
        """Return the database's time."""
        async with self._connected() as connection:
            moment: datetime = await connection.fetchval(statement("clock"))
        return moment

    async def add_api_token(self, name: str, role: str, digest: bytes) -> tuple[int, datetime]:
        """Keep a token's hash; return its id and when it was made."""
        async with self._connected() as connection:
            row = await connection.fetchrow(statement("add_api_token"), name, role, digest)
        assert row is not None  # noqa: S101 - the statement always answers one row
        return row["id"], row["created_at"]

    async def api_token_role(self, digest: bytes) -> str | None:
        """Return the role of the token with this hash, if there is one."""
        async with self._connected() as connection:
            row = await connection.fetchrow(statement("find_api_token"), digest)
        return row["role"] if row else None

    @asynccontextmanager
    async def _connected(
        self, pool: asyncpg.Pool[asyncpg.Record] | None = None
    ) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        try:
            async with (pool or self._pool).acquire(timeout=CONNECT_SECONDS) as connection:
                yield connection
        except LOST as error:
            log.warning("store_unavailable", error=str(error) or type(error).__name__)
            raise StoreUnavailableError from error


async def _open_pool(url: str, size: int) -> asyncpg.Pool[asyncpg.Record]:
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings=SESSION,
            init=_prepare,
        )
    except (asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError) as error:
        raise _needs_migration() from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SettingsError(
            f"EPOCHLOG_DATABASE_URL needs a user that is a member of the role {SERVICE_ROLE}"
        ) from error
    except ValueError as error:
        raise SettingsError(f"EPOCHLOG_DATABASE_URL needs a complete URL: {error}") from error
    except LOST as error:
        raise StoreUnavailableError(f"The database cannot be reached: {error}") from error


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date and return the migrations applied; safe to run twice at once.

    Raises SettingsError where the database is not ours to change, StoreUnavailableError where it
    cannot be reached.
    """
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    except ValueError as error:
        raise SettingsError(f"EPOCHLOG_DATABASE_URL needs a complete URL: {error}") from error
    except LOST as error:
        raise StoreUnavailableError(f"The database cannot be reached: {error}") from error
    try:
        return await _migrate(connection)
    except LOST as error:
        raise StoreUnavailableError(f"The database was lost in a migration: {error}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SettingsError(
            "EPOCHLOG_DATABASE_URL needs a user that may create tables, and the role"
            f" {SERVICE_ROLE} (CREATEROLE, or a role made beforehand and granted to it): {error}"
        ) from error
    finally:
        await connection.close()


async def _migrate(connection: Connection) -> list[str]:
    await connection.execute(statement("lock_migrations"), MIGRATION_LOCK)
    try:
        await connection.execute(statement("create_service_role"))
        await connection.execute(statement("grant_service_role"))
        await connection.execute(statement("create_migrations_table"))
        await connection.execute(statement("grant_schema"))
        applied = {row["name"]: row["sha256"] for row in await _applied(connection)}
        pending = [step for step in migrations() if _is_pending(step, applied)]
        for step in pending:
            await _apply(connection, step)
    finally:
        await connection.execute(statement("unlock_migrations"), MIGRATION_LOCK)
    return [step.name for step in pending]


async def _applied(connection: Connection) -> list[asyncpg.Record]:
    return await connection.fetch(statement("list_migrations"))


async def _apply(connection: Connection, step: Migration) -> None:
    async with connection.transaction():
        await connection.execute(step.sql)
        await connection.execute(statement("note_migration"), step.name, step.sha256)


def _is_pending(step: Migration, applied: dict[str, str]) -> bool:
    if step.name not in applied:
        return True
    if applied[step.name] != step.sha256:
        raise SettingsError(
            f"EPOCHLOG_DATABASE_URL holds another migration {step.name} than this build:"
            " it was edited after it was applied, or the database is not Epochlog's"
        )
    return False


def _needs_migration() -> SettingsError:
    return SettingsError(
        "EPOCHLOG_DATABASE_URL needs a database with Epochlog's schema: run `epochlog migrate`"
    )


async def _prepare(connection: Connection) -> None:
    """Make a new connection ours: the narrow role, and JSON in and out as Python values."""
    await connection.execute(statement("work_as_service"))
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_dump, decoder=orjson.loads, format="text"
    )


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _state(data: Any) -> JobState:
    return _states.validate_python(data)


def _record(row: asyncpg.Record) -> Record:
    return Record(
        position=row["position"],
        job_id=row["job_id"],
        version=row["version"],
        attempt=row["attempt"],
        event_id=str(row["event_id"]),
        source=Source(row["source"]),
        trace_id=str(row["trace_id"]),
        seq=row["seq"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        event=decode(row["type"], row["data"]),
        rule=row["rule"],
        hash=row["hash"].hex(),
        stored=row["data"],
    )


def _event_columns(records: Sequence[Record]) -> tuple[list[Any], ...]:
    return (
        [record.position for record in records],
        [record.job_id for record in records],
        [record.version for record in records],
        [record.attempt for record in records],
        [UUID(record.event_id) for record in records],
        [record.type for record in records],
        [record.source.value for record in records],
        [UUID(record.trace_id) for record in records],
        [record.seq for record in records],
        [record.occurred_at for record in records],
        [record.recorded_at for record in records],
        [record.rule for record in records],
        [encode(record.event) for record in records],
        [bytes.fromhex(record.hash) for record in records],
    )


def _job_columns(jobs: Sequence[StoredJob]) -> tuple[list[Any], ...]:
    states = [job.state for job in jobs]
    return (
        [state.id for state in states],
        [state.version for state in states],
        [state.position for state in states],
        [bytes.fromhex(job.hash) for job in jobs],
        [state.status.value for state in states],
        [not state.status.is_final or state.holds_resources for state in states],
        [dict(state.labels) for state in states],
        [state.idempotency_key for state in states],
        [_states.dump_python(state, mode="json") for state in states],
    )
