"""How far the attempt is, and the heartbeat that says so between epochs.

What comes before the first epoch counts as batches of epoch 0, one for each piece of it that is
done, and an epoch's validation goes on counting where its training ended: whoever looks only at
epochs and batches sees that it advances, and sees it stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """The last batch seen. Without an epoch, the attempt is before or after its training."""

    phase: str = "start"
    epochs: int = 0
    epoch: int | None = None
    batch: int = 0
    batches: int = 0
    validated: int = 0
    """Batches of the epoch's validation that are done, of `validations`."""
    validations: int = 0
    pieces: int = 0
    """Files, and megabytes of large ones, that were fetched, unpacked or looked at."""

    @property
    def fraction(self) -> float:
        """How much of the whole training is over, 0 to 1."""
        if self.epoch is None or not self.epochs:
            return 0.0
        part = self.batch / self.batches if self.batches else 0.0
        return min(1.0, (self.epoch - 1 + part) / self.epochs)


def heartbeat(progress: Progress, extras: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of a timed heartbeat, with what else is known of the machine and the pace."""
    body: dict[str, Any] = {"phase": progress.phase}
    if progress.epoch is not None:
        body |= {
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "batch": progress.batch + progress.validated,
            "batches": progress.batches + progress.validations,
            "progress": round(progress.fraction, 6),
        }
    elif progress.pieces and not progress.epochs:  # without them, it was trained already
        body |= {"epoch": 0, "batch": progress.pieces, "progress": 0.0}
    return {**body, **(extras or {})}


class Heart:
    """Beats on its own clock; what it says is only what the training really reached."""

    def __init__(self, seconds: float, beat: Callable[[dict[str, Any]], None]) -> None:
        """Take the interval (0: never on its own) and where a beat goes."""
        self.progress = Progress()
        self.extras: Callable[[], Mapping[str, Any]] = dict
        self._seconds = seconds
        self._beat = beat
        self._stopped = threading.Event()
        self._reaching = threading.Lock()

    def start(self) -> None:
        """Begin to beat."""
        if self._seconds:
            threading.Thread(target=self._run, name="heart", daemon=True).start()

    def stop(self) -> None:
        """Beat no more."""
        self._stopped.set()

    def reach(self, **changes: Any) -> None:
        """Note how far it is now; readers see the old or the new."""
        with self._reaching:
            self.progress = replace(self.progress, **changes)

    def step(self) -> None:
        """Note that one more piece of what comes before the training is done."""
        with self._reaching:
            self.progress = replace(self.progress, pieces=self.progress.pieces + 1)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._beat(heartbeat(self.progress, self.extras()))
            except Exception:
                log.exception("a heartbeat was missed")
