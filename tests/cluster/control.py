"""The controllers together: after every change each does what it has to, one write at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster.admission import Admission
from tests.cluster.containers import terminated
from tests.cluster.deletion import (
    collect_dependents,
    collect_foreground,
    collect_orphans,
    confirm_stopped,
    release_orphan,
)
from tests.cluster.job_controller import JobController
from tests.cluster.objects import (
    JOBS,
    PODS,
    SECRETS,
    Clock,
    Object,
    is_deleting,
    is_over,
    is_running,
    name_of,
    namespace_of,
    owners_of,
    real_time,
    stamp,
    uid_of,
)
from tests.cluster.recorder import Recorder
from tests.cluster.store import Change, Store


class Control:
    """A store whose controllers work off what each write leaves to do.

    They run by themselves unless `paused`; then `step()` makes one write and says whether it did.
    """

    def __init__(self, *, history: int = 5000, clock: Clock = real_time) -> None:
        self.store = Store(history=history, clock=clock)
        self.admission = Admission()
        self.recorder = Recorder(self.store)
        self.jobs = JobController(self.store, self.recorder, self.admission)
        # What a container that is told to stop exits with, at once; None: a test says when.
        self.exits_on_sigterm: int | None = None
        self.paused = False
        self.lost_nodes: set[str] = set()
        self._held = 0
        self._pods: dict[str, None] = {}
        self._jobs: dict[str, None] = {}
        self._owners: dict[str, None] = {}
        self.store.listeners.append(self._notice)

    @property
    def now(self) -> str:
        return stamp(self.store.clock())

    def settle(self) -> None:
        """Let the controllers do all they have to, unless they are paused or held."""
        if self.paused or self._held:
            return
        while self.step():
            pass

    def step(self) -> bool:
        """Make the one next write of any controller; False where none has anything to do."""
        return (
            self._next(self._pods, self._step_pod)
            or self._next(self._owners, self._step_owner)
            or self._next(self._jobs, self._step_job)
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the controllers still inside the block, as if they were late; then settle."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.settle()

    def touch(self, job: Object) -> None:
        """Let the Job's controller look at it again."""
        self._jobs[uid_of(job)] = None

    def _next(self, waiting: dict[str, None], step: Callable[[str], bool]) -> bool:
        while waiting:
            uid = next(iter(waiting))
            if step(uid):
                return True
            waiting.pop(uid, None)
        return False

    def _step_pod(self, uid: str) -> bool:
        pod = self.store.by_uid(uid)
        if pod is None:
            return False
        return release_orphan(self.store, pod) or self._step_kubelet(pod)

    def _step_kubelet(self, pod: Object) -> bool:
        """What a living kubelet does by itself about a deleted pod."""
        node = pod["spec"].get("nodeName")
        if not is_deleting(pod) or node is None or node in self.lost_nodes:
            return False
        if is_over(pod) or not is_running(pod):
            if pod["metadata"]["deletionGracePeriodSeconds"] == 0:
                return False
            confirm_stopped(self.store, pod)
            return True
        if self.exits_on_sigterm is None:
            return False
        write = terminated(self.exits_on_sigterm, self.now)
        self.store.update(PODS, namespace_of(pod), name_of(pod), write)
        return True

    def _step_owner(self, uid: str) -> bool:
        if self.store.by_uid(uid) is None:
            return collect_dependents(self.store, uid)
        return False

    def _step_job(self, uid: str) -> bool:
        job = self.store.by_uid(uid)
        if job is None:
            return False
        return (
            collect_foreground(self.store, job)
            or collect_orphans(self.store, job)
            or self.jobs.step(job)
        )

    def _notice(self, change: Change) -> None:
        resource, body = change.entry.resource, change.entry.body
        if resource not in (JOBS, PODS, SECRETS):
            return
        for owner in owners_of(body):
            self._jobs[owner["uid"]] = None
            self._owners[owner["uid"]] = None
        if resource is PODS:
            self._pods[uid_of(body)] = None
        elif resource is JOBS and change.type == "DELETED":
            self._owners[uid_of(body)] = None
        elif resource is JOBS:
            self._jobs[uid_of(body)] = None
