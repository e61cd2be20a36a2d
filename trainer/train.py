"""Training with ultralytics: the only file that knows it, or torch."""

from __future__ import annotations

import logging
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

from trainer.checkpoint import Standing, own_fitness, read_standing, results_table
from trainer.errors import ParamsInvalidError, ResumeError
from trainer.failures import brief
from trainer.hooks import Hooks
from trainer.metrics import tidy
from trainer.plan import TASKS as NAMED_TASKS
from trainer.plan import Plan
from trainer.recorder import Recorder
from trainer.steps import Step, uncounted
from trainer.stop import Stop

log = logging.getLogger(__name__)

TASKS = frozenset({"detect", *NAMED_TASKS.values()})
INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


def arguments(plan: Plan) -> dict[str, Any]:
    """Return what ultralytics is called with, whether it starts or resumes."""
    cpu = not torch.cuda.is_available() or str(plan.params.get("device")) == "cpu"
    return {
        **({"amp": False, "workers": 0} if cpu else {}),
        **plan.params,
        "data": str(plan.data),
        "epochs": plan.epochs,
        "imgsz": plan.imgsz,
        "batch": plan.batch,
        "save_dir": str(plan.folder),
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
        get_cfg(overrides=arguments(plan))
    except (SyntaxError, TypeError, ValueError) as error:
        raise ParamsInvalidError(f"{str(error).splitlines()[0].strip()}") from error


def load_model(name: str) -> YOLO:
    """Build the architecture, or read the weights."""
    try:
        model = YOLO(name)
    except (FileNotFoundError, TypeError, ValueError) as error:
        raise ParamsInvalidError(f"The model {name} cannot be loaded: {brief(error)}") from error
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
        raise ResumeError(f"The checkpoint cannot be read: {brief(error)}") from error
    standing = read_standing(content, plan.epochs)
    # It remembers the folders of the machine it was written on.
    content["train_args"] = {
        **content["train_args"],
        **{name: value for name, value in arguments(plan).items() if name in _ABOUT_THIS_MACHINE},
        "device": plan.params.get("device"),
        "project": None,
        "name": None,
        "resume": False,
    }
    torch.save(content, file)
    if (table := results_table(content)) is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)  # ultralytics adds to what is there
        (plan.folder / "results.csv").write_text(table, encoding="utf-8")
    return standing


def forget_best(file: Path) -> None:
    """Make the checkpoint itself the best so far: what was better is lost."""
    content, _ = torch_safe_load(str(file))
    torch.save({**content, "best_fitness": own_fitness(content)}, file)


def task_of(model: str) -> str:
    """Return the task of an architecture or of weights."""
    return str(load_model(model).task)


_ABOUT_THIS_MACHINE = ("data", "save_dir", "epochs", "workers", "plots", "amp")


def train(plan: Plan, recorder: Recorder, stop: Stop) -> dict[str, float]:
    """Train from the first epoch; return the best weights' metrics."""
    return _run(load_model(plan.model), arguments(plan), Hooks(plan, recorder, stop, _gpu_of))


def resume(
    plan: Plan, file: Path, standing: Standing, recorder: Recorder, stop: Stop
) -> dict[str, float]:
    """Go on where a checkpoint ends; return the best weights' metrics."""
    given = arguments(plan)
    # Without one whole epoch there is nothing ultralytics resumes, but the weights are worth it.
    if standing.epochs_done > 0:
        given["resume"] = str(file)
    return _run(load_model(str(file)), given, Hooks(plan, recorder, stop, _gpu_of))


def finish(plan: Plan, step: Step = uncounted) -> dict[str, float]:
    """Do what is left of a training whose epochs are all done: strip it and validate the best.

    `step` is called after each batch.
    """
    for file in (plan.last, plan.best):
        strip_optimizer(file)
    model = load_model(str(plan.best))
    model.add_callback("on_val_batch_end", lambda _validator: step())
    results = model.val(
        data=str(plan.data),
        imgsz=plan.imgsz,
        batch=max(plan.batch, 1),
        device=plan.params.get("device"),
        project=str(plan.folder),
        name="validation",
        plots=False,
    )
    return tidy(results.results_dict)[0]


def _run(model: YOLO, given: dict[str, Any], hooks: Hooks) -> dict[str, float]:
    hooks.attach(model)
    model.train(**given)
    return hooks.result()


def _gpu_of(device: torch.device) -> str | None:
    """Return the UUID of the GPU that a device is, as the driver knows it."""
    if device.type != "cuda":
        return None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else str(uuid)
