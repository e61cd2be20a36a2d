"""Tells what the training does: to the service, to MLflow, and to the storage."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.callbacks import Callbacks
from trainer.metrics import tidy
from trainer.pace import Pace
from trainer.progress import Heart
from trainer.telemetry import Telemetry
from trainer.tracking import Tracking
from trainer.uploads import Uploads

log = logging.getLogger(__name__)


class Recorder:
    """What the training reports to. Nothing here waits for the network."""

    def __init__(
        self,
        *,
        callbacks: Callbacks,
        heart: Heart,
        tracking: Tracking,
        uploads: Uploads,
        telemetry: Telemetry,
    ) -> None:
        """Take everybody who is to know."""
        self._callbacks = callbacks
        self._heart = heart
        self._tracking = tracking
        self._uploads = uploads
        self._telemetry = telemetry
        self._pace = Pace()
        self._heart.extras = self._extras
        self.epochs_reported = 0  # by earlier attempts
        self.non_finite: list[str] = []

    def phase(self, name: str) -> None:
        """A phase begins."""
        log.info("phase: %s", name)
        self._callbacks.trace.epoch = None
        self._heart.reach(phase=name, epoch=None)
        self._callbacks.event("phase_started", phase=name)

    def remark(self, kind: str, **data: Any) -> None:
        """Something worth an event of its own."""
        log.warning("%s: %s", kind, data)
        self._callbacks.event(kind, **data)

    def training_started(self, params: Mapping[str, Any], **data: Any) -> None:
        """The first epoch is about to begin; MLflow is opened only now, when its import is free."""
        self.phase("train")
        self._heart.reach(epochs=data["epochs"])
        self._callbacks.event("training_started", **data)
        self._tracking.start({**params, **data})

    def watch_gpu(self, uuid: str) -> None:
        """Let each heartbeat say how this GPU is."""
        self._telemetry.watch_gpu(uuid)

    def epoch_started(self, epoch: int, batches: int, images: int) -> None:
        """An epoch of so many images begins; until its end each line of the log carries it."""
        epochs = self._heart.progress.epochs
        log.info("epoch %d of %d begins", epoch, epochs, extra={"epoch_begins": epoch})
        self._callbacks.trace.epoch = epoch
        self._pace.epoch_started(
            time.monotonic(),
            epoch=epoch,
            epochs=epochs,
            batches=batches,
            images=images,
        )
        self._heart.reach(epoch=epoch, batch=0, batches=batches, validated=0, validations=0)

    def batch_ended(self, batch: int) -> None:
        """One more batch was trained on."""
        self._pace.batch_ended(time.monotonic())
        self._heart.reach(batch=batch)

    def batch_validated(self, batch: int, batches: int) -> None:
        """One more batch of the epoch's validation is done."""
        self._heart.reach(validated=batch, validations=batches)

    def epoch_ended(self, epoch: int, epochs: int, raw: Mapping[str, Any], seconds: float) -> None:
        """An epoch is over, its validation too."""
        self._pace.epoch_ended(time.monotonic())
        metrics, self.non_finite = tidy(raw)
        data: dict[str, Any] = {"epoch": epoch, "epochs": epochs, "metrics": metrics}
        data["seconds"] = round(seconds, 3)
        if self.non_finite:
            data["non_finite"] = self.non_finite
        if epoch <= self.epochs_reported:
            data["redone"] = True
        self._callbacks.event("epoch_end", **data)
        self._callbacks.heartbeat(
            {
                "epoch": epoch,
                "epochs": epochs,
                "progress": round(min(1.0, epoch / epochs), 6),
                "metrics": metrics,
                **self._extras(),
            }
        )
        self._tracking.epoch(epoch, metrics)
        took = "epoch %d of %d took %.1f s: %s"
        log.info(took, epoch, epochs, seconds, metrics, extra={"epoch_ends": epoch})

    def checkpoint(
        self,
        epoch: int,
        last: Path,
        best: Path,
        *,
        partial: bool = False,
        at_once: bool = False,
    ) -> None:
        """A checkpoint was written here; it is made safe from this machine's end meanwhile."""
        self._uploads.offer(epoch, last, best, partial=partial, at_once=at_once)

    def _extras(self) -> dict[str, Any]:
        return {**self._pace.facts(time.monotonic()), **self._telemetry.facts()}
