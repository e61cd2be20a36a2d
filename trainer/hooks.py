"""Our ear in the training loop: ultralytics calls these, in its own thread."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

from trainer.errors import Interrupted, NanLossError
from trainer.metrics import tidy
from trainer.plan import Plan
from trainer.recorder import Recorder
from trainer.stop import Stop

NAMES = (
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_end",
    "on_val_batch_end",
    "on_fit_epoch_end",
)
# A last validation that could still end within so many seconds is not broken off.
WORTH_FINISHING = 10.0


class Hooks:
    """Tells the recorder how far it is, and leaves where somebody asked for it."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        stop: Stop,
        gpu_of: Callable[[Any], str | None] = lambda _device: None,
    ) -> None:
        """Take whom to tell, whom to ask whether to go on, and what names a device's GPU."""
        self._plan = plan
        self._recorder = recorder
        self._stop = stop
        self._gpu_of = gpu_of
        self._trainer: Any = None
        self._epoch: int | None = None  # the one running now, from 1
        self._batch = 0
        self._validated = 0
        self._batch_size = plan.batch
        self._began = 0.0
        self.metrics: dict[str, float] = {}

    def attach(self, model: Any) -> None:
        """Ask to be called."""
        for name in NAMES:
            model.add_callback(name, getattr(self, name))

    def on_train_start(self, trainer: Any) -> None:
        """Everything is loaded. From here on there is something to keep."""
        self._stop.hold()
        self._trainer = trainer
        self._batch_size = trainer.batch_size
        gpu = self._gpu_of(trainer.device)
        if gpu is not None:
            self._recorder.watch_gpu(gpu)
        self._recorder.training_started(
            self._plan.params,
            model=self._plan.model,
            task=trainer.args.task,
            epochs=trainer.epochs,
            imgsz=self._plan.imgsz,
            batch=trainer.batch_size,
            device=str(trainer.device),
            **({"resumed_from": self._plan.resumed_from} if self._plan.resumed_from else {}),
        )

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Also called when ultralytics takes back an epoch that ran out of memory or numbers."""
        epoch = trainer.epoch + 1
        if self._batch_size != trainer.batch_size:
            self._recorder.remark("batch_reduced", epoch=epoch, batch=trainer.batch_size)
        elif self._epoch == epoch:
            self._recorder.remark("epoch_restarted", epoch=epoch, reason="non_finite_loss")
        self._batch_size = trainer.batch_size
        self._epoch, self._began = epoch, time.monotonic()
        self._batch = self._validated = 0
        loader = trainer.train_loader
        self._recorder.epoch_started(epoch, len(loader), len(loader.dataset))

    def on_train_batch_end(self, trainer: Any) -> None:
        """Count, and leave where somebody asked for it."""
        self._batch += 1
        self._recorder.batch_ended(self._batch)
        if self._stop.wanted:
            self._keep_unfinished(trainer)
            raise Interrupted

    def on_val_batch_end(self, validator: Any) -> None:
        """A validation may take longer than whoever asks us to end will wait."""
        if self._epoch is not None:
            self._validated += 1
            self._recorder.batch_validated(self._validated, len(validator.dataloader))
        if not self._stop.wanted or self._trainer is None:
            return
        if self._epoch is not None:
            self._keep_unfinished(self._trainer)
            raise Interrupted
        if self._stop.outranks_success or self._stop.left() < WORTH_FINISHING:
            raise Interrupted

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Called after each epoch, and once more after the best weights were validated."""
        if self._epoch is None:
            self.metrics = tidy(trainer.metrics)[0]
            return
        epoch, self._epoch = self._epoch, None
        losses = trainer.label_loss_items(trainer.tloss)
        raw = {**losses, **trainer.metrics, **_fitness(trainer), **trainer.lr}
        self._recorder.epoch_ended(epoch, trainer.epochs, raw, time.monotonic() - self._began)
        self.metrics = tidy(raw)[0]
        # After the last epoch, ultralytics is about to strip the files.
        over = bool(trainer.stop)
        self._recorder.checkpoint(epoch, trainer.last, trainer.best, at_once=over)
        self._stop.check()

    def result(self) -> dict[str, float]:
        """Return the metrics of a training that is over, and see that there is a best.pt."""
        if any(name.startswith("train_") for name in self._recorder.non_finite):
            raise NanLossError("The loss of the last epoch was not a finite number.")
        if not self._plan.best.exists():
            shutil.copyfile(self._plan.last, self._plan.best)
        return self.metrics

    def _keep_unfinished(self, trainer: Any) -> None:
        """Save the weights under the last whole epoch's number: a resume redoes this one."""
        if self._stop.claimed:
            return
        trainer.epoch -= 1
        # Any fitness but the best one: best.pt is to stay what it is.
        trainer.fitness = 0.0 if trainer.best_fitness is None else None
        trainer.save_model()
        self._recorder.checkpoint(trainer.epoch + 1, trainer.last, trainer.best, partial=True)


def _fitness(trainer: Any) -> dict[str, float]:
    return {} if trainer.fitness is None else {"fitness": float(trainer.fitness)}
