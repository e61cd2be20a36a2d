"""What one pod shows: why it waits, that it runs, or how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from projections.causes import Cause
from projections.objects import (
    Object,
    condition,
    is_deleting,
    name_of,
    number,
    part,
    parts,
    text,
    time,
)
from projections.spoken import unstamped

TRAINER = "trainer"
"""The container that matters, where a pod has several."""
USUAL_GRACE = 30
SIGNALS = {137: 9, 143: 15}
"""Exit codes that say by which signal a container was ended."""

_WAITING = {
    "ImagePullBackOff": "image_pull_backoff",
    "ErrImageNeverPull": "image_pull_backoff",
    "RegistryUnavailable": "image_pull_backoff",
    "InvalidImageName": "invalid_image_name",
    "CreateContainerConfigError": "config_error",
    "CreateContainerError": "container_error",
    "RunContainerError": "container_error",
    "CrashLoopBackOff": "container_error",
}
PULLING = frozenset({"ErrImagePull", "ImageInspectError"})
"""Comes and goes between two `ImagePullBackOff`, and by itself may pass at once."""
_TAINTED = "DeletionByTaintManager"
_DISRUPTIONS = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    _TAINTED: Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
    "EvictionByEvictionAPI": Cause.DRAINED,
    "TerminationByKubelet": Cause.EVICTED,
}
_POD_REASONS = {
    "Evicted": Cause.EVICTED,
    "Preempting": Cause.PREEMPTED,
    "NodeShutdown": Cause.NODE_SHUTDOWN,
    "Terminated": Cause.NODE_SHUTDOWN,
    "NodeLost": Cause.NODE_LOST,
    "NodeAffinity": Cause.ADMISSION_REFUSED,
    "UnexpectedAdmissionError": Cause.ADMISSION_REFUSED,
    "DeadlineExceeded": Cause.DEADLINE_EXCEEDED,
}
_REJECTED = "Pod was rejected"
"""How a kubelet begins to say that it does not take a pod in, for whatever reason."""
_UNLOCATED = frozenset({"ContainerStatusUnknown", "Unknown"})
"""Ends that a kubelet makes up, exit code and all, for a container that it cannot find any more:
its node has started anew, or the container never ran."""
_BY_A_TAINT = "The pod was evicted by a taint of its node, as one gets that does not answer"
_WORDS = {
    Cause.PREEMPTED: "The pod was preempted by one of a higher priority",
    Cause.DRAINED: "The pod was evicted through the API, as a drain of its node does",
    Cause.EVICTED: "The pod was evicted by its node",
    Cause.NODE_LOST: "The pod was lost with its node",
    Cause.NODE_SHUTDOWN: "The pod ended with the shutdown of its node",
    Cause.ADMISSION_REFUSED: "The node refused the pod that was assigned to it",
    Cause.DEADLINE_EXCEEDED: "The pod was active for longer than its own deadline",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a pod ended."""

    cause: Cause | None
    """None where it ended by itself with exit code 0."""
    message: str
    exit_code: int | None = None
    signal: int | None = None
    at: datetime | None = None


def node_of(pod: Object) -> str | None:
    """Return the node that the pod was given, if it was."""
    return text(part(pod, "spec"), "nodeName") or None


def described(pod: Object) -> str:
    """Return the pod and its node in words."""
    node = node_of(pod)
    return f"pod {name_of(pod)}" + (f" on {node}" if node else "")


def phase_of(pod: Object) -> str:
    """Return `Pending`, `Running`, `Succeeded`, `Failed` or what else it says."""
    return text(part(pod, "status"), "phase")


def has_ended(pod: Object) -> bool:
    """Return whether no container of the pod runs any more."""
    return phase_of(pod) in {"Succeeded", "Failed"}


def grace_seconds(pod: Object) -> int:
    """Return how long the pod may take to end once it is asked to."""
    asked = number(part(pod, "metadata"), "deletionGracePeriodSeconds")
    given = number(part(pod, "spec"), "terminationGracePeriodSeconds")
    return next((value for value in (asked, given) if value), USUAL_GRACE)


def running_since(pod: Object) -> datetime | None:
    """Return when the trainer's container started, if it runs."""
    return time(part(_trainer(pod), "state", "running"), "startedAt")


