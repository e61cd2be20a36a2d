"""Kubernetes objects as plain JSON, the kinds that are served, and small ways to read them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

Object = dict[str, Any]
Clock = Callable[[], datetime]

TRACKING = "batch.kubernetes.io/job-tracking"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
FOREGROUND = "foregroundDeletion"
FINAL_PHASES = frozenset({"Succeeded", "Failed"})
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Resource:
    """One served kind, as paths, sentences and objects name it."""

    group: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The name in the server's sentences: `jobs.batch`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


JOBS = Resource("batch", "jobs", "Job")
PODS = Resource("", "pods", "Pod")
SECRETS = Resource("", "secrets", "Secret")
EVENTS = Resource("", "events", "Event")
NAMESPACES = Resource("", "namespaces", "Namespace", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
KEPT = (JOBS, PODS, SECRETS, EVENTS, NAMESPACES)


def real_time() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """A time as the server writes it: whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid() -> str:
    return str(uuid4())


def random_suffix() -> str:
    """Five letters, as the server ends a generated name."""
    return "".join(NAME_LETTERS[byte % len(NAME_LETTERS)] for byte in uuid4().bytes[:5])


def copied(body: Object) -> Object:
    """A deep copy; JSON is the fastest way to one."""
    copy: Object = orjson.loads(orjson.dumps(body))
    return copy


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def decoded(value: str) -> str:
    """The text of one value of a Secret."""
    return base64.b64decode(value).decode()


def name_of(body: Object) -> str:
    name: str = body["metadata"]["name"]
    return name


def namespace_of(body: Object) -> str:
    namespace: str = body["metadata"].get("namespace", "")
    return namespace


def uid_of(body: Object) -> str:
    uid: str = body["metadata"]["uid"]
    return uid


def owners_of(body: Object) -> list[Object]:
    owners: list[Object] = body["metadata"].get("ownerReferences") or []
    return owners


def finalizers_of(body: Object) -> list[str]:
    finalizers: list[str] = body["metadata"].get("finalizers") or []
    return finalizers


def is_deleting(body: Object) -> bool:
    return "deletionTimestamp" in body["metadata"]


def is_over(pod: Object) -> bool:
    """Whether the pod's phase is a last one."""
    return pod["status"].get("phase") in FINAL_PHASES


def condition(body: Object, kind: str) -> Object | None:
    """The condition of that type, whatever its status."""
    listed: list[Object] = body["status"].get("conditions") or []
    return next((one for one in listed if one["type"] == kind), None)


def is_true(body: Object, kind: str) -> bool:
    found = condition(body, kind)
    return found is not None and found["status"] == "True"


def is_finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def has_started(pod: Object) -> bool:
    """Whether a container of the pod runs, or has run."""
    states = [one["state"] for one in pod["status"].get("containerStatuses", [])]
    return any("running" in state or "terminated" in state for state in states)


def is_running(pod: Object) -> bool:
    return any("running" in one["state"] for one in pod["status"].get("containerStatuses", []))
