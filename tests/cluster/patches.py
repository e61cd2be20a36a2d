"""Merge patches and JSON patches."""

from __future__ import annotations

from typing import Any

from tests.cluster.objects import Object
from tests.cluster.refusals import bad_request


def merge(body: Any, patch: Object) -> Object:
    """RFC 7386: null takes away, an object is merged, anything else replaces."""
    merged: Object = dict(body) if isinstance(body, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge(merged.get(name), value)
        else:
            merged[name] = value
    return merged


def apply_json_patch(body: Object, steps: list[Object]) -> Object:
    """RFC 6902, without copy and move."""
    for step in steps:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in _parts(step)]
        place: Any = body
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        _apply(place, last, step)
    return body


def _parts(step: Object) -> list[str]:
    path: str = step["path"]
    return path.removeprefix("/").split("/")


def _apply(place: Any, last: str, step: Object) -> None:
    key: Any = last
    if isinstance(place, list):
        key = len(place) if last == "-" else int(last)
    match step["op"]:
        case "add" if isinstance(place, list):
            place.insert(key, step["value"])
        case "add" | "replace":
            place[key] = step["value"]
        case "remove":
            del place[key]
        case "test" if place[key] == step["value"]:
            pass
        case _:
            raise bad_request(
                f"the server rejected our request due to an error in our request: {step}"
            )
