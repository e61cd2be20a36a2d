"""Label and field selectors: text in, a test over objects out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.cluster.objects import Object
from tests.cluster.refusals import bad_request

Test = Callable[[Object], bool]

SET_BASED = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
EQUALITY = re.compile(r"^([^\s=!]+)\s*(==|=|!=)\s*(\S*)$")
EXISTS = re.compile(r"^(!?)\s*([^\s=!,()]+)$")
FIELDS = frozenset(
    {
        "metadata.name", "metadata.namespace", "status.phase", "spec.nodeName", "reason", "type",
        "involvedObject.uid", "involvedObject.name", "involvedObject.kind",
        "involvedObject.namespace",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selector:
    """What a list or watch is narrowed to."""

    labels: tuple[Test, ...] = ()
    fields: tuple[Test, ...] = ()
    # One key that every match is filed under: lets the store look up instead of scan.
    index: tuple[str, ...] | None = field(default=None)

    def matches(self, body: Object) -> bool:
        return all(test(body) for test in (*self.labels, *self.fields))

    @property
    def is_empty(self) -> bool:
        return not self.labels and not self.fields


@cache
def parse(labels: str, fields: str) -> Selector:
    """Read both selectors, or refuse as the server does."""
    found: list[tuple[Test, tuple[str, ...] | None]] = [
        _label_term(term) for term in re.split(r",\s*(?![^(]*\))", labels.strip()) if term
    ]
    narrowed = [_field_term(term) for term in fields.split(",") if term]
    keys = [key for _, key in (*found, *narrowed) if key is not None]
    return Selector(
        labels=tuple(test for test, _ in found),
        fields=tuple(test for test, _ in narrowed),
        index=keys[0] if keys else None,
    )


def _label_term(term: str) -> tuple[Test, tuple[str, ...] | None]:
    term = term.strip()
    if match := SET_BASED.match(term):
        name, verb, listed = match.groups()
        values = frozenset(value.strip() for value in listed.split(","))
        if verb == "in":
            return lambda body: _labels(body).get(name) in values, None
        return lambda body: _labels(body).get(name) not in values, None
    if match := EQUALITY.match(term):
        name, sign, value = match.groups()
        if sign == "!=":
            return lambda body: _labels(body).get(name) != value, None
        return lambda body: _labels(body).get(name) == value, ("label", name, value)
    if match := EXISTS.match(term):
        absent, name = match.groups()
        return lambda body: (name in _labels(body)) is not bool(absent), None
    raise bad_request(f'unable to parse requirement: found "{term}"')


def _field_term(term: str) -> tuple[Test, tuple[str, ...] | None]:
    match = EQUALITY.match(term.strip())
    if match is None:
        raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
    name, sign, value = match.groups()
    if name not in FIELDS:
        raise bad_request(f"field label not supported: {name}")
    path = name.split(".")
    if sign == "!=":
        return lambda body: _at(body, path) != value, None
    key = ("involved", value) if name == "involvedObject.uid" else None
    return lambda body: _at(body, path) == value, key


def _labels(body: Object) -> dict[str, str]:
    labels: dict[str, str] = body["metadata"].get("labels") or {}
    return labels


def _at(body: Object, path: list[str]) -> str:
    found: Any = body
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return "" if found is None else str(found)
