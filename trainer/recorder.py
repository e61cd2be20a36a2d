"""Tells what the training does: to the service, to MLflow, and to the storage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.callbacks import Callbacks
from trainer.metrics import tidy
from trainer.progress import Heart
from trainer.storage import Storage, Stored
from trainer.tracking import Tracking

log = logging.getLogger(__name__)


class Recorder:
    """What `train` reports to."""

    def __init__(
        self,
        *,
        job_id: int,
        callbacks: Callbacks,
        heart: Heart,
        tracking: Tracking,
        storage: Storage,
    ) -> None:
        """Take everybody who is to know."""
        self._callbacks = callbacks
        self._heart = heart
        self._tracking = tracking
        self._storage = storage
        self._folder = f"checkpoints/job-{job_id}"
        self._best_written: int | None = None
        self.non_finite: list[str] = []

    def phase(self, name: str) -> None:
        """A phase begins."""
        log.info("phase: %s", name)
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

    def watch_gpu(self, read: Callable[[], dict[str, Any] | None]) -> None:
        """Let each timed heartbeat say how the GPU is."""
        self._heart.gpu = read

    def epoch_started(self, epoch: int, batches: int) -> None:
        """An epoch begins."""
        self._heart.reach(epoch=epoch, batch=0, batches=batches)

    def batch_ended(self, batch: int) -> None:
        """One more batch was trained on."""
        self._heart.reach(batch=batch)

    def epoch_ended(self, epoch: int, epochs: int, raw: Mapping[str, Any], seconds: float) -> None:
        """An epoch is over, its validation too."""
        metrics, self.non_finite = tidy(raw)
        data: dict[str, Any] = {"epoch": epoch, "epochs": epochs, "metrics": metrics}
        data["seconds"] = round(seconds, 3)
        if self.non_finite:
            data["non_finite"] = self.non_finite
        self._callbacks.event("epoch_end", **data)
        self._callbacks.heartbeat(
            {
                "epoch": epoch,
                "epochs": epochs,
                "progress": round(min(1.0, epoch / epochs), 6),
                "metrics": metrics,
            }
        )
        self._tracking.epoch(epoch, metrics)
        log.info("epoch %d of %d took %.1f s: %s", epoch, epochs, seconds, metrics)

    def checkpoint(self, epoch: int, last: Path, best: Path, **data: Any) -> None:
        """A checkpoint was written here; make it safe from this machine's end."""
        try:
            # The best first: last.pt knows its fitness, and must never know more than is there.
            self._store_best(best)
            stored = self.store(last)
        except OSError as error:
            self.remark("checkpoint_failed", epoch=epoch, message=str(error))
            return
        self._callbacks.event(
            "checkpoint_saved", epoch=epoch, **artifact("last.pt", stored), **data
        )

    def store(self, file: Path) -> Stored:
        """Upload one file under the job's folder."""
        return self._storage.store(file, f"{self._folder}/{file.name}")

    def _store_best(self, best: Path) -> None:
        if not best.exists() or best.stat().st_mtime_ns == self._best_written:
            return
        self.store(best)
        self._best_written = best.stat().st_mtime_ns


def artifact(name: str, stored: Stored) -> dict[str, Any]:
    """Return what callbacks say about a file in the storage."""
    return {"name": name, "uri": stored.uri, "sha256": stored.sha256, "bytes": stored.bytes}
