"""What a cluster shows of a pod, kept before it is cleared away: small, and without secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from projections.events import Evidence
from projections.objects import Object, name_of, part, parts, said_at, text, uid_of
from projections.pods import node_of
from projections.spoken import as_text
from service.redaction import recordable

MAX_BYTES = 32 * 1024
MAX_TEXT = 2_000
LINE_WIDTH = 500
MOST_EVENTS = 20


def pod_evidence(
    job: Object | None, pod: Object | None, events: Iterable[Object], output: str
) -> Evidence | None:
    """Return the evidence, cut to its largest size from the oldest line of output on."""
    data: dict[str, Any] = {}
    if job is not None:
        data["job"] = {"name": name_of(job), "uid": uid_of(job), **_conditions(job)}
    if pod is not None:
        data["pod"] = _pod(pod)
    if told := [_event(event) for event in events][-MOST_EVENTS:]:
        data["events"] = told
    if not data:
        return None
    data = _clean(data)
    spoken = "\n".join(said for line in output.splitlines() for said in as_text(line))
    lines = [line[:LINE_WIDTH] for line in recordable(spoken).splitlines()]
    while lines and _size({**data, "log": lines}) > MAX_BYTES:
        lines = lines[1 + len(lines) // 8 :]
    if lines:
        data["log"] = lines
    while _size(data) > MAX_BYTES and data.get("events"):
        data["events"] = data["events"][1:]
    return Evidence(kind="pod", data=data)


def _pod(pod: Object) -> dict[str, Any]:
    status = part(pod, "status")
    told = {
        "name": name_of(pod),
        "uid": uid_of(pod),
        "node": node_of(pod),
        "phase": text(status, "phase"),
        "reason": text(status, "reason"),
        "message": text(status, "message"),
        "deleted_at": text(part(pod, "metadata"), "deletionTimestamp"),
        **_conditions(pod),
        "containers": [
            _container(one)
            for field in ("initContainerStatuses", "containerStatuses")
            for one in parts(status, field)
        ],
        "limits": {
            text(one, "name"): dict(part(one, "resources", "limits"))
            for one in parts(part(pod, "spec"), "containers")
        },
    }
    return {name: value for name, value in told.items() if value}


def _container(status: Object) -> dict[str, Any]:
    told = {
        "name": text(status, "name"),
        "image": text(status, "image"),
        "restarts": status.get("restartCount"),
        "state": dict(part(status, "state")),
        "last_state": dict(part(status, "lastState")),
    }
    return {name: value for name, value in told.items() if value}


def _conditions(seen: Object) -> dict[str, Any]:
    kept = ("type", "status", "reason", "message", "lastTransitionTime")
    found = [
        {name: one[name] for name in kept if one.get(name)}
        for one in parts(part(seen, "status"), "conditions")
    ]
    return {"conditions": found} if found else {}


def _event(event: Object) -> dict[str, Any]:
    told = {
        "at": said_at(event),
        "type": text(event, "type"),
        "reason": text(event, "reason"),
        "message": text(event, "message"),
        "count": event.get("count"),
    }
    return {name: value for name, value in told.items() if value}


def _clean(value: Any) -> Any:
    """Return data without secrets, without NUL characters and without texts of any length."""
    if isinstance(value, str):
        return recordable(value[:MAX_TEXT])
    if isinstance(value, Mapping):
        return {recordable(str(name)): _clean(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def _size(data: Mapping[str, Any]) -> int:
    return len(orjson.dumps(data))
