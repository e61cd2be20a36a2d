"""What a training leaves in the storage at its end: best.pt and last.pt, whatever the end is."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.errors import Interrupted, StorageUnreachableError
from trainer.plan import Plan
from trainer.storage import Owner, Storage
from trainer.uploads import OutOfTimeError, Uploads, artifact, patiently

log = logging.getLogger(__name__)

Left = Callable[[], float]

# How long a training that is complete waits for storage that is away, or for who signs for it. It
# does so by itself: the storage pauses between its own tries.
PATIENCE = 600.0


class Results:
    """Stores the weights under the job's own names, once the checkpoints are through.

    These are all attempts' names: one that was given up writes nothing there, once it knows.
    """

    def __init__(
        self,
        folder: str,
        owner: Owner | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take the folder of keys, whose it is, and who knows whether the attempt still counts."""
        self._folder = folder
        self._owner = owner
        self._given_up = given_up
        self._of: tuple[Storage, Uploads, Plan] | None = None

    def begin(self, storage: Storage, uploads: Uploads, plan: Plan) -> None:
        """A training begins, which will write these files."""
        self._of = (storage, uploads, plan)

    def store(self, left: Left) -> list[dict[str, Any]]:
        """Store all of it and name it; raise Interrupted where no time is left for that."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._stored(left, Path.exists)
            except OutOfTimeError as error:
                raise Interrupted from error
            except StorageUnreachableError as error:
                if time.monotonic() >= deadline:
                    raise
                log.warning("the weights are not stored yet: %s", error)

    def rescue(self, left: Left) -> list[dict[str, Any]]:
        """Store what a training that does not end well has reached, as far as that goes."""
        try:
            # What torch writes is a zip; without its end, it was broken off by what went wrong.
            return self._stored(left, zipfile.is_zipfile)
        except (Exception, Interrupted) as error:
            log.warning("the weights were not stored: %s", error)
            return []

    def _stored(self, left: Left, is_whole: Callable[[Path], bool]) -> list[dict[str, Any]]:
        if self._of is None:
            return []
        storage, uploads, plan = self._of
        if not uploads.settle(left):
            raise OutOfTimeError
        if not plan.last.exists():
            return []
        files = [file for file in (plan.best, plan.last) if file.exists() and is_whole(file)]
        return patiently(lambda: [self._store_one(storage, file) for file in files], left)

    def _store_one(self, storage: Storage, file: Path) -> dict[str, Any]:
        if self._given_up():
            raise Interrupted
        key = f"{self._folder}/{file.name}"
        return artifact(file.name, storage.store(file, key, owner=self._owner))
