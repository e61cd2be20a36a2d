"""The job's own training arguments: which may be set, and which would break what is promised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trainer.errors import ParamsInvalidError

BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LONGEST_TEXT = 200

# Refused, each for the reason a caller is told.
ELSEWHERE = "the job has its own field for it"
OURS = "the trainer sets it itself"
NO_CODE = "it would load files or code that are not the job's"
REFUSED = {
    **dict.fromkeys(("model", "data", "epochs", "imgsz", "batch"), ELSEWHERE),
    **dict.fromkeys(("project", "name", "save_dir", "exist_ok", "resume", "save"), OURS),
    **dict.fromkeys(("task", "mode", "split", "plots", "time", "val"), OURS),
    **dict.fromkeys(("cfg", "distill_model", "augmentations", "source", "tracker"), NO_CODE),
}


def read_params(text: str) -> dict[str, Any]:
    """Return TRAIN_PARAMS as arguments for training; raises ParamsInvalidError naming the one."""
    try:
        params = json.loads(text)
    except ValueError:
        params = None
    if not isinstance(params, dict):
        raise ParamsInvalidError("TRAIN_PARAMS must be a JSON object of training arguments.")
    for name, value in params.items():
        if name in REFUSED:
            raise ParamsInvalidError(f"The parameter {name} cannot be set: {REFUSED[name]}.")
        _refuse_value(name, value)
    return params


def _refuse_value(name: str, value: Any) -> None:
    if isinstance(value, str) and ("/" in value or len(value) > LONGEST_TEXT):
        raise ParamsInvalidError(f"The parameter {name} cannot be a path or an address.")
    if name == "pretrained" and not isinstance(value, bool):
        raise ParamsInvalidError("The parameter pretrained must be true or false.")
    # Several devices run in processes of their own, out of which no epoch would be reported.
    if name == "device" and (isinstance(value, list) or "," in str(value)):
        raise ParamsInvalidError("The parameter device must name one device.")


def resolve_model(name: str) -> str:
    """Return what ultralytics is to build: an existing weights file, or an architecture."""
    file = Path(name)
    for weights in (file, Path(f"{name}.pt")):
        if weights.suffix == ".pt" and weights.is_file():
            return str(weights.absolute())
    if file.suffix == ".pt" or not BARE_NAME.fullmatch(name):
        raise ParamsInvalidError(
            f"There is no weights file {name}; MODEL_NAME must be an architecture or such a file."
        )
    return name if file.suffix == ".yaml" else f"{name}.yaml"
