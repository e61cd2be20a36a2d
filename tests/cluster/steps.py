"""What happens in a cluster, each thing one call: to pods and to Jobs.

A step takes a pod's name, a Job's name (its newest pod is meant) or the object itself.
"""

from __future__ import annotations

from tests.cluster import containers
from tests.cluster.containers import Write
from tests.cluster.control import Control
from tests.cluster.defaults import with_defaults, with_name
from tests.cluster.deletion import delete, delete_pod
from tests.cluster.objects import (
    EVENTS,
    JOBS,
    PODS,
    Clock,
    Object,
    copied,
    has_started,
    is_over,
    is_running,
    name_of,
    namespace_of,
    real_time,
    uid_of,
)
from tests.cluster.selectors import Selector

Ref = str | Object

NO_GPU = (
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate, "
    "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)
LOW_ON_MEMORY = "The node was low on resource: memory."
PREEMPTING = "default-scheduler: preempting to accommodate a higher priority pod"
GPU_GONE = (
    "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. "
    "Requested: 1, Available: 0, which is unexpected"
)


class Steps(Control):
    """The controllers with everything that may happen to what they control."""

    def __init__(
        self,
        *,
        namespace: str = "training",
        nodes: tuple[str, ...] = ("node-1", "node-2", "node-3"),
        history: int = 5000,
        clock: Clock = real_time,
    ) -> None:
        super().__init__(history=history, clock=clock)
        self.namespace = namespace
        self.nodes = list(nodes)
        self.logs: dict[str, bytearray] = {}

    # What is there

    def add_job(self, body: Object) -> Object:
        """Make a Job as `kubectl create` does, without HTTP."""
        made = with_defaults(JOBS, with_name(body, self.namespace))
        self.store.create(JOBS, made)
        self.settle()
        return self.job(name_of(made))

    def job(self, job: Ref) -> Object:
        """The Job as it is now."""
        name, namespace = self._place(job)
        return self.store.get(JOBS, namespace, name)

    def pods(self, job: Ref) -> list[Object]:
        """The Job's pods, oldest first."""
        return [copied(pod) for pod in self.store.owned(uid_of(self.job(job)), PODS)]

    def pod(self, ref: Ref) -> Object:
        """The pod as it is now; of a Job, its newest one."""
        name, namespace = self._place(ref)
        found = self.store.find(PODS, namespace, name)
        if found is not None:
            return found
        return self.store.owned(uid_of(self.job(ref)), PODS)[-1]

    def pods_on(self, node: str) -> list[Object]:
        everything = self.store.select(PODS, None, Selector())
        return [entry.body for _, entry in everything if entry.body["spec"].get("nodeName") == node]

    def log(self, ref: Ref, text: str) -> None:
        """Let the pod's container print this."""
        self.logs.setdefault(uid_of(self.pod(ref)), bytearray()).extend(text.encode())

    def forget_events(self) -> None:
        """Let every Event's hour be over."""
        for (namespace, name), _ in self.store.select(EVENTS, None, Selector()):
            self.store.remove(EVENTS, namespace, name)

    # The scheduler

    def schedule(self, ref: Ref, node: str | None = None) -> Object:
        """Bind the pod to a node."""
        pod = self.pod(ref)
        chosen = node or next(one for one in self.nodes if one not in self.lost_nodes)
        pod = self._write(pod, containers.scheduled(chosen, self.now))
        said = f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {chosen}"
        self.recorder.by_scheduler(pod, "Normal", "Scheduled", said, "Binding")
        return self._settled(pod)

    def unschedulable(
        self, ref: Ref, message: str = NO_GPU, *, reason: str = "Unschedulable"
    ) -> Object:
        """No node takes the pod (`reason="SchedulingGated"`: nobody has tried)."""
        pod = self._write(self.pod(ref), containers.unschedulable(reason, message, self.now))
        self.recorder.by_scheduler(pod, "Warning", "FailedScheduling", message, "Scheduling")
        return self._settled(pod)

    def preempt(self, ref: Ref, code: int | None = 143) -> Object:
        """Give the pod's place to one of a higher priority."""
        pod = self.pod(ref)
        said = f"Preempted by pod {uid_of(pod)[::-1]} on node {pod['spec']['nodeName']}"
        self.recorder.by_scheduler(pod, "Normal", "Preempted", said, "Preempting")
        return self._disrupt(pod, "PreemptionByScheduler", PREEMPTING, code)

    # The kubelet

    def creating(self, ref: Ref) -> Object:
        """The kubelet has taken the pod in and makes its container."""
        pod = self.pod(ref)
        if "nodeName" not in pod["spec"]:
            pod = self.schedule(pod)
        return self._wait(pod, "ContainerCreating", "")

    def start(self, ref: Ref) -> Object:
        """The container runs; what must come before it comes before it."""
        pod = self.pod(ref)
        if "containerStatuses" not in pod["status"]:
            pod = self.creating(pod)
        for reason, said in self._starting(pod):
            self.recorder.by_kubelet(pod, "Normal", reason, said)
        return self._settled(self._write(pod, containers.running(self.now)))

    def exit(
        self,
        ref: Ref,
        code: int = 0,
        *,
        reason: str = "",
        message: str = "",
        signal: int | None = None,
    ) -> Object:
        """The container ends by itself or by a signal; `reason` as `OOMKilled` or `StartError`."""
        pod = self.pod(ref)
        if pod["spec"].get("nodeName") in self.lost_nodes:
            raise ValueError("nobody hears from a lost node; return_node() first")
        write = containers.terminated(code, self.now, reason=reason, message=message, signal=signal)
        return self._settled(self._write(pod, write))

    def out_of_memory(self, ref: Ref) -> Object:
        return self.exit(ref, 137, reason="OOMKilled")

    def evict(
        self, ref: Ref, *, reason: str = "Evicted", message: str = LOW_ON_MEMORY, code: int = 137
    ) -> Object:
        """The kubelet ends the pod to save its node."""
        pod = self.pod(ref)
        write = containers.evicted(reason, message, message, code, self.now)
        self.recorder.by_kubelet(pod, "Warning", reason, message)
        return self._settled(self._write(pod, write))

    def ends_for_its_own_fault(self, ref: Ref, reason: str, message: str) -> Object:
        """The kubelet ends the pod, `DeadlineExceeded` or over its own limit of storage."""
        pod = self.pod(ref)
        self.recorder.by_kubelet(pod, "Warning", reason, message)
        return self._settled(self._write(pod, containers.ended(reason, message, 137, self.now)))

    def not_located(self, ref: Ref) -> Object:
        """The kubelet has started anew and does not find the pod's container any more."""
        return self._settled(self._write(self.pod(ref), containers.not_located(self.now)))

    def admission_error(
        self, ref: Ref, reason: str = "UnexpectedAdmissionError", message: str = GPU_GONE
    ) -> Object:
        """The kubelet refuses the pod: failed, and no container statuses."""
        pod = self.pod(ref)
        if "nodeName" not in pod["spec"]:
            pod = self.schedule(pod)
        self.recorder.by_kubelet(pod, "Warning", reason, message)
        said = f"Pod was rejected: {message}"
        return self._settled(self._write(pod, containers.rejected(reason, said, self.now)))

    def pull_fails(self, ref: Ref, reason: str = "ErrImagePull", message: str = "") -> Object:
        """`ErrImagePull`, `ImagePullBackOff`, `InvalidImageName` …, in the kubelet's words."""
        pod = self._created(ref)
        image = pod["spec"]["containers"][0]["image"]
        words = {
            "ErrImagePull": f'failed to pull and unpack image "{image}": not found',
            "ImagePullBackOff": f'Back-off pulling image "{image}"',
            "InvalidImageName": f'Failed to apply default image tag "{image}": couldn\'t parse '
            f'image name "{image}": invalid reference format',
        }
        said = message or words.get(reason, reason)
        if reason == "ImagePullBackOff":
            self.recorder.by_kubelet(pod, "Normal", "BackOff", said)
        else:
            self.recorder.by_kubelet(pod, "Warning", "Failed", f"Error: {reason}: {said}")
        return self._wait(pod, reason, said)

    def config_error(self, ref: Ref, message: str = "") -> Object:
        """The container cannot be made, as by default for want of its token's Secret."""
        pod = self._created(ref)
        said = message or f'secret "{_first_secret(pod)}" not found'
        self.recorder.by_kubelet(pod, "Warning", "Failed", f"Error: {said}")
        return self._wait(pod, "CreateContainerConfigError", said)

    def waits(self, ref: Ref, reason: str, message: str = "") -> Object:
        """The container waits for any other reason: `CreateContainerError`, `PodInitializing` …"""
        return self._wait(self._created(ref), reason, message)

    def threaten(
        self, ref: Ref, reason: str = "PreemptionByScheduler", message: str = ""
    ) -> Object:
        """The pod is marked for disruption, and nothing else happens to it."""
        write = containers.disrupted(reason, message or PREEMPTING, self.now)
        return self._settled(self._write(self.pod(ref), write))

    def spare(self, ref: Ref) -> Object:
        """The disruption did not come: its condition is cleared."""
        return self._settled(self._write(self.pod(ref), containers.spared(self.now)))

    # Deletion

    def drain(self, ref: Ref, code: int | None = 143) -> Object:
        """Evict by the API, as `kubectl drain` does; `code=None` leaves the container stopping."""
        pod = self.pod(ref)
        return self._disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting", code)

    def delete_pod(self, ref: Ref, *, grace: int | None = None) -> None:
        """Delete the pod as a user does; `grace=0` forces it, node or no node."""
        pod = self.pod(ref)
        delete_pod(self.store, pod, grace)
        if is_running(pod) and grace != 0:
            self._killing(pod)
        self.settle()

    def delete_job(self, ref: Ref, policy: str = "Background") -> None:
        """Delete the Job as a user does."""
        delete(self.store, JOBS, self.job(ref), policy=policy)
        self.settle()

    # Jobs

    def suspend(self, ref: Ref) -> None:
        self._set_spec(self.job(ref), "suspend", value=True)

    def resume(self, ref: Ref) -> None:
        self._set_spec(self.job(ref), "suspend", value=False)

    def scale(self, ref: Ref, parallelism: int) -> None:
        """Change how many pods there may be at once, as an administrator does."""
        self._set_spec(self.job(ref), "parallelism", value=parallelism)

    def allow_failures(self, ref: Ref, limit: int) -> None:
        """Let the controller make so many further pods, as an administrator does."""
        self._set_spec(self.job(ref), "backoffLimit", value=limit)

    def expire_deadline(self, ref: Ref) -> None:
        """Let `activeDeadlineSeconds` be over, pending time included."""
        job = self.job(ref)
        self.jobs.expire(job)
        self.touch(job)
        self.settle()

    def expire_ttl(self, ref: Ref) -> None:
        """Let `ttlSecondsAfterFinished` be over: the Job goes, in the foreground."""
        self.delete_job(ref, "Foreground")

    def quota_blocks(self, message: str = "") -> None:
        """From now on no pod is made: the Job stays without one, and only Events say why."""
        if message:
            self.admission.quota(message)
        else:
            self.admission.quota()

    def quota_frees(self) -> None:
        """Pods are allowed again, and the controller tries again."""
        self.admission.allow()
        self.try_again()

    def try_again(self) -> None:
        """Let the controller try once more to make the pods that were refused."""
        for uid in self.jobs.try_again():
            job = self.store.by_uid(uid)
            if job is not None:
                self.touch(job)
        self.settle()

    # How each is done

    def _place(self, ref: Ref) -> tuple[str, str]:
        if isinstance(ref, str):
            return ref, self.namespace
        return name_of(ref), namespace_of(ref)

    def _write(self, pod: Object, write: Write) -> Object:
        return self.store.update(PODS, namespace_of(pod), name_of(pod), write).body

    def _settled(self, pod: Object) -> Object:
        """The pod once the controllers have done what they have to."""
        self.settle()
        return self.store.find(PODS, namespace_of(pod), name_of(pod)) or pod

    def _wait(self, pod: Object, reason: str, message: str) -> Object:
        return self._settled(self._write(pod, containers.waiting(reason, message, self.now)))

    def _created(self, ref: Ref) -> Object:
        pod = self.pod(ref)
        return pod if "containerStatuses" in pod["status"] else self.creating(pod)

    def _starting(self, pod: Object) -> list[tuple[str, str]]:
        container = pod["spec"]["containers"][0]
        name, image = container["name"], container["image"]
        return [
            ("Pulled", f'Container image "{image}" already present on machine'),
            ("Created", f"Created container: {name}"),
            ("Started", f"Started container {name}"),
        ]

    def _killing(self, pod: Object) -> None:
        name = pod["spec"]["containers"][0]["name"]
        self.recorder.by_kubelet(pod, "Normal", "Killing", f"Stopping container {name}")

    def _disrupt(self, pod: Object, reason: str, message: str, code: int | None) -> Object:
        """Condition, then deletion; with a code the container ends before the controllers look."""
        with self.held():
            pod = self._write(pod, containers.disrupted(reason, message, self.now))
            delete_pod(self.store, pod)
            if has_started(pod) and not is_over(pod):
                self._killing(pod)
                if code is not None:
                    pod = self._write(self.pod(pod), containers.terminated(code, self.now))
        return self._settled(pod)

    def _set_spec(self, job: Object, field: str, *, value: object) -> None:
        def change(job: Object) -> None:
            job["spec"][field] = value
            job["metadata"]["generation"] += 1

        self.store.update(JOBS, namespace_of(job), name_of(job), change)
        self.settle()


def _first_secret(pod: Object) -> str:
    for variable in pod["spec"]["containers"][0].get("env") or []:
        source = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if source:
            name: str = source["name"]
            return name
    return "none"