def is_out_of_sight(pod: Object) -> bool:
    """Return whether the node does not report any more: what it last said of the pod is old."""
    if _disruption(pod) is Cause.NODE_LOST:
        return True
    # Who gives a node up writes `Ready` only; a kubelet that finds a pod unready, both.
    said = {
        text(one, "type"): one.get("status") for one in parts(part(pod, "status"), "conditions")
    }
    unready = said.get("Ready", "True") != "True" and said.get("ContainersReady", "True") == "True"
    runs = bool(part(_trainer(pod), "state", "running"))
    return phase_of(pod) == "Running" and runs and unready


def waits_for(pod: Object, known: str) -> tuple[str | None, str]:
    """Return for what a pending pod waits: a code and a sentence.

    `known` is the code that was told before; no code where what is seen now says nothing about it.
    """
    scheduled = [
        one for one in parts(part(pod, "status"), "conditions") if one.get("type") == "PodScheduled"
    ]
    if any(one.get("status") == "False" for one in scheduled):
        reason, said = text(scheduled[0], "reason"), text(scheduled[0], "message")
        code = "scheduling_gated" if reason == "SchedulingGated" else "unschedulable"
        return code, said or "No node has room for the pod."
    for status in _statuses(pod):
        waiting = part(status, "state", "waiting")
        reason, said = text(waiting, "reason"), text(waiting, "message")
        if reason in PULLING:
            return (known, said) if known == "image_pull_backoff" else (None, said)
        if reason in _WAITING:
            return _WAITING[reason], f"{reason}: {said}" if said else f"{reason}."
    if scheduled:
        where = f" on {node_of(pod)}" if node_of(pod) else ""
        return "container_creating", f"The pod's containers are being made{where}."
    return "scheduling", "The pod waits for the scheduler."


def end_of(pod: Object) -> End | None:
    """Return how the pod ended; None where it shows no end.

    What took the pod away explains its exit code, so it comes first (a drained pod ends by SIGTERM
    and looks like a mistake of its own); `OOMKilled` counts only with the exit code of a SIGKILL.
    """
    terminated, container = _terminated(pod)
    found = text(terminated, "reason") not in _UNLOCATED
    code = number(terminated, "exitCode") if found else None
    at, cause = time(terminated, "finishedAt"), _what_took(pod)
    if cause is not None and (has_ended(pod) or is_deleting(pod)):
        message = _sentence(_words(cause, pod), pod, text(part(pod, "status"), "message"))
        return End(cause=cause, message=message, exit_code=code, signal=_signal(code), at=at)
    if code is None:
        if phase_of(pod) != "Failed":
            return None
        return _without_code(pod, terminated)
    cause, message = _by_code(pod, code, terminated, container)
    return End(cause=cause, message=message, exit_code=code, signal=_signal(code), at=at)


def end_of_trainer(pod: Object) -> End | None:
    """Return how the trainer's container ended in a pod in which others run on, if it did."""
    own = parts(part(pod, "status"), "containerStatuses")
    trainers = [one for one in own if one.get("name") == TRAINER] or own
    terminated = part(trainers[0], "state", "terminated") if len(trainers) == 1 else {}
    code = number(terminated, "exitCode")
    if code is None or phase_of(pod) != "Running" or text(terminated, "reason") in _UNLOCATED:
        return None
    cause, message = _by_code(pod, code, terminated, TRAINER)
    at = time(terminated, "finishedAt")
    return End(cause=cause, message=message, exit_code=code, signal=_signal(code), at=at)


def disruption_of(pod: Object) -> tuple[Cause, str] | None:
    """Return what is about to take the pod away, and a sentence; None where nothing is."""
    cause = _what_took(pod)
    if cause is None or _disruption(pod) is None:
        return None
    said = text(condition(pod, "DisruptionTarget"), "message")
    return cause, _sentence(_words(cause, pod), pod, said)


def _without_code(pod: Object, terminated: Object) -> End:
    """Return the end of a pod of which nobody knows how its container ended, or whether it ran."""
    if is_deleting(pod):
        how = "and nobody knows how its container ended, or whether it ran"
        how = how if terminated else "before its container had run"
        return End(
            cause=Cause.POD_DELETED, message=_sentence(f"The pod was deleted {how}", pod, "")
        )
    if terminated:
        words = "The node lost the pod's container, as when it starts anew"
        return End(
            cause=Cause.NODE_LOST, message=_sentence(words, pod, text(terminated, "message"))
        )
    said = text(part(pod, "status"), "message") or text(part(pod, "status"), "reason")
    return End(cause=Cause.POD_FAILED, message=_sentence("The pod failed", pod, said))


