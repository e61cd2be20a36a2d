"""PostgreSQL: connections, statements by their names, and the schema's migrations.

The only file that knows asyncpg.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import orjson
import structlog
from asyncpg.pool import PoolConnectionProxy

from projections.version import PROJECTIONS_VERSION
from service.errors import SettingsError, StoreUnavailableError
from service.statements import Migration, migrations, statement

SERVICE_ROLE = "epochlog_service"
LOG_LOCK = 0x65706F6C6F67  # "epolog": the family of our advisory locks
MIGRATION_LOCK = LOG_LOCK + 1
REPLAY_LOCK = LOG_LOCK + 3
COMPACT_LOCK = LOG_LOCK + 5
HISTORY_LOCK = LOG_LOCK + 4  # shared by who reads all of the log, exclusive to who compacts it
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
WORKERS = 8
# A writer that stands still (stopped, or cut off) must not keep the log's lock from the others.
SESSION = {
    "application_name": "epochlog",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

OWNER = {"work_mem": "64MB", "maintenance_work_mem": "128MB"}
"""What a session that works on whole tables may use beside that."""

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
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
log = structlog.get_logger(__name__)


class RefusedDataError(Exception):
    """The database refused a value that our own checks let through."""

    def __init__(self, message: str, constraint: str | None = None) -> None:
        """Take what the database says and the constraint that it names, if it names one."""
        super().__init__(message)
        self.constraint = constraint


class LockedError(Exception):
    """Somebody else holds a lock for longer than the session may wait."""


class Session:
    """One connection in the service's narrow role; statements are named as their files."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def is_closed(self) -> bool:
        """Whether the connection was seen to end."""
        return self._connection.is_closed()

    async def rows(self, name: str, *values: Any) -> list[asyncpg.Record]:
        """Run the statement and return all its rows."""
        with _translated():
            return await self._connection.fetch(statement(name), *values)

    async def row(self, name: str, *values: Any) -> asyncpg.Record | None:
        """Run the statement and return its first row, if it has one."""
        with _translated():
            return await self._connection.fetchrow(statement(name), *values)

    async def value(self, name: str, *values: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Run the statement and return the first value of its first row, or None.

        It may take COMMAND_SECONDS, or the `timeout` in seconds.
        """
        with _translated():
            return await self._connection.fetchval(statement(name), *values, timeout=timeout)

    async def run(self, name: str, *values: Any) -> None:
        """Run the statement for what it does."""
        with _translated():
            await self._connection.execute(statement(name), *values)

    async def pages(self, name: str, *values: Any, size: int) -> AsyncIterator[list[Any]]:
        """Yield the statement's rows in pages, through a cursor; needs a transaction around it."""
        with _translated():
            cursor = await self._connection.cursor(statement(name), *values)
            while page := await cursor.fetch(size):
                yield page

    @asynccontextmanager
    async def transaction(self, *, isolation: str = "read_committed") -> AsyncIterator[None]:
        """Commit at the end of the block, or roll back where it raises.

        One in "repeatable_read" sees the log and its projections as of one moment.
        """
        with _translated():
            async with self._connection.transaction(isolation=isolation):  # type: ignore[arg-type]
                if isolation == "repeatable_read":  # its moment comes with the next statement
                    await self._connection.execute(statement("hold_projections"))
                yield

    @asynccontextmanager
    async def listening(self, channel: str, heard: Callable[[str], None]) -> AsyncIterator[None]:
        """Call `heard` with the payload of every notification, while the block and session last."""

        def pass_on(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            heard(str(payload))

        with _translated():
            await self._connection.add_listener(channel, pass_on)
        try:
            yield
        finally:
            with suppress(*LOST):
                await self._connection.remove_listener(channel, pass_on)


class Database:
    """Pools of connections that work in the service's own, narrow role."""

    def __init__(
        self, readers: asyncpg.Pool[asyncpg.Record], workers: asyncpg.Pool[asyncpg.Record]
    ) -> None:
        self._readers = readers
        self._workers = workers

    @classmethod
    async def connect(cls, url: str, *, size: int = 10) -> Self:
        """Open the pools. Raises StoreUnavailableError, or SettingsError before `migrate`.

        What the service itself holds for long (the writer, the supervisor, listeners) has
        connections of its own: slow readers must not keep it waiting.
        """
        readers = await _open_pool(url, size)
        try:
            return cls(readers, await _open_pool(url, WORKERS))
        except BaseException:
            await readers.close()
            raise

    async def close(self) -> None:
        """Let running statements end and close the connections."""
        await self._workers.close()
        await self._readers.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend a connection for a few statements. Raises StoreUnavailableError."""
        async with _acquired(self._readers) as connection:
            yield Session(connection)

    @asynccontextmanager
    async def working_session(self) -> AsyncIterator[Session]:
        """Lend a connection to a part of the service for as long as it likes."""
        async with _acquired(self._workers) as connection:
            yield Session(connection)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Held]:
        """Lend the database by way of one connection, to who reads it again and again."""
        async with self.working_session() as session:
            yield Held(session)

    async def ready(self) -> None:
        """Raise StoreUnavailableError or SettingsError unless the log can be read."""
        async with self.session() as session:
            known = await session.value("check_ready")
        if known < len(migrations()):
            raise _needs_migration()


@dataclass(frozen=True, slots=True)
class Held:
    """A database of one connection, which is not taken and given back for each statement."""

    connection: Session

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend the connection."""
        yield self.connection

    working_session = session


@contextmanager
def _translated() -> Iterator[None]:
    """Raise our own errors in place of asyncpg's."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        raise RefusedDataError(str(error), error.constraint_name) from error
    except asyncpg.DataError as error:
        raise RefusedDataError(str(error)) from error
    except asyncpg.UndefinedTableError as error:
        raise _needs_migration() from error
    except asyncpg.LockNotAvailableError as error:
        raise LockedError from error
    except LOST as error:
        log.warning("store_unavailable", error=str(error) or type(error).__name__)
        raise StoreUnavailableError from error


@asynccontextmanager
async def _acquired(
    pool: asyncpg.Pool[asyncpg.Record],
) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
    with _translated():
        async with pool.acquire(timeout=CONNECT_SECONDS) as connection:
            yield connection


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
    connection = await _connect(url)
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


@asynccontextmanager
async def owner_session(url: str) -> AsyncIterator[Session]:
    """Lend a connection as the URL's own user, who owns the tables: for what only `migrate` may.

    Raises as `migrate` does.
    """
    connection = await _connect(url, server_settings={**SESSION, **OWNER})
    try:
        await _speak_json(connection)
        yield Session(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise SettingsError(
            f"EPOCHLOG_DATABASE_URL needs the user that ran `epochlog migrate`: {error}"
        ) from error
    finally:
        with suppress(*LOST):
            await connection.close(timeout=CONNECT_SECONDS)


async def _connect(url: str, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS, **options)
    except ValueError as error:
        raise SettingsError(f"EPOCHLOG_DATABASE_URL needs a complete URL: {error}") from error
    except LOST as error:
        raise StoreUnavailableError(f"The database cannot be reached: {error}") from error


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
        await connection.execute(statement("note_new_projections"), PROJECTIONS_VERSION)
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
    await _speak_json(connection)


async def _speak_json(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_dump, decoder=orjson.loads, format="text"
    )


def _dump(value: Any) -> str:
    """Return JSON for the database; a text is JSON already."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
