"""The shapes of a pod's status, one for each thing that happens to its container."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.conditions import put_first, set_pod_condition
from tests.cluster.objects import Object

Write = Callable[[Object], None]

KUBELETS = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
ADDRESS = "127.0.0.1"


def scheduled(node: str, now: str) -> Write:
    def write(pod: Object) -> None:
        pod["spec"]["nodeName"] = node
        set_pod_condition(pod, "PodScheduled", "True", now)

    return write


def unschedulable(reason: str, message: str, now: str) -> Write:
    def write(pod: Object) -> None:
        set_pod_condition(pod, "PodScheduled", "False", now, reason=reason, message=message)

    return write


def waiting(reason: str, message: str, now: str) -> Write:
    """The container has not started, and why; a container that never could restart shows it."""

    def write(pod: Object) -> None:
        state = {"reason": reason, **({"message": message} if message else {})}
        pod["status"].setdefault("hostIP", ADDRESS)
        pod["status"].setdefault("startTime", now)
        _set_state(pod, {"waiting": state})

    return write


def running(now: str) -> Write:
    def write(pod: Object) -> None:
        pod["status"]["phase"] = "Running"
        pod["status"].setdefault("startTime", now)
        pod["status"] |= {"hostIP": ADDRESS, "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
        _set_readiness(pod, "True", now)
        _set_state(pod, {"running": {"startedAt": now}})

    return write


def terminated(
    code: int, now: str, *, reason: str = "", message: str = "", signal: int | None = None
) -> Write:
    """The container has ended, and with it the pod."""

    def write(pod: Object) -> None:
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        _set_readiness(pod, "False", now)
        state: Object = {"exitCode": code, "reason": reason or _default_reason(code)}
        if signal is not None:
            state["signal"] = signal
        if message:
            state["message"] = message
        _set_state(
            pod, {"terminated": {**state, "startedAt": started_at(pod, now), "finishedAt": now}}
        )

    return write


def not_located(now: str) -> Write:
    """The kubelet has to say how containers ended that it cannot find: it makes an end up."""

    def write(pod: Object) -> None:
        pod["status"]["phase"] = "Failed"
        _set_readiness(pod, "False", now)
        said = "The container could not be located when the pod was terminated"
        end = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": said}
        _set_state(pod, {"terminated": {**end, "startedAt": None, "finishedAt": None}})

    return write


def ended(reason: str, message: str, code: int, now: str) -> Write:
    """The kubelet has ended the pod for a fault of its own, which is no disruption."""

    def write(pod: Object) -> None:
        if pod["status"].get("containerStatuses"):
            terminated(code, now)(pod)
        pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}

    return write


def evicted(reason: str, message: str, target: str, code: int, now: str) -> Write:
    """The kubelet has ended the pod for its node's sake: one write says all."""

    def write(pod: Object) -> None:
        ended(reason, message, code, now)(pod)
        disrupted("TerminationByKubelet", target, now)(pod)

    return write


def rejected(reason: str, message: str, now: str) -> Write:
    """The kubelet did not take the pod in: there are no container statuses."""

    def write(pod: Object) -> None:
        pod["status"].pop("containerStatuses", None)
        pod["status"].setdefault("startTime", now)
        pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}

    return write


def disrupted(reason: str, message: str, now: str) -> Write:
    return lambda pod: set_pod_condition(
        pod, "DisruptionTarget", "True", now, reason=reason, message=message
    )


def spared(now: str) -> Write:
    return lambda pod: set_pod_condition(pod, "DisruptionTarget", "False", now)


def node_not_ready(now: str) -> Write:
    """Nothing is known of the node: the phase stays, only Ready turns false."""
    return lambda pod: set_pod_condition(pod, "Ready", "False", now)


def node_ready(now: str) -> Write:
    return lambda pod: set_pod_condition(pod, "Ready", "True", now)


def given_up(now: str) -> Write:
    """PodGC: the node is gone, and so is whatever ran there."""

    def write(pod: Object) -> None:
        if pod["status"]["phase"] not in ("Succeeded", "Failed"):
            pod["status"]["phase"] = "Failed"
            disrupted("DeletionByPodGC", "PodGC: node no longer exists", now)(pod)

    return write


def started_at(pod: Object, now: str) -> str:
    for one in pod["status"].get("containerStatuses", []):
        if "running" in one["state"]:
            at: str = one["state"]["running"]["startedAt"]
            return at
    return now


def _set_readiness(pod: Object, ready: str, now: str) -> None:
    for kind in KUBELETS:
        set_pod_condition(pod, kind, ready if kind.endswith("Ready") else "True", now)
    put_first(pod, KUBELETS)


def _set_state(pod: Object, state: Object) -> None:
    runs = "running" in state
    known = {one["name"]: one for one in pod["status"].get("containerStatuses", [])}
    over = {name for name, one in known.items() if "terminated" in one["state"]}
    pod["status"]["containerStatuses"] = [
        known[container["name"]]  # what has ended stays as it is
        if container["name"] in over
        else {
            "name": container["name"],
            "state": state,
            "lastState": {},
            "ready": runs,
            "restartCount": 0,
            "image": container["image"],
            "imageID": "",
            "started": runs,
        }
        for container in pod["spec"]["containers"]
    ]


def _default_reason(code: int) -> str:
    return "Completed" if code == 0 else "Error"
