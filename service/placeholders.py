"""The places of a Job template that are filled at launch, such as `{epochs}`.

A value is put into a text that was parsed before, and is never read as YAML. What anybody can
choose freely goes into a variable of a container only, where nothing interprets it; elsewhere a
value is a plain word. `{{epochs}}` stands for the text `{epochs}`; `${epochs}` is a shell's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

OWN = ("name", "job_id", "attempt", "trace_id", "token_secret", "image", "cluster", "namespace")
"""What the launcher knows itself; the others are variables of the trainer's environment."""
VARIABLES = {
    "service_url": "BACKEND_BASE_URL",
    "storage_type": "STORAGE_TYPE",
    "bucket": "BUCKET",
    "s3_endpoint": "R2_ENDPOINT",
    "dataset_id": "DATASET_ID",
    "model_name": "MODEL_NAME",
    "epochs": "EPOCHS",
    "imgsz": "IMGSZ",
    "batch": "BATCH",
    "resume_from": "RESUME_FROM",
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "heartbeat_seconds": "HEARTBEAT_SECONDS",
    "train_params": "TRAIN_PARAMS",
}
FREE = frozenset({"resume_from", "mlflow_tracking_uri", "train_params"})
"""Values of any characters."""
KNOWN = (*OWN, *VARIABLES)

PLAIN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._/:@-]*)?")
"""No shell, no option and no `$(VARIABLE)` of a container begins with this."""
_PLACE = re.compile(r"\{\{(?P<kept>[A-Za-z_]\w*)\}\}|(?<!\$)\{(?P<name>[A-Za-z_]\w*)\}", re.ASCII)
_OF_A_SHELL = re.compile(r"\$\{([a-z_]+)\}")
_REFERENCE = re.compile(r"\$\([^)]*$")
_VARIABLE = re.compile(
    r"spec\.template\.spec\.(?:containers|initContainers)\[\d+\]\.env\[\d+\]\.value"
)

Fill = Callable[[str, bool], str]
"""Returns the text for a placeholder's name; told whether it stands in a variable's value."""


def texts(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return every text that may hold placeholders, with its place."""
    if isinstance(tree, dict):
        for name, part in tree.items():
            yield from texts(part, f"{path}.{name}" if path else name)
    elif isinstance(tree, list):
        for number, part in enumerate(tree):
            yield from texts(part, f"{path}[{number}]")
    elif isinstance(tree, str):
        yield path, tree


def names_in(text: str) -> list[str]:
    """Return the names of the placeholders in a text."""
    return [place["name"] for place in _PLACE.finditer(text) if place["name"]]


def filled(tree: Any, fill: Fill, path: str = "") -> Any:
    """Return a copy of the tree with each placeholder replaced, values never looked at again."""
    if isinstance(tree, dict):
        return {
            name: filled(part, fill, f"{path}.{name}" if path else name)
            for name, part in tree.items()
        }
    if isinstance(tree, list):
        return [filled(part, fill, f"{path}[{number}]") for number, part in enumerate(tree)]
    if not isinstance(tree, str):
        return tree
    in_variable = bool(_VARIABLE.fullmatch(path))

    def put(place: re.Match[str]) -> str:
        return fill(place["name"], in_variable) if place["name"] else f"{{{place['kept']}}}"

    return _PLACE.sub(put, tree)


def for_a_variable(value: str) -> str:
    """Return the spelling that a container reads as this very value, without `$(…)` in it."""
    return value.replace("$", "$$")


def faults(tree: Mapping[str, Any]) -> Iterator[str]:
    """Name each placeholder that is unknown, or stands where it must not."""
    yield from _faults_of_names(tree)
    for path, text in texts(tree):
        for place in _PLACE.finditer(text):
            name = place["name"]
            if not name:
                continue
            if name not in KNOWN:
                yield f"{path} has the unknown placeholder {{{name}}}{_meant(name)}"
            elif name in FREE and not _VARIABLE.fullmatch(path):
                yield f"{path} has {{{name}}}, which may stand only in a variable's value"
            elif _REFERENCE.search(text[: place.start()]):
                yield f"{path} has {{{name}}} inside of $(…)"


def left_alone(tree: Mapping[str, Any]) -> Iterator[str]:
    """Name each `${epochs}`: a shell's, or a slip."""
    for path, text in texts(tree):
        for name in _OF_A_SHELL.findall(text):
            if name in KNOWN:
                yield f"{path} has ${{{name}}}, which is left as it is; {{{name}}} is filled in"


def _faults_of_names(tree: Any, path: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for name, part in tree.items():
            if names_in(name):
                yield f"{path or 'the document'} has a placeholder in the name {name!r:.60}"
            yield from _faults_of_names(part, f"{path}.{name}" if path else name)
    elif isinstance(tree, list):
        for number, part in enumerate(tree):
            yield from _faults_of_names(part, f"{path}[{number}]")


def _meant(name: str) -> str:
    close = get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.6)
    return f" (did you mean {{{close[0]}}}?)" if close else ""
