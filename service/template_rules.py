"""What a Job template must and should say, so that its Jobs can be launched and followed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from service import placeholders

Tree = Mapping[str, Any]

TRAINER = "trainer"
LABELS = {"app": "trainer", "job-id": "{job_id}", "trace-id": "{trace_id}"}
FIXED = {
    "JOB_ID": "{job_id}",
    "ATTEMPT": "{attempt}",
    "TRACE_ID": "{trace_id}",
}
"""Variables whose value is the launcher's, where the template names them."""
REQUIRED = ("JOB_ID", "TRACE_ID")
"""ATTEMPT is younger than some templates, and added where it is not named."""
STORAGE_KEYS = (
    "R2_ACCESS_KEY_ID",
    "R2_SECRET_ACCESS_KEY",
    "R2_WRITE_ACCESS_KEY_ID",
    "R2_WRITE_SECRET_ACCESS_KEY",
)
"""The keys of the object store; a trainer that gets signed addresses has none of them."""
SECRET_VARIABLES = ("CALLBACK_TOKEN", *STORAGE_KEYS, "OTEL_EXPORTER_OTLP_HEADERS")
"""They come from a Secret or not at all."""
TOKEN_SECRET, TOKEN_KEY = "{token_secret}", "token"

SHORTEST_TTL = 300
SHORTEST_GRACE = 10
LONGEST_LABEL = 63
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def is_label(value: object) -> bool:
    """Return whether Kubernetes takes it as the value of a label."""
    return isinstance(value, str) and bool(_LABEL.fullmatch(value))


def at(tree: Any, *steps: str) -> Any:
    """Return what lies there; None where nothing does, or the way leads through no mapping."""
    for step in steps:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def containers(tree: Tree, kind: str = "containers") -> list[Tree]:
    """Return the pod's containers, as far as they are mappings."""
    found = at(tree, "spec", "template", "spec", kind)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def trainer_number(tree: Tree) -> int | None:
    """Return which container trains: the one named trainer, or the only one."""
    all_of_them = containers(tree)
    named = [n for n, one in enumerate(all_of_them) if one.get("name") == TRAINER]
    if len(all_of_them) == 1:
        return 0
    return named[0] if named else None


def faults(tree: Any) -> Iterator[str]:
    """Say everything that is missing or would break us."""
    if at(tree, "apiVersion") != "batch/v1" or at(tree, "kind") != "Job":
        yield "apiVersion and kind must be batch/v1 and Job"
        return
    yield from _of_types(tree)
    yield from _of_metadata(tree)
    yield from _of_the_job(tree["spec"] if isinstance(tree.get("spec"), dict) else {})
    yield from _of_the_pod(tree)
    yield from placeholders.faults(tree)


def doubts(tree: Tree) -> Iterator[str]:
    """Say what works and is hardly what anybody wants."""
    ttl = at(tree, "spec", "ttlSecondsAfterFinished")
    if ttl is None:
        yield "spec.ttlSecondsAfterFinished is missing: finished Jobs stay until they are deleted"
    elif ttl < SHORTEST_TTL:
        yield (
            f"spec.ttlSecondsAfterFinished is {ttl}: a Job may be gone before its end was seen;"
            f" {SHORTEST_TTL} or more is safe"
        )
    if at(tree, "spec", "activeDeadlineSeconds") is None:
        yield "spec.activeDeadlineSeconds is missing: one that hangs may hold its GPU for ever"
    grace = at(tree, "spec", "template", "spec", "terminationGracePeriodSeconds")
    if type(grace) is int and grace < SHORTEST_GRACE:
        yield (
            f"spec.template.spec.terminationGracePeriodSeconds is {grace}: a trainer that is told"
            " to end has no time for a checkpoint"
        )
    if at(tree, "spec", "suspend"):
        yield "spec.suspend is true: Jobs wait until somebody else resumes them"
    if len(containers(tree)) > 1:
        yield (
            "spec.template.spec.containers has more than the trainer: the pod ends only when all"
            " have ended; a sidecar belongs to initContainers, with restartPolicy: Always"
        )
    yield from placeholders.left_alone(tree)


def _of_types(tree: Tree) -> Iterator[str]:
    """Whatever is read here or changed at launch has the type that Kubernetes asks for, too."""
    for steps in (("metadata",), ("spec",), ("spec", "template"), ("spec", "template", "spec")):
        if not isinstance(at(tree, *steps), dict):
            yield f"{'.'.join(steps)} must be a mapping"
    annotations = at(tree, "metadata", "annotations")
    if annotations is not None and not _is_texts(annotations):
        yield "metadata.annotations must be a mapping of names to texts"
    for kind in ("containers", "initContainers"):
        path, found = f"spec.template.spec.{kind}", at(tree, "spec", "template", "spec", kind)
        if found is not None and not _is_mappings(found):
            yield f"{path} must be a list of mappings"
            continue
        for number, container in enumerate(found or ()):
            yield from _of_entries(f"{path}[{number}].env", container.get("env"))


def _of_entries(path: str, env: Any) -> Iterator[str]:
    if env is None:
        return
    if not _is_mappings(env):
        yield f"{path} must be a list of mappings"
        return
    for number, entry in enumerate(env):
        if not isinstance(entry.get("name"), str):
            yield f"{path}[{number}].name must be a text"
        if not isinstance(entry.get("value", ""), str):
            yield f"{path}[{number}].value must be a text: quote it"


