"""Job templates for the tests: the one that comes with the service, changed in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import sentinel

import yaml

from service.executor import Launch
from service.job_template import JobTemplate
from service.settings import DEFAULT_TEMPLATE

TRACE = "9f1c658d-124d-4c95-ac5d-798baf29701e"
ENVIRONMENT: Mapping[str, str] = {
    "JOB_ID": "7",
    "ATTEMPT": "1",
    "TRACE_ID": TRACE,
    "BACKEND_BASE_URL": "https://epochlog.example.org",
    "CALLBACK_TOKEN": "the.callback.token",
    "STORAGE_TYPE": "r2",
    "BUCKET": "runs",
    "R2_ENDPOINT": "https://r2.example.org",
    "DATASET_ID": "coco8",
    "MODEL_NAME": "yolov8n",
    "EPOCHS": "10",
    "HEARTBEAT_SECONDS": "30",
    "R2_ACCESS_KEY_ID": "an access key of the service's own",
    "R2_SECRET_ACCESS_KEY": "a secret key of the service's own",
    "R2_WRITE_ACCESS_KEY_ID": "a writing key of the service's own",
    "R2_WRITE_SECRET_ACCESS_KEY": "a secret writing key of the service's own",
}
POD = "spec.template.spec"
TRAINER = f"{POD}.containers[0]"
REMOVED: Any = sentinel.removed
_STEPS = re.compile(r"[^.\[\]]+")


def launch(*, job_id: int = 7, attempt: int = 1, **variables: str) -> Launch:
    """An attempt, with the trainer's variables changed or added."""
    own = {"JOB_ID": str(job_id), "ATTEMPT": str(attempt)}
    return Launch(job_id=job_id, attempt=attempt, environment={**ENVIRONMENT, **own, **variables})


def default_tree() -> Any:
    """The template that comes with the service, as YAML's own reader gives it."""
    return yaml.safe_load(DEFAULT_TEMPLATE.read_text("utf-8"))


def changed(path: str, value: Any) -> Any:
    """The same with one place set to something else, added or removed."""
    return put(default_tree(), path, value)


def put(tree: Any, path: str, value: Any) -> Any:
    """Set one place, such as `spec.template.spec.containers[0].env[JOB_ID]`."""
    *way, last = [_step(text) for text in _STEPS.findall(path)]
    where = tree
    for step in way:
        where = where[_key(where, step)]
    if value is REMOVED:
        del where[_key(where, last)]
    elif isinstance(where, list) and isinstance(last, str):
        where.append(value)
    else:
        where[last] = value
    return tree


def _step(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _key(where: Any, step: str | int) -> Any:
    """A list of named things is asked by name, too."""
    if isinstance(where, list) and isinstance(step, str):
        return [one["name"] for one in where].index(step)
    return step


def template_of(tree: Any, folder: Path) -> JobTemplate:
    """Have a template loaded from a file."""
    path = folder / "template.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), "utf-8")
    return JobTemplate.load(path)


def variables_of(job: Any) -> dict[str, Any]:
    """The trainer's variables as a Job asks for them: a text, or where it is taken from."""
    [trainer] = job["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in trainer["env"]}


_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


def as_a_container_reads(value: str, others: Mapping[str, str]) -> str:
    """What the kubelet makes of a variable's value: `$(NAME)` is another one's, `$$` is `$`."""

    def put_in(found: re.Match[str]) -> str:
        name = found[1]
        return "$" if name is None else others.get(name, found[0])

    return _REFERENCE.sub(put_in, value)
