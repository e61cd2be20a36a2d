"""How fast the training goes, and when it will be over. Pure: the clock is an argument."""

from __future__ import annotations

from collections import deque
from typing import Any

# Enough to even out one slow epoch, few enough to follow a machine that has become slower.
EPOCHS_REMEMBERED = 5


class Pace:
    """Images a second and seconds left, from when each epoch and batch was reached.

    One thread writes; another may read, and sees numbers that are at most a batch old.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._whole: deque[float] = deque(maxlen=EPOCHS_REMEMBERED)
        self._epoch = 0
        self._epochs = 0
        self._batches = 0
        self._images = 0
        self._batch = 0
        self._began: float | None = None
        self._batch_at = 0.0
        self._training = False

    def epoch_started(
        self, now: float, *, epoch: int, epochs: int, batches: int, images: int
    ) -> None:
        """An epoch of so many images begins; the one before is over, validation and all."""
        if self._began is not None and epoch == self._epoch + 1:
            self._whole.append(now - self._began)
        self._epoch, self._epochs, self._batches, self._images = epoch, epochs, batches, images
        self._batch, self._began, self._batch_at = 0, now, now
        self._training = True

    def batch_ended(self, now: float) -> None:
        """One more batch is trained on."""
        self._batch += 1
        self._batch_at = now

    def epoch_ended(self, now: float) -> None:
        """The epoch is validated."""
        if self._began is not None and not self._whole:
            self._whole.append(now - self._began)  # the first: what follows it is short
        self._training = False

    def images_per_second(self) -> float | None:
        """Return the speed of this epoch's training, without its validation."""
        if self._began is None or not self._batch or self._batch_at <= self._began:
            return None
        share = min(1.0, self._batch / self._batches) if self._batches else 0.0
        return self._images * share / (self._batch_at - self._began)

    def seconds_left(self, now: float) -> float | None:
        """Return how long the rest of the training will take."""
        if self._began is None:
            return None
        whole = self._seconds_an_epoch()
        if whole is None:
            return None
        current = max(0.0, whole - (now - self._began)) if self._training else 0.0
        return current + whole * max(0, self._epochs - self._epoch)

    def facts(self, now: float) -> dict[str, Any]:
        """Return what a heartbeat says of it."""
        speed, left = self.images_per_second(), self.seconds_left(now)
        return {
            **({} if speed is None else {"images_per_second": round(speed, 2)}),
            **({} if left is None else {"eta_seconds": round(left, 1)}),
        }

    def _seconds_an_epoch(self) -> float | None:
        if self._whole:
            return sum(self._whole) / len(self._whole)
        if self._began is None or not self._batch or not self._batches:
            return None
        return (self._batch_at - self._began) / self._batch * self._batches
