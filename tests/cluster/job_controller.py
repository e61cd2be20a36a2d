"""The Job controller, one write at a time, in the order in which the real one writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tests.cluster.admission import Admission
from tests.cluster.conditions import set_job_condition
from tests.cluster.defaults import pod_of
from tests.cluster.deletion import delete_pod, drop_finalizer
from tests.cluster.objects import (
    JOBS,
    PODS,
    TRACKING,
    Object,
    copied,
    finalizers_of,
    is_deleting,
    is_finished,
    is_over,
    is_true,
    name_of,
    namespace_of,
    owners_of,
    stamp,
    uid_of,
)
from tests.cluster.recorder import Recorder
from tests.cluster.refusals import Refusal
from tests.cluster.store import Store

BACKOFF = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE = ("DeadlineExceeded", "Job was active longer than specified deadline")
REACHED = ("CompletionsReached", "Reached expected number of succeeded pods")


@dataclass(frozen=True)
class View:
    """A Job and its pods, as the controller sees them before a write."""

    job: Object
    pods: list[Object]
    expired: bool

    @cached_property
    def status(self) -> Object:
        status: Object = self.job["status"]
        return status

    @cached_property
    def active(self) -> list[Object]:
        return [pod for pod in self.pods if not is_over(pod) and not is_deleting(pod)]

    @cached_property
    def terminating(self) -> list[Object]:
        return [pod for pod in self.pods if not is_over(pod) and is_deleting(pod)]

    @cached_property
    def uncounted(self) -> dict[str, list[str]]:
        """The UIDs that the status holds as ended and not yet counted."""
        uncounted: dict[str, list[str]] = self.status.get("uncountedTerminatedPods") or {}
        return uncounted

    @cached_property
    def succeeded_now(self) -> list[str]:
        return self._ended_now("succeeded", "Succeeded")

    @cached_property
    def failed_now(self) -> list[str]:
        return self._ended_now("failed", "Failed")

    @property
    def succeeded(self) -> int:
        return self._count("succeeded") + len(self.succeeded_now)

    @property
    def failed(self) -> int:
        return self._count("failed") + len(self.failed_now)

    @property
    def failure(self) -> tuple[str, str] | None:
        """Why the Job is to fail, if it is."""
        if is_true(self.job, "FailureTarget"):
            found = next(c for c in self.status["conditions"] if c["type"] == "FailureTarget")
            return found["reason"], found["message"]
        if self.succeeded:
            return None
        if self.expired:
            return DEADLINE
        return BACKOFF if self.failed > self.job["spec"]["backoffLimit"] else None

    @property
    def is_suspended(self) -> bool:
        return bool(self.job["spec"].get("suspend")) and self.failure is None

    @property
    def wants_a_pod(self) -> bool:
        if is_deleting(self.job) or self.is_suspended or self.failure or self.succeeded:
            return False
        waits = self.job["spec"]["podReplacementPolicy"] == "Failed" and self.terminating
        wanted = self.job["spec"]["parallelism"] > 0
        return wanted and not self.active and not waits and not any(self.uncounted.values())

    @property
    def wants_none(self) -> bool:
        """Whether the active pods are to go, and are not to count as failed."""
        return self.is_suspended or (self.job["spec"]["parallelism"] == 0 and not self.failure)

    def has_failed(self, pod: Object) -> bool:
        """Whether the pod counts as failed: by default from its deletion on."""
        if pod["status"]["phase"] == "Failed":
            return True
        by_deletion = self.job["spec"]["podReplacementPolicy"] == "TerminatingOrFailed"
        return by_deletion and is_deleting(pod) and pod["status"]["phase"] != "Succeeded"

    def _ended_now(self, counter: str, phase: str) -> list[str]:
        return [
            uid_of(pod)
            for pod in self.pods
            if TRACKING in finalizers_of(pod)
            and uid_of(pod) not in self.uncounted.get(counter, [])
            and (self.has_failed(pod) if phase == "Failed" else pod["status"]["phase"] == phase)
        ]

    def _count(self, counter: str) -> int:
        return int(self.status.get(counter, 0)) + len(self.uncounted.get(counter, []))


class JobController:
    """Brings each Job's status and pods one write nearer to what they should be."""

    def __init__(self, store: Store, recorder: Recorder, admission: Admission) -> None:
        self._store = store
        self._recorder = recorder
        self._admission = admission
        self._expired: set[str] = set()
        self._blocked: set[str] = set()

    def expire(self, job: Object) -> None:
        """From now on the Job has been active for too long."""
        self._expired.add(uid_of(job))

    def try_again(self) -> list[str]:
        """Forget which pods were refused; the UIDs of their Jobs."""
        blocked, self._blocked = list(self._blocked), set()
        return blocked

    def step(self, job: Object) -> bool:
        """Make the next write; False where the Job is as it should be."""
        controlled = [pod for pod in self._store.owned(uid_of(job), PODS) if _controls(job, pod)]
        view = View(job, controlled, uid_of(job) in self._expired)
        if is_finished(job):
            return self._release(view, [uid_of(pod) for pod in controlled if is_over(pod)])
        return (
            self._stop(view)
            or self._create(view)
            or self._count(view)
            or self._publish(view)
            or self._finish(view)
        )

    def _stop(self, view: View) -> bool:
        if not view.active or not (view.wants_none or view.failure):
            return False
        pod = view.active[0]
        if view.wants_none and TRACKING in finalizers_of(pod):
            drop_finalizer(self._store, PODS, pod, TRACKING)  # so it does not count as failed
            return True
        delete_pod(self._store, pod)
        self._say(view.job, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")
        return True

    def _create(self, view: View) -> bool:
        if not view.wants_a_pod or view.failed_now or uid_of(view.job) in self._blocked:
            return False
        pod = pod_of(view.job)
        try:
            self._admission.check(PODS, name_of(pod), pod)
        except Refusal as refusal:
            self._blocked.add(uid_of(view.job))
            self._say(view.job, "Warning", "FailedCreate", f"Error creating: {refusal.message}")
            return False
        self._store.create(PODS, pod)
        self._say(view.job, "Normal", "SuccessfulCreate", f"Created pod: {name_of(pod)}")
        return True

    def _count(self, view: View) -> bool:
        """Let the ended pods go one by one, then count them."""
        ended = [uid for uids in view.uncounted.values() for uid in uids]
        if not ended:
            return False
        if self._release(view, ended):
            return True
        status = copied(view.status)
        for counter, uids in view.uncounted.items():
            status[counter] = status.get(counter, 0) + len(uids)
        status["uncountedTerminatedPods"] = {}
        self._conclude(view, status)
        return self._write(view, status)

    def _release(self, view: View, uids: list[str]) -> bool:
        for pod in view.pods:
            if uid_of(pod) in uids and TRACKING in finalizers_of(pod):
                drop_finalizer(self._store, PODS, pod, TRACKING)
                return True
        return False

    def _publish(self, view: View) -> bool:
        now = stamp(self._store.clock())
        status = copied(view.status)
        self._publish_suspension(view, status, now)
        if not view.is_suspended:
            status.setdefault("startTime", now)
        status["active"] = len(view.active)
        if not view.active:
            del status["active"]
        status["terminating"] = len(view.terminating)
        status["ready"] = sum(is_true(pod, "Ready") for pod in view.active)
        status.setdefault("uncountedTerminatedPods", {})
        for counter, uids in (("succeeded", view.succeeded_now), ("failed", view.failed_now)):
            if uids:
                known = status["uncountedTerminatedPods"].get(counter, [])
                status["uncountedTerminatedPods"][counter] = [*known, *uids]
        if view.succeeded:
            set_job_condition(status, "SuccessCriteriaMet", "True", now, *REACHED)
        elif view.failure:
            set_job_condition(status, "FailureTarget", "True", now, *view.failure)
        return self._write(view, status)

    def _publish_suspension(self, view: View, status: Object, now: str) -> None:
        was = is_true({"status": status}, "Suspended")
        if view.is_suspended:
            status.pop("startTime", None)
            set_job_condition(status, "Suspended", "True", now, "JobSuspended", "Job suspended")
            if not was:
                self._say(view.job, "Normal", "Suspended", "Job suspended")
        elif was:
            set_job_condition(status, "Suspended", "False", now, "JobResumed", "Job resumed")
            status["startTime"] = now
            self._say(view.job, "Normal", "Resumed", "Job resumed")

    def _finish(self, view: View) -> bool:
        status = copied(view.status)
        self._conclude(view, status)
        return self._write(view, status)

    def _conclude(self, view: View, status: Object) -> None:
        """Add the last condition, once every pod has ended."""
        if status.get("active") or status.get("terminating") or view.active:
            return
        now = stamp(self._store.clock())
        if is_true(view.job, "SuccessCriteriaMet"):
            set_job_condition(status, "Complete", "True", now, *REACHED)
            status["completionTime"] = now
            self._say(view.job, "Normal", "Completed", "Job completed")
        elif is_true(view.job, "FailureTarget") and view.failure:
            set_job_condition(status, "Failed", "True", now, *view.failure)
            self._say(view.job, "Warning", *view.failure)

    def _write(self, view: View, status: Object) -> bool:
        if status == view.status:
            return False

        def change(job: Object) -> None:
            job["status"] = status

        self._store.update(JOBS, namespace_of(view.job), name_of(view.job), change)
        return True

    def _say(self, job: Object, type_: str, reason: str, message: str) -> None:
        self._recorder.about_job(job, type_, reason, message)


def _controls(job: Object, pod: Object) -> bool:
    return any(one["uid"] == uid_of(job) and one.get("controller") for one in owners_of(pod))
