"""Puts the files of a manifest in place: what is cached from the cache, the rest fetched."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from trainer.dataset_cache import DatasetCache, link_or_copy
from trainer.errors import DatasetInvalidError, ObjectMissingError
from trainer.manifest import Entry, Manifest
from trainer.steps import Step, uncounted
from trainer.storage import Storage

log = logging.getLogger(__name__)

WORKERS = 8
SAID_EVERY = 10.0


@dataclass(slots=True)
class Collected:
    """How many files there are, and what of them had to travel."""

    files: int
    bytes: int
    fetched_files: int = 0
    fetched_bytes: int = 0
    done: int = 0
    step: Step = uncounted
    _said: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, files: int, fetched: int | None) -> None:
        """Count some files of one content; say now and then how far it is."""
        self.step()
        with self._lock:
            self.done += files
            if fetched is not None:
                self.fetched_files += 1
                self.fetched_bytes += fetched
            if time.monotonic() - self._said > SAID_EVERY:
                self._said = time.monotonic()
                log.info(
                    "%d of %d files of the data set are here, %d bytes were fetched",
                    *(self.done, self.files, self.fetched_bytes),
                )


def collect(
    storage: Storage,
    manifest: Manifest,
    root: Path,
    cache: DatasetCache,
    step: Step = uncounted,
) -> Collected:
    """Write the data set's files under the new folder root; each content travels once at most.

    `step` is called as it gets on, also with what is here already.
    """
    root.mkdir(parents=True)
    groups = list(_same_content(manifest.entries))
    room = cache.make_room(
        sum(group[0].bytes for group in groups if not cache.holds(group[0].sha256)),
        {entry.sha256 for entry in manifest.entries},
    )
    for folder in {root / entry.place.parent for entry in manifest.entries}:
        folder.mkdir(parents=True, exist_ok=True)
    collected = Collected(len(manifest.entries), manifest.bytes, step=step)
    work = _Work(storage, root, cache, collected, room)
    work.do(groups)
    return collected


def _same_content(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Return the files by their content: a thousand empty label files are one."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.sha256, []).append(entry)
    yield from groups.values()


@dataclass(slots=True)
class _Work:
    """What the threads share."""

    storage: Storage
    root: Path
    cache: DatasetCache
    collected: Collected
    room: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def do(self, groups: list[list[Entry]]) -> None:
        """Place all of them; the first failure, or an interruption, ends it after what is begun."""
        waiting = iter(groups)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="dataset") as pool:
            try:
                workers = [pool.submit(self._work_off, waiting) for _ in range(WORKERS)]
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                self._ended = True
        for worker in workers:
            worker.result()

    def _work_off(self, waiting: Iterator[list[Entry]]) -> None:
        while not self._ended:
            with self._lock:
                group = next(waiting, None)
            if group is None:
                return
            self.place(group)

    def place(self, group: list[Entry]) -> None:
        """Put the files of one content where they belong."""
        first = group[0]
        target = self.root / first.place
        cached = self.cache.take(first.sha256, target)
        if not cached:
            self._fetch(first, target)
            if self._fits(first.bytes):
                self.cache.put(first.sha256, target)
        for other in group[1:]:
            link_or_copy(target, self.root / other.place)
        self.collected.add(len(group), None if cached else first.bytes)

    def _fetch(self, entry: Entry, target: Path) -> None:
        try:
            stored = self.storage.fetch(entry.key, target)
        except ObjectMissingError as error:
            raise DatasetInvalidError(
                f"The manifest lists {entry.place}, but the storage has no {entry.key}; "
                "push the data set again."
            ) from error
        if (stored.sha256, stored.bytes) != (entry.sha256, entry.bytes):
            raise DatasetInvalidError(
                f"{entry.place} is not in the storage as the manifest lists it; "
                "push the data set again with --all."
            )

    def _fits(self, size: int) -> bool:
        with self._lock:
            self.room -= size
            return self.room >= 0
