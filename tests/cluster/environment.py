"""A container's command and environment, resolved from its pod and the cluster's Secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.cluster.objects import SECRETS, Object, decoded, namespace_of
from tests.cluster.store import Store

VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class ConfigError(Exception):
    """The container cannot be made yet; the sentence is the kubelet's."""


def environment_of(pod: Object, store: Store) -> dict[str, str]:
    """The container's variables, or ConfigError where a Secret or its key is missing."""
    container = pod["spec"]["containers"][0]
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        if "secretRef" in source:
            secret = _secret(pod, source["secretRef"], store)
            found |= {name: decoded(value) for name, value in secret.items()}
    for variable in container.get("env") or []:
        value = _value(variable, pod, store, found)
        if value is not None:
            found[variable["name"]] = value
    return found


def argv_of(pod: Object, environment: dict[str, str]) -> list[str]:
    """The command and its arguments, `$(NAME)` filled in; empty where the image decides."""
    container = pod["spec"]["containers"][0]
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return [_expanded(word, environment) for word in words]


def _value(variable: Object, pod: Object, store: Store, known: dict[str, str]) -> str | None:
    source: Any = variable.get("valueFrom")
    if not source:
        return _expanded(variable.get("value", ""), known)
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    reference = source["secretKeyRef"]
    values = _secret(pod, reference, store)
    if reference["key"] in values:
        return decoded(values[reference["key"]])
    if reference.get("optional"):
        return None
    where = f"{namespace_of(pod)}/{reference['name']}"
    raise ConfigError(f"couldn't find key {reference['key']} in Secret {where}")


def _secret(pod: Object, reference: Object, store: Store) -> dict[str, str]:
    secret = store.find(SECRETS, namespace_of(pod), reference["name"])
    if secret is None and not reference.get("optional"):
        raise ConfigError(f'secret "{reference["name"]}" not found')
    values: dict[str, str] = (secret or {}).get("data") or {}
    return values


def _field(pod: Object, path: str) -> str:
    found: Any = pod
    for name in path.split("."):
        found = found.get(name, "")
    return str(found)


def _expanded(text: str, known: dict[str, str]) -> str:
    fill: Callable[[re.Match[str]], str] = lambda match: known.get(match[1], match[0])  # noqa: E731
    return VARIABLE.sub(fill, text)
