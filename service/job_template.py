"""How an attempt becomes a Job and a Secret of Kubernetes: the template, checked once and filled.

Pure but for `load`. The Job is made first, then the Secret that the Job owns.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from service import placeholders
from service.clusters import Cluster
from service.errors import SettingsError
from service.executor import Launch, LaunchRefusedError
from service.template_rules import (
    LONGEST_LABEL,
    SECRET_VARIABLES,
    STORAGE_KEYS,
    TOKEN_KEY,
    doubts,
    faults,
    is_label,
    trainer_number,
)
from service.yaml_file import read_yaml

VARIABLE = "EPOCHLOG_JOB_TEMPLATE"
A_TEMPLATE = "a Job of Kubernetes that can be launched and followed"
LOG_ANNOTATION = "epochlog.dev/log"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MAX_JOB_BYTES = 256 * 1024
MAX_VARIABLE_BYTES = 128 * 1024 - 1  # Linux' MAX_ARG_STRLEN, for NAME=value and its end

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """What the objects of one attempt are called."""

    job: str
    secret: str


def names(job_id: int, attempt: int) -> Names:
    """Return the names of an attempt's Job and Secret; from the second attempt on numbered."""
    suffix = str(job_id) if attempt == 1 else f"{job_id}-{attempt}"
    return Names(job=f"train-{suffix}", secret=f"callback-token-{suffix}")


def token_secret(
    *, job_name: str, job_uid: str, secret_name: str, token: str, labels: Mapping[str, str]
) -> Manifest:
    """Return the Secret with an attempt's callback token; it goes when its Job goes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name,
            "labels": dict(labels),
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": job_name,
                    "uid": job_uid,
                    # Else making it would need the right to update a Job's finalizers.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": "Opaque",
        "immutable": True,
        "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """A Job with placeholders, found fit to be launched and followed."""

    path: Path
    tree: Manifest = field(repr=False)
    warnings: tuple[str, ...] = ()
    """What works and is hardly what anybody wants, in a sentence each."""

    @classmethod
    def load(cls, path: Path, *, variable: str = VARIABLE) -> Self:
        """Read and check a template; SettingsError names everything that is wrong with it."""
        tree = read_yaml(path, variable=variable, wanted=A_TEMPLATE)
        wrong = list(dict.fromkeys(faults(tree)))
        if wrong:
            said = "; ".join(wrong)
            raise SettingsError(f"{variable} needs {A_TEMPLATE}, and in {path}: {said}.")
        warnings = tuple(f"In {path} {doubt}." for doubt in doubts(tree))
        return cls(path=path, tree=tree, warnings=warnings)

    def render(self, launch: Launch, *, cluster: Cluster, image: str, log_id: str) -> Manifest:
        """Return the Job of one attempt: the template, with only the values filled in.

        Raises LaunchRefusedError where a value cannot stand where the template wants it.
        """
        values = _values(launch, cluster, image)
        _refuse_unstorable(launch.environment)
        job: Manifest = placeholders.filled(self.tree, _filling(values))
        _drop_empty_variables(self.tree, job)
        _drop_storage_keys(job, launch.environment)
        _add_variables(job, launch.environment)
        _mark(job, log_id, cluster)
        _refuse_bad_labels(job)
        size = len(orjson.dumps(job))
        if size > MAX_JOB_BYTES:
            raise LaunchRefusedError(
                f"The Job would be {size // 1024} KiB large;"
                f" at most {MAX_JOB_BYTES // 1024} are sent."
            )
        return job


def _values(launch: Launch, cluster: Cluster, image: str) -> dict[str, str]:
    own = names(launch.job_id, launch.attempt)
    return {
        "name": own.job,
        "token_secret": own.secret,
        "job_id": str(launch.job_id),
        "attempt": str(launch.attempt),
        "trace_id": launch.environment.get("TRACE_ID", ""),
        "image": image,
        "cluster": cluster.name,
        "namespace": cluster.namespace,
        **{
            name: launch.environment.get(variable, "")
            for name, variable in placeholders.VARIABLES.items()
        },
    }


def _filling(values: Mapping[str, str]) -> placeholders.Fill:
    def fill(name: str, in_variable: bool) -> str:
        value = values[name]
        if in_variable:
            return placeholders.for_a_variable(value)
        if not placeholders.PLAIN.fullmatch(value):
            raise LaunchRefusedError(
                f"The Job template wants {{{name}}} where only a plain word may stand,"
                f" which {value!r:.80} is not."
            )
        return value

    return fill


def _refuse_unstorable(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        try:
            size = len(f"{name}={value}".encode())
        except UnicodeEncodeError:
            size = -1
        if size < 0 or "\0" in value:
            raise LaunchRefusedError(f"The variable {name} has a character that none can have.")
        if size > MAX_VARIABLE_BYTES:
            raise LaunchRefusedError(f"The variable {name} is larger than Linux allows (128 KiB).")


def _trainer(tree: Manifest) -> Manifest:
    number = trainer_number(tree)
    trainer: Manifest = tree["spec"]["template"]["spec"]["containers"][number]
    return trainer


def _drop_empty_variables(template: Manifest, job: Manifest) -> None:
    """Leave out the trainer's variables whose whole value is a placeholder without one."""
    trainer = _trainer(job)
    wanted = _trainer(template)["env"]
    trainer["env"] = [
        entry
        for asked, entry in zip(wanted, trainer["env"], strict=True)
        if entry.get("value") != "" or asked["value"] == ""  # an empty text of its own stays
    ]


def _drop_storage_keys(job: Manifest, environment: Mapping[str, str]) -> None:
    """Leave out the keys of the object store where the trainer gets signed addresses instead."""
    if environment.get("STORAGE_ACCESS") != "presigned":
        return
    trainer = _trainer(job)
    trainer["env"] = [entry for entry in trainer["env"] if entry["name"] not in STORAGE_KEYS]


def _add_variables(job: Manifest, environment: Mapping[str, str]) -> None:
    """Add what the template does not name; what is secret comes from a Secret or not at all."""
    env = _trainer(job)["env"]
    named = {entry["name"] for entry in env}
    env += [
        {"name": name, "value": placeholders.for_a_variable(value)}
        for name, value in environment.items()
        if name not in named and name not in SECRET_VARIABLES and value
    ]


def _mark(job: Manifest, log_id: str, cluster: Cluster) -> None:
    """Say whose Job it is, and have the cluster's queue admit it where it has one."""
    metadata = job["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), LOG_ANNOTATION: log_id}
    if cluster.queue is not None:
        metadata["labels"][QUEUE_LABEL] = cluster.queue
        job["spec"]["suspend"] = True


def _refuse_bad_labels(job: Manifest) -> None:
    for owner in (job["metadata"], job["spec"]["template"]["metadata"]):
        for name, value in owner["labels"].items():
            if not is_label(value):
                raise LaunchRefusedError(
                    f"The Job's label {name} cannot be {value!r:.80}: a label is at most"
                    f" {LONGEST_LABEL} letters, digits, -, _ and ., with a letter or digit at"
                    " both ends."
                )
