"""How objects go: grace periods, finalizers, the three propagation policies, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tests.cluster.objects import (
    FOREGROUND,
    JOBS,
    PODS,
    SECRETS,
    TRACKING,
    Object,
    Resource,
    finalizers_of,
    is_deleting,
    is_over,
    name_of,
    namespace_of,
    owners_of,
    stamp,
    uid_of,
)
from tests.cluster.store import Entry, Store

ORPHAN = "orphan"
PRESERVED = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background "
    "to remove them or set propagationPolicy=Orphan to suppress this warning"
)


def delete(
    store: Store,
    resource: Resource,
    body: Object,
    *,
    policy: str = "Background",
    grace: int | None = None,
) -> Entry:
    """Delete an object as the API does; what is still there afterwards, or its last state."""
    if resource is PODS:
        return delete_pod(store, body, grace)
    kept = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy) if resource is JOBS else None
    if kept is None and not finalizers_of(body):
        return store.remove(resource, namespace_of(body), name_of(body))

    def mark(body: Object) -> None:
        _mark(body, stamp(store.clock()), 0)
        if kept is not None and kept not in finalizers_of(body):
            body["metadata"]["finalizers"] = [*finalizers_of(body), kept]

    return store.update(resource, namespace_of(body), name_of(body), mark)


def delete_pod(store: Store, pod: Object, grace: int | None = None) -> Entry:
    """Mark a pod deleted; without a node or with a last phase it needs no time to stop."""
    if grace is None:
        grace = int(pod["spec"]["terminationGracePeriodSeconds"])
    if not pod["spec"].get("nodeName") or is_over(pod):
        grace = 0
    known = pod["metadata"].get("deletionGracePeriodSeconds")
    if known is not None and known <= grace:
        return store.entry(PODS, namespace_of(pod), name_of(pod))
    end = stamp(store.clock() + timedelta(seconds=grace))
    entry = store.update(
        PODS, namespace_of(pod), name_of(pod), lambda body: _mark(body, end, grace)
    )
    return _remove_if_done(store, PODS, entry)


def confirm_stopped(store: Store, pod: Object) -> None:
    """The kubelet: nothing of the pod runs any more, it may go."""
    delete_pod(store, pod, 0)


def drop_finalizer(store: Store, resource: Resource, body: Object, finalizer: str) -> None:
    """Take a finalizer off; the last one of a deleted object lets it go."""
    namespace, name = namespace_of(body), name_of(body)
    left = [one for one in finalizers_of(body) if one != finalizer]
    if not left and _waits_for_finalizers_only(resource, body):
        store.remove(resource, namespace, name)
        return

    def change(body: Object) -> None:
        body["metadata"]["finalizers"] = left
        if not left:
            del body["metadata"]["finalizers"]

    store.update(resource, namespace, name, change)


def collect_foreground(store: Store, job: Object) -> bool:
    """Make the collector's next write for a Job that waits for its dependents; False if none."""
    if FOREGROUND not in finalizers_of(job):
        return False
    blocking = [pod for pod in store.owned(uid_of(job), PODS) if _blocks(pod, job)]
    for pod in blocking:
        if not is_deleting(pod):
            delete_pod(store, pod)
            return True
    if blocking:
        return False
    drop_finalizer(store, JOBS, job, FOREGROUND)
    return True


def collect_orphans(store: Store, job: Object) -> bool:
    """Make the collector's next write for a Job that leaves its dependents; False if none."""
    if ORPHAN not in finalizers_of(job):
        return False
    for resource in (PODS, SECRETS):
        for body in store.owned(uid_of(job), resource):
            store.update(resource, namespace_of(body), name_of(body), _without_owner(uid_of(job)))
            return True
    drop_finalizer(store, JOBS, job, ORPHAN)
    return True


def collect_dependents(store: Store, owner: str) -> bool:
    """Make the collector's next write for what an absent owner has left; False if none."""
    for pod in store.owned(owner, PODS):
        if TRACKING in finalizers_of(pod):
            drop_finalizer(store, PODS, pod, TRACKING)
            return True
        if not is_deleting(pod):
            delete_pod(store, pod)
            return True
    for resource in (SECRETS, JOBS):
        for body in store.owned(owner, resource):
            if not is_deleting(body) and not _has_other_owner(store, body, owner):
                delete(store, resource, body)
                return True
    return False


def release_orphan(store: Store, pod: Object) -> bool:
    """Let go of a pod that no Job tracks any more; False if there is nothing to do."""
    if TRACKING not in finalizers_of(pod) or owners_of(pod):
        return False
    drop_finalizer(store, PODS, pod, TRACKING)
    return True


def _without_owner(uid: str) -> Callable[[Object], None]:
    def change(body: Object) -> None:
        left = [one for one in owners_of(body) if one["uid"] != uid]
        body["metadata"]["ownerReferences"] = left
        if not left:
            del body["metadata"]["ownerReferences"]

    return change


def _has_other_owner(store: Store, body: Object, owner: str) -> bool:
    return any(
        one["uid"] != owner and store.by_uid(one["uid"]) is not None for one in owners_of(body)
    )


def _blocks(pod: Object, job: Object) -> bool:
    return any(
        one["uid"] == uid_of(job) and one.get("blockOwnerDeletion") for one in owners_of(pod)
    )


def _mark(body: Object, end: str, grace: int) -> None:
    metadata = body["metadata"]
    if "deletionTimestamp" not in metadata and "generation" in metadata:
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = end
    metadata["deletionGracePeriodSeconds"] = grace


def _waits_for_finalizers_only(resource: Resource, body: Object) -> bool:
    return is_deleting(body) and (
        resource is not PODS or body["metadata"]["deletionGracePeriodSeconds"] == 0
    )


def _remove_if_done(store: Store, resource: Resource, entry: Entry) -> Entry:
    body = entry.body
    if finalizers_of(body) or not _waits_for_finalizers_only(resource, body):
        return entry
    return store.remove(resource, namespace_of(body), name_of(body))
