"""Going on where an earlier attempt ended: at the newest checkpoint that is whole."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import Standing
from trainer.errors import ObjectDamagedError, ObjectMissingError, ResumeError
from trainer.past import Checkpoint, Past
from trainer.recorder import Recorder
from trainer.storage import Storage
from trainer.uploads import Best

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 2000
UNUSABLE = (ObjectDamagedError, ObjectMissingError, ResumeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A checkpoint that is here and can be continued."""

    uri: str
    file: Path
    standing: Standing
    best: Best | None  # where the storage has them


class Search:
    """Looks through what earlier attempts left."""

    def __init__(
        self,
        *,
        storage: Storage,
        recorder: Recorder,
        read: Callable[[Path], Standing],
        forget_best: Callable[[Path], None],
    ) -> None:
        """Take where to look, whom to tell, and who understands a checkpoint's content."""
        self._storage = storage
        self._recorder = recorder
        self._read = read
        self._forget_best = forget_best

    def find(self, past: Past, file: Path, best: Path) -> Ground | None:
        """Bring the newest usable checkpoint to `file` and its best weights to `best`."""
        for checkpoint in past.checkpoints:
            try:
                self._fetch(checkpoint.uri, checkpoint.sha256, file)
                standing = self._read(file)
            except UNUSABLE as error:
                self._damaged(checkpoint.uri, error)
                continue
            found = self._fetch_best(checkpoint, standing, file, best)
            return Ground(uri=checkpoint.uri, file=file, standing=standing, best=found)
        return None

    def _fetch(self, uri: str, sha256: str | None, target: Path) -> None:
        self._storage.fetch_uri(uri, target, sha256=sha256)

    def _fetch_best(
        self, checkpoint: Checkpoint, standing: Standing, file: Path, best: Path
    ) -> Best | None:
        """Bring back the best weights so far: no later epoch may be better."""
        best.parent.mkdir(parents=True, exist_ok=True)
        for named in _places(checkpoint, standing):
            try:
                self._fetch(named.uri, named.sha256, best)
            except (ObjectDamagedError, ObjectMissingError) as error:
                best.unlink(missing_ok=True)
                if checkpoint.best is not None:
                    self._damaged(named.uri, error)
                continue
            return checkpoint.best
        # Nothing better than this checkpoint itself is left: from here on it is the best.
        if not standing.is_best:
            self._forget_best(file)
        if standing.epochs_done > 0:
            shutil.copyfile(file, best)
        return None

    def _damaged(self, uri: str, error: Exception) -> None:
        message = str(error)[:LONGEST_MESSAGE]
        self._recorder.remark("checkpoint_damaged", uri=uri, message=message)


def _places(checkpoint: Checkpoint, standing: Standing) -> Iterator[Best]:
    if checkpoint.best is not None:
        yield checkpoint.best
    elif not standing.is_best:
        # An older trainer's log does not name it: it lay beside its checkpoint.
        beside = checkpoint.uri.rpartition("/")[0]
        yield Best(uri=f"{beside}/best.pt", sha256=None, bytes=None, epoch=0)
