"""Training with ultralytics: the only file that knows it, or torch."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics.data.utils
import ultralytics.engine.trainer
from ultralytics import YOLO, settings
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import strip_optimizer

from trainer.checkpoint import Standing, read_standing
from trainer.dataset_errors import explain_dataset_error
from trainer.errors import (
    DatasetInvalidError,
    Interrupted,
    NanLossError,
    OutOfMemoryError,
    ParamsInvalidError,
    ResumeError,
    TrainerError,
)
from trainer.metrics import tidy
from trainer.recorder import Recorder
from trainer.stop import Stop

log = logging.getLogger(__name__)

TASKS = frozenset({"detect", "segment", "pose", "obb"})
INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to train, and where to write."""

    model: str
    data: Path
    epochs: int
    imgsz: int
    batch: int
    params: Mapping[str, Any]
    folder: Path
    resumed_from: str | None = None

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.folder / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "weights" / "best.pt"

    def arguments(self) -> dict[str, Any]:
        """Return what ultralytics is called with, whether it starts or resumes."""
        cpu = not torch.cuda.is_available() or str(self.params.get("device")) == "cpu"
        return {
            **({"amp": False, "workers": 0} if cpu else {}),
            **self.params,
            "data": str(self.data),
            "epochs": self.epochs,
            "imgsz": self.imgsz,
            "batch": self.batch,
            "save_dir": str(self.folder),
            "plots": False,
        }


def stay_offline() -> None:
    """Turn off what would reach for the network, and let our log write its records."""
    settings.update(dict.fromkeys(INTEGRATIONS, False))
    # Without plots nobody needs the fonts it would download ...
    ultralytics.data.utils.check_font = lambda *_: None
    # ... and its check of mixed precision would download a whole model.
    ultralytics.engine.trainer.check_amp = _amp_is_sound
    LOGGER.handlers.clear()
    LOGGER.propagate = True


def _amp_is_sound(model: torch.nn.Module) -> bool:
    return bool(next(model.parameters()).device.type == "cuda")


def check_arguments(plan: Plan) -> None:
    """Raise ParamsInvalidError where ultralytics would not take an argument."""
    try:
        get_cfg(overrides=plan.arguments())
    except (SyntaxError, TypeError, ValueError) as error:
        raise ParamsInvalidError(f"{str(error).splitlines()[0].strip()}") from error


def load_model(name: str) -> YOLO:
    """Build the architecture, or read the weights."""
    try:
        model = YOLO(name)
    except (FileNotFoundError, TypeError, ValueError) as error:
        raise ParamsInvalidError(f"The model {name} cannot be loaded: {_brief(error)}") from error
    if model.task not in TASKS:
        raise ParamsInvalidError(
            f"The model {name} is for {model.task}; this trainer does {', '.join(sorted(TASKS))}."
        )
    return model


def read_checkpoint(file: Path, plan: Plan) -> Standing:
    """Return how far a checkpoint is, and make the file one to continue from in this folder."""
    try:
        content, _ = torch_safe_load(str(file))
    except Exception as error:
        raise ResumeError(f"The checkpoint cannot be read: {_brief(error)}") from error
    standing = read_standing(content, plan.epochs)
    # It remembers the folders of the machine it was written on.
    content["train_args"] = {
        **content["train_args"],
        **{name: value for name, value in plan.arguments().items() if name in _ABOUT_THIS_MACHINE},
        "device": plan.params.get("device"),
        "project": None,
        "name": None,
        "resume": False,
    }
    torch.save(content, file)
    return standing


_ABOUT_THIS_MACHINE = ("data", "save_dir", "epochs", "workers", "plots", "amp")


def train(plan: Plan, recorder: Recorder, stop: Stop) -> dict[str, float]:
    """Train from the first epoch; return the best weights' metrics."""
    return _run(load_model(plan.model), plan.arguments(), Hooks(plan, recorder, stop))


def resume(
    plan: Plan, file: Path, standing: Standing, recorder: Recorder, stop: Stop
) -> dict[str, float]:
    """Go on where a checkpoint ends; return the best weights' metrics."""
    arguments = plan.arguments()
    # Without one whole epoch there is nothing ultralytics resumes, but the weights are worth it.
    if standing.epochs_done > 0:
        arguments["resume"] = str(file)
    return _run(load_model(str(file)), arguments, Hooks(plan, recorder, stop))


