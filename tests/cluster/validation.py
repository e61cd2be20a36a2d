"""What the server refuses as Invalid, with its own sentences."""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.cluster.objects import JOBS, PODS, SECRETS, Object, Resource
from tests.cluster.refusals import bad_request, invalid

Cause = tuple[str, str, str]

SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
LABEL = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
QUANTITY = r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?"
SUFFIXES = {
    "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
# The fields of a Job that may change after its creation.
CHANGEABLE = frozenset(
    {"parallelism", "suspend", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"}
)


def check_new(resource: Resource, body: Object) -> None:
    """Refuse a new object with all that is wrong with it."""
    name = body["metadata"].get("name", "")
    causes = [*_name(name), *_labels(body["metadata"].get("labels"), "metadata.labels")]
    if resource is JOBS:
        causes += _job(name, body.get("spec") or {})
    elif resource is PODS:
        causes += _pod(body.get("spec") or {}, "spec")
    elif resource is SECRETS:
        _secret_values(body)
    if causes:
        raise invalid(resource, name, causes)


def check_change(resource: Resource, before: Object, after: Object) -> None:
    """Refuse a change of what may not change."""
    causes = _labels(after["metadata"].get("labels"), "metadata.labels")
    if resource is JOBS:
        causes += _job_change(before["spec"], after["spec"])
    elif before.get("immutable") and after.get("data") != before.get("data"):
        sentence = "Forbidden: field is immutable when `immutable` is set"
        causes.append(("data", "FieldValueForbidden", sentence))
    if causes:
        raise invalid(resource, before["metadata"]["name"], causes)


def amount(quantity: Any) -> float:
    """The number that a Kubernetes quantity stands for."""
    text = str(quantity)
    suffix = text.lstrip("+-0123456789.")
    return float(text.removesuffix(suffix) or 0) * SUFFIXES.get(suffix, 1.0)


def _job_change(before: Object, after: Object) -> list[Cause]:
    return [
        _invalid(f"spec.{name}", "(…)", "field is immutable")
        for name in sorted({*before, *after} - CHANGEABLE)
        if before.get(name) != after.get(name)
    ]


def _name(name: str) -> list[Cause]:
    if not name:
        sentence = "Required value: name or generateName is required"
        return [("metadata.name", "FieldValueRequired", sentence)]
    if re.fullmatch(SUBDOMAIN, name) and len(name) <= 253:
        return []
    why = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
        "or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
        f"used for validation is '{SUBDOMAIN}')"
    )
    return [_invalid("metadata.name", name, why)]


def _labels(labels: dict[str, str] | None, where: str) -> list[Cause]:
    causes: list[Cause] = []
    for value in (labels or {}).values():
        if not isinstance(value, str):
            raise bad_request(f"cannot unmarshal {value!r} into Go struct field ObjectMeta.labels")
        if len(value) > 63:
            causes.append(_invalid(where, value, "must be no more than 63 bytes"))
        if not re.fullmatch(LABEL, value):
            why = (
                "a valid label must be an empty string or consist of alphanumeric characters, "
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
                f"'MyValue',  or 'my_value',  or '12345', regex used for validation is '{LABEL}')"
            )
            causes.append(_invalid(where, value, why))
    return causes


def _job(name: str, spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        value = spec.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise bad_request(
                f'Job in version "v1" cannot be handled as a Job: json: cannot unmarshal '
                f"{type(value).__name__} into Go struct field JobSpec.spec.{field} of type int32"
            )
        if isinstance(value, int) and value < 0:
            causes.append(_invalid(f"spec.{field}", value, "must be greater than or equal to 0"))
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    causes += _labels(labels, "spec.template.labels")
    if len(name) > 63:
        causes.append(_invalid("spec.template.labels", name, "must be no more than 63 bytes"))
    pod = template.get("spec") or {}
    if pod.get("restartPolicy", "Always") not in ("OnFailure", "Never"):
        sentence = 'Required value: valid values: "OnFailure", "Never"'
        causes.append(("spec.template.spec.restartPolicy", "FieldValueRequired", sentence))
    return causes + _pod(pod, "spec.template.spec")


def _pod(spec: Object, where: str) -> list[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        return [(f"{where}.containers", "FieldValueRequired", "Required value")]
    causes: list[Cause] = []
    for number, container in enumerate(containers):
        place = f"{where}.containers[{number}]"
        if not container.get("image"):
            causes.append((f"{place}.image", "FieldValueRequired", "Required value"))
        causes += _resources(container.get("resources") or {}, f"{place}.resources")
        causes += _variables(container.get("env") or [], f"{place}.env")
    return causes


def _variables(variables: list[Object], where: str) -> list[Cause]:
    causes: list[Cause] = []
    for number, variable in enumerate(variables):
        value = variable.get("value", "")
        if not isinstance(value, str):
            raise bad_request(
                f'Job in version "v1" cannot be handled as a Job: json: cannot unmarshal '
                f"{type(value).__name__} into Go struct field EnvVar.value of type string"
            )
        if not variable.get("name"):
            causes.append((f"{where}[{number}].name", "FieldValueRequired", "Required value"))
        if value and variable.get("valueFrom"):
            why = "may not be specified when `value` is not empty"
            causes.append(_invalid(f"{where}[{number}].valueFrom", "", why))
    return causes


def _resources(resources: Object, where: str) -> list[Cause]:
    causes: list[Cause] = []
    limits = resources.get("limits") or {}
    for part in ("limits", "requests"):
        for name, value in (resources.get(part) or {}).items():
            if not re.fullmatch(QUANTITY, str(value)):
                raise bad_request(
                    'Job in version "v1" cannot be handled as a Job: quantities must match the '
                    f"regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': {value}"
                )
            if part == "requests" and name in limits and amount(value) > amount(limits[name]):
                why = f"must be less than or equal to {name} limit of {limits[name]}"
                causes.append(_invalid(f"{where}.requests", value, why))
    return causes


def _secret_values(body: Object) -> None:
    for name, value in (body.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (ValueError, TypeError):
            raise bad_request(
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at '
                f"input byte 0 ({name})"
            ) from None


def _invalid(field: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return (field, "FieldValueInvalid", f"Invalid value: {shown}: {why}")
