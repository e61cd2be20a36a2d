"""Core Events: what the components say about what they do."""

from __future__ import annotations

from tests.cluster.objects import (
    EVENTS,
    JOBS,
    PODS,
    Object,
    name_of,
    namespace_of,
    short_hash,
    stamp,
    uid_of,
)
from tests.cluster.store import Store


class Recorder:
    """Writes Events; the same words about the same object again only raise the count."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def about_job(self, job: Object, type_: str, reason: str, message: str) -> None:
        body = self._event(job, JOBS.kind, type_, reason, message)
        self._keep(body, {"component": "job-controller"})

    def by_kubelet(self, pod: Object, type_: str, reason: str, message: str) -> None:
        body = self._event(pod, PODS.kind, type_, reason, message)
        container = pod["spec"]["containers"][0]["name"]
        if reason not in ("Evicted", "UnexpectedAdmissionError"):
            body["involvedObject"]["fieldPath"] = f"spec.containers{{{container}}}"
        self._keep(body, {"component": "kubelet", "host": pod["spec"].get("nodeName", "")})

    def by_controller(
        self, pod: Object, type_: str, reason: str, message: str, component: str
    ) -> None:
        self._keep(self._event(pod, PODS.kind, type_, reason, message), {"component": component})

    def by_scheduler(self, pod: Object, type_: str, reason: str, message: str, action: str) -> None:
        """The scheduler writes the newer kind: no count, and the time in another field."""
        body = self._event(pod, PODS.kind, type_, reason, message)
        if self._repeat(body):
            return
        now = self._store.clock()
        body |= {
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "action": action,
            "reportingComponent": "default-scheduler",
            "reportingInstance": "default-scheduler-control-plane",
        }
        self._store.create(EVENTS, body)

    def _keep(self, body: Object, source: Object) -> None:
        if self._repeat(body):
            return
        now = stamp(self._store.clock())
        body |= {
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "eventTime": None,
            "reportingComponent": source["component"],
            "reportingInstance": source.get("host", ""),
        }
        self._store.create(EVENTS, body)

    def _repeat(self, body: Object) -> bool:
        namespace, name = namespace_of(body), name_of(body)
        if self._store.find(EVENTS, namespace, name) is None:
            return False

        def again(event: Object) -> None:
            if "count" in event:
                event["count"] += 1
                event["lastTimestamp"] = stamp(self._store.clock())
            else:
                series = event.get("series", {"count": 1})
                event["series"] = {"count": series["count"] + 1}

        self._store.update(EVENTS, namespace, name, again)
        return True

    def _event(self, about: Object, kind: str, type_: str, reason: str, message: str) -> Object:
        involved = {
            "kind": kind,
            "namespace": namespace_of(about),
            "name": name_of(about),
            "uid": uid_of(about),
            "apiVersion": "batch/v1" if kind == "Job" else "v1",
            "resourceVersion": about["metadata"]["resourceVersion"],
        }
        which = short_hash(f"{uid_of(about)} {type_} {reason} {message}")
        return {
            "metadata": {"name": f"{name_of(about)}.{which}", "namespace": namespace_of(about)},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": type_,
        }