def _by_code(
    pod: Object, code: int, terminated: Object, container: str
) -> tuple[Cause | None, str]:
    reason, said = text(terminated, "reason"), text(terminated, "message").strip()
    if code == 0 and not is_deleting(pod):
        return None, ""
    which = "The container" if container == TRAINER else f"Container {container}"
    if reason == "OOMKilled" and code == 137:
        limit = _memory_limit(pod, container)
        known = f", memory limit {limit}" if limit else ""
        words = "OOMKilled" if container == TRAINER else f"OOMKilled: {which.lower()}"
        return Cause.OOM_KILLED, _sentence(words, pod, f"exit code 137{known}")
    if reason in {"StartError", "ContainerCannotRun"}:
        return Cause.START_ERROR, _sentence(f"{which} could not start", pod, said)
    if is_deleting(pod):  # whatever it answers then, it was asked to end
        last = f"; {unstamped(said.splitlines()[-1])}" if said else ""
        return Cause.POD_DELETED, _sentence("The pod was deleted", pod, f"exit code {code}{last}")
    if code in SIGNALS:
        return Cause.KILLED, _sentence(f"{which} was killed", pod, f"exit code {code}")
    words = f"{which} ended with exit code {code}"
    if reason == "OOMKilled":  # the kernel chose a child, and what was left gave up
        words += ", after one of its processes was OOMKilled"
    last = unstamped(said.splitlines()[-1]) if said else ""
    return Cause.EXIT_NONZERO, _sentence(words, pod, last)


def _words(cause: Cause, pod: Object) -> str:
    tainted = text(condition(pod, "DisruptionTarget"), "reason") == _TAINTED
    return _BY_A_TAINT if tainted and cause is Cause.NODE_LOST else _WORDS[cause]


def _sentence(words: str, pod: Object, said: str) -> str:
    node = node_of(pod)
    where = f" (node {node})" if node else ""
    return f"{words}{where}" + (f": {said.rstrip('.')}." if said else ".")


def _signal(code: int | None) -> int | None:
    return SIGNALS.get(code) if code is not None else None


def _what_took(pod: Object) -> Cause | None:
    cause = _disruption(pod)
    if cause in {None, Cause.EVICTED}:  # the kubelet's own word is the finer one
        cause = _pod_reason(pod) or cause
    return cause


def _disruption(pod: Object) -> Cause | None:
    return _DISRUPTIONS.get(text(condition(pod, "DisruptionTarget"), "reason"))


def _pod_reason(pod: Object) -> Cause | None:
    status = part(pod, "status")
    reason, said = text(status, "reason"), text(status, "message")
    refused = reason.startswith("OutOf") or (
        phase_of(pod) == "Failed" and said.startswith(_REJECTED)
    )
    return _POD_REASONS.get(reason) or (Cause.ADMISSION_REFUSED if refused else None)


def _statuses(pod: Object) -> list[Object]:
    """Return the containers' statuses, the trainer's before all others."""
    status = part(pod, "status")
    found = parts(status, "containerStatuses")
    found.sort(key=lambda one: one.get("name") != TRAINER)
    return [*found, *parts(status, "initContainerStatuses")]


def _trainer(pod: Object) -> Object:
    return next(iter(_statuses(pod)), {})


def _terminated(pod: Object) -> tuple[Object, str]:
    """Return the end that counts, and whose it is: the trainer's, or the first bad one."""
    ends = [
        (part(status, "state", "terminated"), text(status, "name")) for status in _statuses(pod)
    ]
    ends = [(end, name) for end, name in ends if number(end, "exitCode") is not None]
    bad = [(end, name) for end, name in ends if number(end, "exitCode") != 0]
    first = next(iter(ends), ({}, ""))
    return first if first[1] == TRAINER else next(iter(bad), first)


def _memory_limit(pod: Object, container: str) -> str:
    specs = part(pod, "spec")
    for spec in (*parts(specs, "containers"), *parts(specs, "initContainers")):
        if spec.get("name") == container:
            return text(part(spec, "resources", "limits"), "memory")
    return ""
