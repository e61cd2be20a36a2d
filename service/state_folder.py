"""The folder where a local service keeps its keys, and says that and where it runs."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from service.errors import SettingsError, StateFolderInUseError

PATIENCE = 2.0
"""Seconds to wait for the lock: a killed service's last moments, or a client's short look."""


class Announcement(BaseModel):
    """Which process serves this folder, and where it listens."""

    url: str
    pid: int


class StateFolder:
    """A folder of one service at a time; it is made when the first thing is written."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is touched yet."""
        self.path = path
        self._lock: int | None = None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process, or raise StateFolderInUseError."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """Take the folder until `release`, or until this process ends in whatever way."""
        with self._as_settings_error():
            self._make()
            lock = os.open(self.path / "service.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if not _lock_within(lock, PATIENCE):
            os.close(lock)
            raise StateFolderInUseError(self._who_holds_it())
        self._lock = lock
        with self._as_settings_error():
            self.withdraw()  # what a killed service said
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the folder back; again is harmless."""
        if self._lock is None:
            return
        try:
            self.withdraw()
        finally:
            os.close(self._lock)
            self._lock = None

    def announce(self, url: str, pid: int) -> None:
        """Tell clients on this machine where the service listens."""
        said = Announcement(url=url, pid=pid).model_dump_json()
        with self._as_settings_error():
            self._write_aside("service.json", said).replace(self.path / "service.json")

    def withdraw(self) -> None:
        """Take the announcement back; again is harmless."""
        with self._as_settings_error():
            (self.path / "service.json").unlink(missing_ok=True)

    def announced(self) -> str | None:
        """Return the URL of the service that runs on this folder now, if one does."""
        said = self._announcement()
        return said.url if said and _is_locked(self.path / "service.lock") else None

    def secret_key(self) -> str:
        """Return the key that signs this folder's tokens, made at the first call."""
        return self._kept("secret-key", lambda: secrets.token_urlsafe(48))

    def api_token(self) -> str:
        """Return the control API's admin token, made at the first call."""
        return self._kept("api-token", lambda: f"epl_{secrets.token_urlsafe(32)}")

    def identity(self) -> str:
        """Return what tells this folder from every other, made at the first call."""
        return self._kept("identity", lambda: secrets.token_hex(16))

    def serves(self, log_id: str) -> None:
        """Note which log this folder serves; SettingsError where it serves another already.

        What lies here of job 1 would be taken for job 1 of the other log.
        """
        if self._kept("log-id", lambda: log_id) != log_id:
            raise SettingsError(
                f"EPOCHLOG_STATE_DIR needs a folder of its own for each database: {self.path}"
                " serves another one; name another folder, or delete this one."
            )

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.path / name
        with self._as_settings_error():
            if not path.exists():
                self._make()
                self._keep(name, make())
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            kept = path.read_text("utf-8", "replace").strip()
        if len(kept) < 32:
            raise SettingsError(
                f"EPOCHLOG_STATE_DIR needs an intact {path}; delete it for a new one."
            )
        return kept

    def _keep(self, name: str, value: str) -> None:
        """Write a file once: of several writers at once the first wins, and all read its value."""
        aside = self._write_aside(name, value)
        try:
            os.link(aside, self.path / name)
        except FileExistsError:
            pass
        finally:
            aside.unlink()

    def _write_aside(self, name: str, text: str) -> Path:
        aside = self.path / f".{name}.{secrets.token_hex(8)}"
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(file)
        return aside

    def _announcement(self) -> Announcement | None:
        try:
            return Announcement.model_validate_json((self.path / "service.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def _holder(self) -> str:
        with suppress(OSError):
            return (self.path / "service.lock").read_text("utf-8", "replace")
        return ""

    def _who_holds_it(self) -> str:
        said = self._announcement()
        who = f"pid {self._holder() or 'unknown'}" + (f", {said.url}" if said else "")
        return (
            f"Another service ({who}) runs on the state folder {self.path};"
            " stop it, or give this one another EPOCHLOG_STATE_DIR."
        )

    @contextmanager
    def _as_settings_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingsError(
                f"EPOCHLOG_STATE_DIR needs a folder that this user can write;"
                f" {self.path} is not ({error.strerror})."
            ) from error


def _lock_within(file: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not _try_lock(file, fcntl.LOCK_EX):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)