def finish(plan: Plan) -> dict[str, float]:
    """Do what is left of a training whose epochs are all done: strip it and validate the best."""
    for file in (plan.last, plan.best):
        strip_optimizer(file)
    with _errors_explained():
        results = load_model(str(plan.best)).val(
            data=str(plan.data),
            imgsz=plan.imgsz,
            batch=max(plan.batch, 1),
            device=plan.params.get("device"),
            project=str(plan.folder),
            name="validation",
            plots=False,
        )
    return tidy(results.results_dict)[0]


class Hooks:
    """Our ear in the training loop: ultralytics calls these, in its own thread."""

    def __init__(self, plan: Plan, recorder: Recorder, stop: Stop) -> None:
        """Take whom to tell, and whom to ask whether to go on."""
        self._plan = plan
        self._recorder = recorder
        self._stop = stop
        self._epoch: int | None = None  # the one running now, from 1
        self._batch = 0
        self._batch_size = plan.batch
        self._began = 0.0
        self.metrics: dict[str, float] = {}

    def attach(self, model: YOLO) -> None:
        """Ask to be called."""
        for name in (
            "on_train_start",
            "on_train_epoch_start",
            "on_train_batch_end",
            "on_fit_epoch_end",
        ):
            model.add_callback(name, getattr(self, name))

    def on_train_start(self, trainer: Any) -> None:
        """Everything is loaded. From here on there is something to keep."""
        self._stop.hold()
        self._batch_size = trainer.batch_size
        self._recorder.training_started(
            self._plan.params,
            model=self._plan.model,
            epochs=trainer.epochs,
            imgsz=self._plan.imgsz,
            batch=trainer.batch_size,
            device=str(trainer.device),
            **({"resumed_from": self._plan.resumed_from} if self._plan.resumed_from else {}),
        )
        if trainer.device.type == "cuda":
            self._recorder.watch_gpu(lambda: _gpu_memory(trainer.device))

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Also called when ultralytics takes back an epoch that ran out of memory or numbers."""
        epoch = trainer.epoch + 1
        if self._batch_size != trainer.batch_size:
            self._recorder.remark("batch_reduced", epoch=epoch, batch=trainer.batch_size)
        elif self._epoch == epoch:
            self._recorder.remark("epoch_restarted", epoch=epoch, reason="non_finite_loss")
        self._batch_size = trainer.batch_size
        self._epoch, self._batch, self._began = epoch, 0, time.monotonic()
        self._recorder.epoch_started(epoch, len(trainer.train_loader))

    def on_train_batch_end(self, trainer: Any) -> None:
        """Count, and leave where somebody asked for it."""
        self._batch += 1
        self._recorder.batch_ended(self._batch)
        if self._stop.wanted:
            self._keep_unfinished(trainer)
            raise Interrupted

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Called after each epoch, and once more after the best weights were validated."""
        if self._epoch is None:
            self.metrics = tidy(trainer.metrics)[0]
            return
        epoch, self._epoch = self._epoch, None
        losses = trainer.label_loss_items(trainer.tloss)
        raw = {**losses, **trainer.metrics, **trainer.lr}
        self._recorder.epoch_ended(epoch, trainer.epochs, raw, time.monotonic() - self._began)
        self.metrics = tidy(raw)[0]
        self._recorder.checkpoint(epoch, trainer.last, trainer.best)
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


def _run(model: YOLO, arguments: dict[str, Any], hooks: Hooks) -> dict[str, float]:
    hooks.attach(model)
    with _errors_explained():
        model.train(**arguments)
    return hooks.result()


def _gpu_memory(device: torch.device) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(device)
    return {
        "name": torch.cuda.get_device_name(device),
        "memory_used": total - free,
        "memory_total": total,
    }


@contextmanager
def _errors_explained() -> Iterator[None]:
    try:
        yield
    except TrainerError:
        raise
    except Exception as error:
        raise explain(error) from error


def explain(error: Exception) -> Exception:
    """Return the error under our stable code, or itself where we know no better."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text.lower():
        return OutOfMemoryError(f"The device ran out of memory: {_brief(error)}")
    # A data loader's worker that the kernel killed, or that had too little /dev/shm.
    if "killed by signal" in text or "Bus error" in text:
        return OutOfMemoryError(f"A data loader ran out of memory: {_brief(error)}")
    if isinstance(error, NotImplementedError):
        return ParamsInvalidError(f"Ultralytics cannot do that: {_brief(error)}")
    if "NaN" in text:
        return NanLossError(f"The loss is no longer a finite number: {_brief(error)}")
    if (words := explain_dataset_error(text)) is not None:
        return DatasetInvalidError(f"Ultralytics refuses the data set: {words}")
    if text.startswith("Dataset '"):
        return DatasetInvalidError(f"Ultralytics refuses the data set: {_brief(error)}")
    return error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
