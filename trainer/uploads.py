"""Checkpoints on their way to the storage: in a thread of their own, the newest first."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from trainer.failures import code_of
from trainer.storage import Storage, Stored

log = logging.getLogger(__name__)

Result = TypeVar("Result")

LONGEST_MESSAGE = 2000
# How often somebody who waits looks whether their time has become shorter.
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best weights so far, as the log names them."""

    uri: str
    sha256: str | None
    bytes: int | None
    epoch: int

    def named(self) -> dict[str, Any]:
        """Return what an event says of it."""
        about = {"uri": self.uri, "sha256": self.sha256, "bytes": self.bytes, "epoch": self.epoch}
        return {name: value for name, value in about.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One checkpoint, in files that nobody else writes to."""

    epoch: int
    last: Path
    partial: bool
    best: Path | None = None
    best_epoch: int = 0

    def after(self, older: Snapshot | None) -> Snapshot:
        """Take the place of an older one that was not sent, with the best weights it brought."""
        if older is None or older.best is None:
            return self
        if self.best is not None:
            older.best.unlink(missing_ok=True)
            return self
        return replace(self, best=older.best, best_epoch=older.best_epoch)


class OutOfTimeError(Exception):
    """There was no time left for it."""


class Slots:
    """Two keys in turn: what the log named last is never overwritten by what comes next."""

    def __init__(self, first: str, second: str) -> None:
        """Begin with the first."""
        self._keys = (first, second)
        self._turn = 0

    @property
    def key(self) -> str:
        """Where the next one goes, until it is settled."""
        return self._keys[self._turn]

    def settle(self) -> None:
        """The log names it: the other key is next."""
        self._turn = 1 - self._turn


class Uploads:
    """Sends checkpoints while the training goes on; a failure is said, and the next one tried."""

    def __init__(
        self,
        *,
        storage: Storage,
        folder: str,
        say: Callable[..., None],
        aside: Path,
    ) -> None:
        """Take the folder of keys, whom to tell, and a scratch folder for copies."""
        self._storage = storage
        self._folder = folder
        self._say = say
        self._aside = aside
        self._copies = 0
        self._slots: Slots | None = None
        self._best_slots = Slots(f"{folder}/best.pt", f"{folder}/best-1.pt")
        self._best: Best | None = None
        self._best_seen: object = None
        self._brought: tuple[object, int] = (None, 0)
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._sending = False
        self._thread: threading.Thread | None = None

    def know_best(self, best: Best | None, file: Path, epoch: int) -> None:
        """Note the best weights that a resumed training brought back to this file.

        Where the storage has no such object, they are sent with the next checkpoint.
        """
        self._best, state = best, _state_of(file)
        if best is not None:
            self._best_seen = state
        else:
            self._brought = (state, epoch)

    def offer(self, epoch: int, last: Path, best: Path, *, partial: bool = False) -> None:
        """Copy a checkpoint aside and return; it is sent as soon as the one before is."""
        try:
            snapshot = self._copied(epoch, last, best, partial=partial)
        except OSError as error:
            self._failed(epoch, error)
            return
        with self._changed:
            older, self._waiting = self._waiting, snapshot.after(self._waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if older is not None:
            log.info("epoch %d's checkpoint is not sent: a newer one is there", older.epoch)
            older.last.unlink(missing_ok=True)

    def settle(self, left: Callable[[], float]) -> bool:
        """Wait until all is sent, or no time is left; return whether it is."""
        with self._changed:
            while self._waiting is not None or self._sending:
                seconds = left()
                if seconds <= 0:
                    return False
                self._changed.wait(min(seconds, LOOK_SECONDS))
        return True

    def _copied(self, epoch: int, last: Path, best: Path, *, partial: bool) -> Snapshot:
        self._aside.mkdir(parents=True, exist_ok=True)
        self._copies += 1
        snapshot = Snapshot(
            epoch=epoch,
            last=_copy(last, self._aside / f"{self._copies}-last.pt"),
            partial=partial,
        )
        state = _state_of(best)
        if state is None or state == self._best_seen:
            return snapshot
        copy = _copy(best, self._aside / f"{self._copies}-best.pt")
        self._best_seen = state
        brought, epoch_brought = self._brought
        return replace(snapshot, best=copy, best_epoch=epoch_brought if state == brought else epoch)

    def _run(self) -> None:
        owed: Snapshot | None = None  # its best weights did not get through
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting is not None)
                assert self._waiting is not None  # noqa: S101 - what was waited for
                snapshot, self._waiting = self._waiting.after(owed), None
                self._sending = True
            owed = self._send(snapshot)

    def _send(self, snapshot: Snapshot) -> Snapshot | None:
        """Send one; return it where its best weights are still to be sent with the next."""
        owed: Snapshot | None = snapshot
        try:
            # The best first: a checkpoint must never know of better weights than are there.
            self._send_best(snapshot)
            owed = None
            self._send_last(snapshot)
        except Exception as error:
            self._failed(snapshot.epoch, error)
        finally:
            snapshot.last.unlink(missing_ok=True)
        return owed

    def _send_best(self, snapshot: Snapshot) -> None:
        if snapshot.best is None:
            return
        stored = self._storage.store(snapshot.best, self._best_slots.key)
        self._best = Best(
            uri=stored.uri, sha256=stored.sha256, bytes=stored.bytes, epoch=snapshot.best_epoch
        )
        self._best_slots.settle()
        snapshot.best.unlink(missing_ok=True)

    def _send_last(self, snapshot: Snapshot) -> None:
        if self._slots is None:
            first = snapshot.epoch % 2
            self._slots = Slots(*(f"{self._folder}/checkpoint-{n}.pt" for n in (first, 1 - first)))
        stored = self._storage.store(snapshot.last, self._slots.key)
        self._slots.settle()
        about: dict[str, Any] = {"best": self._best.named()} if self._best else {}
        if snapshot.partial:
            about["partial"] = True
        self._say("checkpoint_saved", epoch=snapshot.epoch, **artifact("last.pt", stored), **about)

    def _failed(self, epoch: int, error: Exception) -> None:
        log.warning("epoch %d's checkpoint was not stored", epoch, exc_info=error)
        message = str(error)[:LONGEST_MESSAGE]
        self._say("checkpoint_failed", epoch=epoch, code=code_of(error), message=message)


def artifact(name: str, stored: Stored) -> dict[str, Any]:
    """Return what callbacks say about a file in the storage."""
    return {"name": name, "uri": stored.uri, "sha256": stored.sha256, "bytes": stored.bytes}


def patiently(work: Callable[[], Result], left: Callable[[], float]) -> Result:
    """Return what `work` does in another thread; raise OutOfTimeError once no time is left."""
    ended: list[Result] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            ended.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=do, name="patience", daemon=True)
    thread.start()
    while thread.is_alive():
        if left() <= 0:
            raise OutOfTimeError
        thread.join(LOOK_SECONDS)
    if failed:
        raise failed[0]
    return ended[0]


def until(seconds: float, also: Callable[[], float]) -> Callable[[], float]:
    """Return how much is left of so many seconds from now, or of another limit, if that is less."""
    deadline = time.monotonic() + seconds
    return lambda: min(deadline - time.monotonic(), also())


def _copy(source: Path, target: Path) -> Path:
    try:
        shutil.copyfile(source, target)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return target


def _state_of(file: Path) -> object:
    """Return what changes whenever the file is written, or None without it."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