def _is_mappings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _of_metadata(tree: Tree) -> Iterator[str]:
    if at(tree, "metadata", "name") != "{name}":
        yield 'metadata.name must be "{name}"'
    for name, why in (
        ("generateName", "an attempt's Job is known by its name"),
        ("namespace", "the cluster's settings name it"),
        ("finalizers", "nobody would remove them"),
        ("ownerReferences", "its Jobs would vanish with their owner"),
    ):
        if at(tree, "metadata", name) is not None:
            yield f"metadata.{name} must be absent, because {why}"
    yield from _of_labels(tree, "metadata")
    yield from _of_labels(tree, "spec", "template", "metadata")


def _of_labels(tree: Tree, *steps: str) -> Iterator[str]:
    path, labels = ".".join((*steps, "labels")), at(tree, *steps, "labels")
    labels = labels if isinstance(labels, dict) else {}
    for name, value in LABELS.items():
        if labels.get(name) != value:
            yield f'{path} must have {name}: "{value}"'
    for name, value in labels.items():
        if name not in LABELS and not (is_label(value) or _has_places(value)):
            yield f"{path}.{name} must be a label's text: at most {LONGEST_LABEL} of A-Za-z0-9-_."


def _has_places(value: object) -> bool:
    return isinstance(value, str) and bool(placeholders.names_in(value))


def _of_the_job(spec: Tree) -> Iterator[str]:
    if not _is(spec.get("backoffLimit"), 0):
        yield "spec.backoffLimit must be 0, because the service retries"
    for name in ("parallelism", "completions"):
        if spec.get(name) is not None and not _is(spec[name], 1):
            yield f"spec.{name} must be 1 or absent, because an attempt is one pod"
    if spec.get("completionMode", "NonIndexed") != "NonIndexed":
        yield "spec.completionMode must be NonIndexed or absent, because an attempt is one pod"
    if spec.get("podReplacementPolicy") == "Failed":
        yield (
            "spec.podReplacementPolicy must not be Failed, because a Job on a lost node would"
            " never end"
        )
    if any(at(rule, "action") == "Ignore" for rule in _list(at(spec, "podFailurePolicy", "rules"))):
        yield "spec.podFailurePolicy must not Ignore a failure, because a second pod would start"
    for name, why in (
        ("managedBy", "the cluster's own Job controller must run it"),
        ("selector", "the Job controller chooses it"),
        ("manualSelector", "the Job controller chooses the selector"),
    ):
        if spec.get(name) is not None:
            yield f"spec.{name} must be absent, because {why}"
    for name, least in (("ttlSecondsAfterFinished", 0), ("activeDeadlineSeconds", 1)):
        value = spec.get(name)
        if value is not None and (type(value) is not int or value < least):
            yield f"spec.{name} must be a whole number of seconds from {least}"


def _of_the_pod(tree: Tree) -> Iterator[str]:
    path = "spec.template.spec"
    if at(tree, "spec", "template", "spec", "restartPolicy") != "Never":
        yield f"{path}.restartPolicy must be Never, because a restart is another attempt"
    yield from _of_restarts(tree)
    if not containers(tree):
        yield f"{path}.containers must have a container named {TRAINER}"
        return
    number = trainer_number(tree)
    if number is None:
        yield f"{path}.containers must have one container that is named {TRAINER}"
        return
    trainer = containers(tree)[number]
    path = f"{path}.containers[{number}]"
    if not isinstance(trainer.get("image"), str) or not trainer["image"]:
        yield f"{path}.image must name an image"
    yield from _of_env(path, trainer)


def _of_restarts(tree: Tree) -> Iterator[str]:
    """A container may be told to restart where its pod may not; init containers beside it may."""
    for number, container in enumerate(containers(tree)):
        own = container.get("restartPolicy", "Never") != "Never"
        if own or container.get("restartPolicyRules"):
            path = f"spec.template.spec.containers[{number}]"
            yield (
                f"{path} must have no restartPolicy of its own, because a restart is another"
                " attempt"
            )


def _of_env(path: str, trainer: Tree) -> Iterator[str]:
    env = [entry for entry in _list(trainer.get("env")) if isinstance(entry, dict)]
    for name, times in Counter(str(entry.get("name")) for entry in env).items():
        if times > 1:
            yield f"{path}.env has {name} more than once"
    entries = {str(entry.get("name")): entry for entry in env}
    for name, value in FIXED.items():
        entry = entries.get(name)
        if (entry is None and name in REQUIRED) or (entry and entry.get("value") != value):
            yield f'{path}.env must have {name} with the value "{value}"'
    url = entries.get("BACKEND_BASE_URL", {})
    if not url.get("value") and at(url, "valueFrom") is None:
        yield f'{path}.env must have BACKEND_BASE_URL, such as with the value "{{service_url}}"'
    token = at(entries.get("CALLBACK_TOKEN"), "valueFrom", "secretKeyRef")
    if at(token, "name") != TOKEN_SECRET or at(token, "key") != TOKEN_KEY or token.get("optional"):
        yield (
            f"{path}.env must have CALLBACK_TOKEN from the Secret"
            f' "{TOKEN_SECRET}", key {TOKEN_KEY}, not optional'
        )
    for name in SECRET_VARIABLES[1:]:
        if name in entries and at(entries[name], "valueFrom") is None:
            yield f"{path}.env must have {name} from a Secret, not as a value"


def _is(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
