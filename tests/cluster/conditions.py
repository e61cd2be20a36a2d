"""Conditions of pods and Jobs, set as the components set them."""

from __future__ import annotations

from tests.cluster.objects import Object, condition


def set_pod_condition(
    pod: Object, kind: str, status: str, now: str, *, reason: str = "", message: str = ""
) -> None:
    """Set a condition in its place, or add it as the last; a kept status keeps its time."""
    known = condition(pod, kind)
    kept = known is not None and known["status"] == status
    made: Object = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": known["lastTransitionTime"] if known and kept else now,
    }
    if kind == "PodScheduled" and status == "False":
        made["observedGeneration"] = pod["metadata"]["generation"]
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    _put(pod, made)


def set_job_condition(
    status: Object, kind: str, value: str, now: str, reason: str, message: str
) -> None:
    """Set a condition of a Job's status, where it says something new."""
    known = condition({"status": status}, kind)
    if known is not None and known["status"] == value and known["reason"] == reason:
        return
    made = {
        "type": kind,
        "status": value,
        "lastProbeTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
    _put({"status": status}, made)


def put_first(pod: Object, kinds: tuple[str, ...]) -> None:
    """Bring these conditions to the front, in this order, as the kubelet writes them."""
    conditions: list[Object] = pod["status"]["conditions"]
    front = [one for kind in kinds for one in conditions if one["type"] == kind]
    pod["status"]["conditions"] = [*front, *(one for one in conditions if one not in front)]


def _put(body: Object, made: Object) -> None:
    conditions: list[Object] = body["status"].setdefault("conditions", [])
    for number, one in enumerate(conditions):
        if one["type"] == made["type"]:
            conditions[number] = made
            return
    conditions.append(made)
