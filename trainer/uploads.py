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
class Offer:
    """One checkpoint: the files as they were when it was made, or copies that nobody writes to."""

    epoch: int
    partial: bool
    last: Path
    last_state: object
    best: Path
    best_state: object
    best_epoch: int
    copied: bool = False

    def drop(self) -> None:
        """Remove the copies."""
        if self.copied:
            self.last.unlink(missing_ok=True)
            self.best.unlink(missing_ok=True)


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

    def spare(self, uri: str | None) -> None:
        """Let the other key be next where this one is what a URI names."""
        if uri is not None and uri.endswith(f"/{self.key}"):
            self.settle()


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
        self._slots: Slots | None = None
        self._ground: str | None = None
        self._best_slots = Slots(f"{folder}/best.pt", f"{folder}/best-1.pt")
        self._best: Best | None = None
        self._best_state: object = None
        self._best_sent: object = None
        self._best_epoch = 0
        self._best_is_news = False  # to the log
        self._changed = threading.Condition()
        self._waiting: Offer | None = None
        self._sending = False
        self._thread: threading.Thread | None = None

    def know_ground(self, uri: str) -> None:
        """Note what it goes on from: an earlier process of this attempt may have sent it."""
        self._ground = uri

    def know_best(self, best: Best | None, file: Path, epoch: int) -> None:
        """Note the best weights that a resumed training brought back to this file.

        Where the storage has no such object, they are sent with the next checkpoint.
        """
        self._best, self._best_state = best, _state_of(file)
        self._best_epoch = epoch if best is None else best.epoch
        self._best_sent = None if best is None else self._best_state
        self._best_slots.spare(best.uri if best else None)

    def offer(
        self, epoch: int, last: Path, best: Path, *, partial: bool = False, at_once: bool = False
    ) -> None:
        """Have a checkpoint sent as soon as the one before is; never waits for the storage.

        It is copied aside before the next one is written, or `at_once`, here, where something else
        is about to write to it. One that is written over meanwhile is no offer: what waits stays.
        """
        state = _state_of(best)
        if state != self._best_state:
            self._best_state, self._best_epoch = state, epoch
        offer = Offer(
            epoch=epoch,
            partial=partial,
            last=last,
            last_state=_state_of(last),
            best=best,
            best_state=state,
            best_epoch=self._best_epoch,
        )
        try:
            ready = self._copied(offer) if at_once else offer
        except OSError as error:
            self._failed(epoch, error)
        else:
            if ready is not None:
                self._put(ready)

    def _put(self, offer: Offer) -> None:
        with self._changed:
            older, self._waiting = self._waiting, offer
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if older is not None:
            log.info("epoch %d's checkpoint is not sent: a newer one is there", older.epoch)
            older.drop()

    def settle(self, left: Callable[[], float]) -> bool:
        """Wait until all is sent, or no time is left; return whether it is."""
        with self._changed:
            while self._waiting is not None or self._sending:
                seconds = left()
                if seconds <= 0:
                    return False
                self._changed.wait(min(seconds, LOOK_SECONDS))
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting is not None)
                offer, self._waiting = self._waiting, None
                self._sending = True
            if offer is not None:
                self._send(offer)

    def _send(self, offer: Offer) -> None:
        copy: Offer | None = None
        try:
            copy = offer if offer.copied else self._copied(offer)
            if copy is not None:
                # The best first: a checkpoint must never know of better weights than are there.
                self._send_best(copy)
                self._send_last(copy)
        except Exception as error:
            self._failed(offer.epoch, error)
        finally:
            if copy is not None:
                copy.drop()

    def _copied(self, offer: Offer) -> Offer | None:
        """Copy the files aside; None where the next checkpoint is written over them meanwhile."""
        self._aside.mkdir(parents=True, exist_ok=True)
        last, best = (self._aside / f"{offer.epoch}-{name}.pt" for name in ("last", "best"))
        copy = replace(offer, last=last, best=best, copied=True)
        try:
            self._copy(offer, copy)
        except OSError:
            copy.drop()
            raise
        now = _state_of(offer.last), _state_of(offer.best)
        if now != (offer.last_state, offer.best_state):
            log.info("epoch %d's checkpoint is not sent: a newer one is being made", offer.epoch)
            copy.drop()
            return None
        return copy

    def _copy(self, offer: Offer, to: Offer) -> None:
        to.drop()
        shutil.copyfile(offer.last, to.last)
        if offer.best_state in {None, self._best_sent}:
            return
        # Both were written from the same bytes, unless the epoch after it is under way.
        same = offer.best_epoch == offer.epoch and not offer.partial
        if not (same and _linked(to.last, to.best)):
            shutil.copyfile(offer.best, to.best)

    def _send_best(self, offer: Offer) -> None:
        if offer.best_state in {None, self._best_sent}:
            return
        stored = self._storage.store(offer.best, self._best_slots.key)
        self._best = Best(
            uri=stored.uri, sha256=stored.sha256, bytes=stored.bytes, epoch=offer.best_epoch
        )
        self._best_sent = offer.best_state
        self._best_is_news = True

    def _send_last(self, offer: Offer) -> None:
        if self._slots is None:
            first = offer.epoch % 2
            self._slots = Slots(*(f"{self._folder}/checkpoint-{n}.pt" for n in (first, 1 - first)))
            self._slots.spare(self._ground)
        stored = self._storage.store(offer.last, self._slots.key)
        self._slots.settle()
        about: dict[str, Any] = {"best": self._best.named()} if self._best else {}
        if offer.partial:
            about["partial"] = True
        self._say("checkpoint_saved", epoch=offer.epoch, **artifact("last.pt", stored), **about)
        if self._best_is_news:
            self._best_slots.settle()
            self._best_is_news = False

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


def _linked(file: Path, link: Path) -> bool:
    """Give a file a second name; return whether this file system can do that."""
    try:
        link.hardlink_to(file)
    except OSError:
        return False
    return True


def _state_of(file: Path) -> object:
    """Return what changes whenever the file is written, or None without it."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
