import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from service import embedded
from service.embedded import EmbeddedPostgres, EmbeddedPostgresError

AS_ROOT = os.geteuid() == 0
ONLY_ROOT = pytest.mark.skipif(not AS_ROOT, reason="only root can make another user's folder")
SOMEBODY = 65534

# Started by root, it becomes a plain user once everything it needs is imported.
SERVE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
import asyncio, os, sys
from pathlib import Path
from service.embedded import EmbeddedPostgres, EmbeddedPostgresError
folder, uid = Path(sys.argv[1]), int(sys.argv[2])
asyncio.run(asyncio.to_thread(int))
if uid != os.geteuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
server = EmbeddedPostgres(folder)
try:
    print(asyncio.run(server.start()), flush=True)
except EmbeddedPostgresError as error:
    sys.exit(str(error))
sys.stdin.read()
asyncio.run(server.stop())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Not pytest's tmp_path: another pytest on this machine closes the way to it again."""
    made = Path(tempfile.mkdtemp(prefix="epochlog test "))
    yield made
    left_running = running_in(made)
    shutil.rmtree(made)
    assert not left_running


@pytest.fixture
async def fresh(home: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server whose data folder is still to be made."""
    server = EmbeddedPostgres(home / "state" / "postgres")
    yield server
    await server.stop()


@pytest.fixture(scope="module")
def used() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory() as folder:
        yield EmbeddedPostgres(Path(folder, "state", "postgres"))


@pytest.fixture
async def server(used: EmbeddedPostgres) -> AsyncIterator[EmbeddedPostgres]:
    """A server that ran before, in other tests."""
    used._server.log.unlink(missing_ok=True)
    yield used
    await used.stop()
    assert not running_in(folder_of(used))


def chown_all(folder: Path, uid: int, gid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid)


def running_in(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if str(folder) in cwd_of(process)]


def cwd_of(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def until(true: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def write(dsn: str, rows: int) -> None:
    async with connected(dsn) as database:
        await database.execute("drop table if exists t")
        await database.execute("create table t (n int)")
        for n in range(rows):
            await database.execute("insert into t values ($1)", n)


async def written(dsn: str) -> object:
    async with connected(dsn) as database:
        return await database.fetchval("select count(*) from t")


def folder_of(server: EmbeddedPostgres) -> Path:
    return server._server.folder


def postmaster_of(server: EmbeddedPostgres) -> int:
    return int((folder_of(server) / "postmaster.pid").read_text().split()[0])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def a_service(folder: Path, uid: int = os.geteuid()) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), str(uid)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as service:
        try:
            yield service
        finally:
            service.kill()


def said_by(service: "subprocess.Popen[str]") -> str:
    assert service.stdout
    return service.stdout.readline().strip()


async def test_a_stop_and_a_start_lose_nothing(server: EmbeddedPostgres) -> None:
    await write(await server.start(), rows=3)
    await server.stop()

    assert not running_in(folder_of(server))
    assert await written(await server.start()) == 3


async def test_the_server_is_private_durable_and_offline(server: EmbeddedPostgres) -> None:
    names = "fsync synchronous_commit full_page_writes data_checksums listen_addresses"
    async with connected(await server.start()) as database:
        shown = [await database.fetchval(f"show {name}") for name in names.split()]
        me = await database.fetchrow(
            "select current_user::text, rolsuper from pg_roles where rolname = current_user"
        )

    assert shown == ["on", "on", "on", "on", ""]
    assert tuple(me) == ("epochlog", False)
    assert mode(folder_of(server)) == mode(server._server.socket) == 0o700
    assert mode(server._server.log) == 0o600
    assert mode(folder_of(server).parent) == (0o701 if AS_ROOT else 0o700)


async def test_a_stop_of_what_does_not_run_does_nothing(server: EmbeddedPostgres) -> None:
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()
    assert not server._server.socket.exists()


async def test_two_starts_at_once_share_one_server(fresh: EmbeddedPostgres) -> None:
    other = EmbeddedPostgres(folder_of(fresh))

    first, second = await asyncio.gather(fresh.start(), other.start())

    assert first == second
    await write(first, rows=1)


async def test_a_plain_user_needs_no_root(home: Path) -> None:
    uid = SOMEBODY if AS_ROOT else os.geteuid()
    if AS_ROOT:
        os.chown(home, uid, uid)
    with a_service(home / "state" / "postgres", uid) as service:
        assert said_by(service).startswith("postgresql://epochlog@/epochlog?host=")
        assert service.communicate(timeout=20) == ("", "")
        assert service.returncode == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
async def test_a_server_that_outlived_its_service_is_adopted(
    server: EmbeddedPostgres, end: signal.Signals
) -> None:
    with a_service(folder_of(server)) as service:
        await write(said_by(service), rows=2)
        process = postmaster_of(server)
        os.killpg(service.pid, end)
        service.wait()

    assert await written(await server.start()) == 2
    assert postmaster_of(server) == process


async def test_every_committed_row_survives_kill_9(server: EmbeddedPostgres) -> None:
    dsn = await server.start()
    async with connected(dsn):
        await write(dsn, rows=200)
        os.kill(postmaster_of(server), signal.SIGKILL)

        assert await written(await server.start()) == 200


async def test_a_recycled_pid_is_not_the_server(server: EmbeddedPostgres) -> None:
    await write(await server.start(), rows=1)
    folder, socket = folder_of(server), server._server.socket
    locks = [folder / "postmaster.pid", socket / ".s.PGSQL.5432.lock"]
    left = {lock: lock.read_text().split("\n", 1)[1] for lock in locks}
    await server.stop()
    socket.mkdir(mode=0o700)

    uid = server._server.account.uid if AS_ROOT else None
    with subprocess.Popen(["sleep", "60"], user=uid) as stranger:  # noqa: ASYNC220
        for lock, rest in left.items():
            lock.write_text(f"{stranger.pid}\n{rest}")
        await server.stop()
        assert await written(await server.start()) == 1
        assert stranger.poll() is None
        stranger.kill()


async def test_a_torn_pid_file_is_no_obstacle(server: EmbeddedPostgres) -> None:
    await server.start()
    await server.stop()
    (folder_of(server) / "postmaster.pid").touch()

    await write(await server.start(), rows=1)


async def test_a_server_without_its_socket_is_started_anew(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SILENCE_LIMIT", 0.1)
    await write(await server.start(), rows=1)
    shutil.rmtree(server._server.socket)

    assert await written(await server.start()) == 1


async def test_a_server_that_hangs_is_stopped_all_the_same(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_LIMIT", 1)
    monkeypatch.setattr(embedded, "ORPHAN_LIMIT", 0.2)
    await server.start()
    os.kill(postmaster_of(server), signal.SIGSTOP)

    await server.stop()

    assert not running_in(folder_of(server))


async def test_a_folder_deleted_under_its_server_is_made_anew(
    fresh: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "ORPHAN_LIMIT", 0.5)
    await write(await fresh.start(), rows=1)
    shutil.rmtree(folder_of(fresh).parent)

    async with connected(await fresh.start()) as database:
        assert await database.fetchval("select to_regclass('t')") is None


async def test_a_killed_initdb_leaves_nothing_half_made(fresh: EmbeddedPostgres) -> None:
    folder = folder_of(fresh)
    with a_service(folder) as service:
        until(lambda: list(folder.parent.glob(".postgres.*.new/base/*")))
        os.killpg(service.pid, signal.SIGKILL)
        service.wait()
    assert not folder.exists()

    await write(await fresh.start(), rows=1)

    until(lambda: all(cwd_of(process) == str(folder) for process in running_in(folder.parent)))
    await fresh.start()
    assert {path.name for path in folder.parent.iterdir()} == {"postgres", "postgres.log"}


async def test_any_folders_name_will_do(home: Path) -> None:
    name = "deep/" * 25 + 'it\'s a "quoted" $(touch broken) folder'
    server = EmbeddedPostgres(home / name / "postgres")
    try:
        await write(await server.start(), rows=1)
    finally:
        await server.stop()


async def test_a_folder_of_another_version_is_refused(fresh: EmbeddedPostgres) -> None:
    folder_of(fresh).mkdir(parents=True)
    (folder_of(fresh) / "PG_VERSION").write_text("16\n")

    with pytest.raises(EmbeddedPostgresError, match=r"is version 18, and PostgreSQL 16 made"):
        await fresh.start()


async def test_a_folder_of_something_else_is_refused(fresh: EmbeddedPostgres) -> None:
    folder_of(fresh).mkdir(parents=True)
    (folder_of(fresh) / "thesis.txt").touch()

    with pytest.raises(EmbeddedPostgresError, match="this one holds something else"):
        await fresh.start()
    assert (folder_of(fresh) / "thesis.txt").exists()


async def test_a_failed_start_quotes_the_servers_last_words(server: EmbeddedPostgres) -> None:
    await server.start()
    await server.stop()
    needed = folder_of(server) / "global" / "pg_control"
    aside = needed.rename(needed.with_suffix(".aside"))

    with pytest.raises(EmbeddedPostgresError, match=r"does not start: .*pg_control") as failed:
        await server.start()
    assert "\n" not in str(failed.value)
    aside.rename(needed)


async def test_a_long_log_is_begun_anew(server: EmbeddedPostgres) -> None:
    await server.start()
    await server.stop()
    os.truncate(server._server.log, embedded.LOG_LIMIT + 1)

    await server.start()

    assert server._server.log.stat().st_size < 10_000


async def test_a_socket_folder_laid_out_by_somebody_else_is_refused(
    server: EmbeddedPostgres, home: Path
) -> None:
    server._server.socket.symlink_to(home)
    try:
        with pytest.raises(EmbeddedPostgresError, match=rf"cannot use {server._server.socket}"):
            await server.start()
    finally:
        server._server.socket.unlink()


@ONLY_ROOT
async def test_a_socket_folder_of_somebody_else_is_refused(server: EmbeddedPostgres) -> None:
    server._server.socket.mkdir()
    os.chown(server._server.socket, SOMEBODY, SOMEBODY)
    try:
        with pytest.raises(EmbeddedPostgresError, match="that folder is somebody else's"):
            await server.start()
    finally:
        server._server.socket.rmdir()


@ONLY_ROOT
@pytest.mark.parametrize("made", ["state", "state/postgres"], ids=["read-only", "somebody else's"])
def test_a_plain_user_is_told_what_cannot_be_used(home: Path, made: str) -> None:
    (home / made).mkdir(parents=True)
    home.chmod(0o755)
    with a_service(home / "state" / "postgres", SOMEBODY) as service:
        _, said = service.communicate(timeout=20)

    assert service.returncode == 1
    assert said.count("\n") == 1
    assert f"The embedded PostgreSQL in {home}/state/postgres cannot use " in said


@ONLY_ROOT
async def test_a_folder_that_was_given_to_root_is_given_back(server: EmbeddedPostgres) -> None:
    await write(await server.start(), rows=1)
    await server.stop()
    chown_all(folder_of(server), 0, 0)

    assert await written(await EmbeddedPostgres(folder_of(server)).start()) == 1
