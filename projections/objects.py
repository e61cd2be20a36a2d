"""Kubernetes objects as its API shows them: JSON in which anything may be missing or null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]
"""A Job, a Pod, an Event or a part of one."""


def part(value: Any, *names: str) -> Object:
    """Return what lies under these names; an empty object where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def parts(value: Any, name: str) -> list[Object]:
    """Return the objects of a list under this name; those that are none are left out."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def text(value: Any, name: str) -> str:
    """Return the text under this name, or an empty one."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""


def number(value: Any, name: str) -> int | None:
    """Return the whole number under this name, if there is one."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def time(value: Any, name: str) -> datetime | None:
    """Return the moment under this name, if there is one that can be read."""
    return moment_of(text(value, name))


def moment_of(said: str) -> datetime | None:
    """Return the moment that a text names, if it can be read."""
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def said_at(event: Object) -> str:
    """Return when a core Event was last said, of the older kind or the newer; text that sorts."""
    return (
        text(event, "lastTimestamp")
        or text(part(event, "series"), "lastObservedTime")
        or text(event, "eventTime")
        or text(event, "firstTimestamp")
    )


def uid_of(object_: Object) -> str:
    """Return the object's uid."""
    return text(part(object_, "metadata"), "uid")


def name_of(object_: Object) -> str:
    """Return the object's name."""
    return text(part(object_, "metadata"), "name")


def version_of(object_: Object) -> str:
    """Return the object's resourceVersion: opaque, other after each change."""
    return text(part(object_, "metadata"), "resourceVersion")


def is_deleting(object_: Object) -> bool:
    """Return whether the object's deletion was asked for."""
    return bool(text(part(object_, "metadata"), "deletionTimestamp"))


def owner_of(object_: Object) -> str:
    """Return the uid of the controller that owns the object, or an empty text."""
    for owner in parts(part(object_, "metadata"), "ownerReferences"):
        if owner.get("controller") is True:
            return text(owner, "uid")
    return text(part(object_, "metadata", "labels"), "batch.kubernetes.io/controller-uid")


def is_orphaning(object_: Object) -> bool:
    """Return whether the object's deletion is to leave what it owns."""
    return _is_held_by(object_, "orphan")


def takes_its_pods_along(object_: Object) -> bool:
    """Return whether the object's deletion begins with what it owns; one that is held may not."""
    return is_deleting(object_) and _is_held_by(object_, "foregroundDeletion")


def is_orphan(object_: Object) -> bool:
    """Return whether the object has lost its controller, which its labels still name."""
    owners = parts(part(object_, "metadata"), "ownerReferences")
    return not any(owner.get("controller") is True for owner in owners)


def condition(object_: Object, *types: str) -> Object:
    """Return the first condition of one of these types that holds; an empty one where none does."""
    for found in parts(part(object_, "status"), "conditions"):
        if found.get("type") in types and found.get("status") == "True":
            return found
    return {}


def newest(objects: Sequence[Object]) -> Object | None:
    """Return the one that was made last; of those of the same second the last of the list."""
    made = [
        (text(part(one, "metadata"), "creationTimestamp"), place)
        for place, one in enumerate(objects)
    ]
    return objects[max(made)[1]] if made else None


def _is_held_by(object_: Object, finalizer: str) -> bool:
    finalizers = part(object_, "metadata").get("finalizers")
    return isinstance(finalizers, list) and finalizer in finalizers
