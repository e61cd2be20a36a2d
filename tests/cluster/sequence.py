"""A stream of watch events in short lines: for each event, what it changed.

The recordings of a real cluster and the streams of this one are compared by these lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.cluster.objects import Object

COUNTS = ("active", "ready", "terminating", "succeeded", "failed")


def told(events: Iterable[tuple[str, Object]]) -> list[str]:
    """The lines of one object's (type, object) pairs."""
    lines: list[str] = []
    before: dict[str, str] = {}
    for type_, body in events:
        facts = _facts(body)
        news = [
            text
            for name in (*before, *(name for name in facts if name not in before))
            if before.get(name) != facts.get(name) and (text := facts.get(name) or f"no {name}")
        ]
        lines.append(": ".join([type_, ", ".join(news)]) if news else type_)
        before = facts
    return lines


def _facts(body: Object) -> dict[str, str]:
    metadata, status = body["metadata"], body.get("status", {})
    facts: dict[str, str] = {}
    if "deletionTimestamp" in metadata:
        facts["deletion"] = f"deleted with grace {metadata['deletionGracePeriodSeconds']}"
    facts |= {name: f"finalizer {name}" for name in metadata.get("finalizers", [])}
    if "completionMode" in body.get("spec", {}):
        return facts | _facts_of_job(status)
    return facts | _facts_of_pod(body, status)


def _facts_of_job(status: Object) -> dict[str, str]:
    facts = {name: f"{name} {status[name]}" for name in COUNTS if name in status}
    facts |= {name: name for name in ("startTime", "completionTime") if name in status}
    uncounted = status.get("uncountedTerminatedPods") or {}
    waiting = {f"uncounted {name}": len(uids) for name, uids in uncounted.items()}
    facts |= {name: f"{name} {number}" for name, number in waiting.items()}
    return facts | _conditions(status)


def _facts_of_pod(body: Object, status: Object) -> dict[str, str]:
    facts = {"phase": str(status.get("phase"))}
    if body["spec"].get("nodeName"):
        facts["node"] = "bound"
    for name in ("reason", "message"):
        if name in status:
            facts[name] = f"{name} {status[name]}"
    for container in status.get("containerStatuses", []):
        facts["container"] = _state(container["state"])
    return facts | _conditions(status)


def _state(state: Object) -> str:
    ((kind, about),) = state.items()
    words: list[Any] = [kind]
    if "exitCode" in about:
        words.append(about["exitCode"])
    words += [about[name] for name in ("reason", "message") if name in about]
    return " ".join(str(word) for word in words)


def _conditions(status: Object) -> dict[str, str]:
    return {
        one["type"]: " ".join(
            filter(None, [one["type"], one["status"], one.get("reason"), one.get("message")])
        )
        for one in status.get("conditions", [])
    }
