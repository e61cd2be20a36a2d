"""What the server fills in: the fields of a new Job, and the Pod that a Job's template makes."""

from __future__ import annotations

import base64
from typing import Any

from tests.cluster.objects import (
    CONTROLLER_UID,
    JOB_NAME,
    JOBS,
    PODS,
    SECRETS,
    TRACKING,
    Object,
    Resource,
    copied,
    name_of,
    namespace_of,
    new_uid,
    random_suffix,
    uid_of,
)
from tests.cluster.refusals import bad_request
from tests.cluster.validation import amount

GONE_NODE_TOLERANCE = 300


def with_defaults(resource: Resource, body: Object) -> Object:
    """The object as it is kept, with all that its author left out."""
    if resource is JOBS:
        return _job(body)
    if resource is PODS:
        return _pod(body)
    if resource is SECRETS:
        return _secret(body)
    return body


def with_name(body: Any, namespace: str) -> Object:
    """The object with its namespace and, where it asks for one, a generated name."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Object)")
    metadata = dict(body.get("metadata") or {})
    for ours in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"):
        metadata.pop(ours, None)
    named = metadata.setdefault("namespace", namespace)
    if named != namespace:
        raise bad_request(
            f"the namespace of the provided object does not match the namespace sent on the "
            f"request ({named} != {namespace})"
        )
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + random_suffix()
    return {**body, "metadata": metadata}


def pod_of(job: Object) -> Object:
    """The Pod that the Job's controller makes."""
    template = copied(job["spec"]["template"])
    prefix = f"{name_of(job)}-"
    metadata: Object = {
        "name": prefix + random_suffix(),
        "generateName": prefix,
        "namespace": namespace_of(job),
        **template.get("metadata", {}),
        "ownerReferences": [controlled_by(job)],
        "finalizers": [TRACKING],
    }
    return with_defaults(PODS, {"metadata": metadata, "spec": template["spec"]})


def controlled_by(job: Object) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": name_of(job),
        "uid": uid_of(job),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _job(body: Object) -> Object:
    uid = new_uid()
    spec = dict(body["spec"])
    template = dict(spec.pop("template"))
    metadata = dict(template.get("metadata") or {})
    metadata.pop("creationTimestamp", None)
    ours = {CONTROLLER_UID: uid, JOB_NAME: name_of(body)}
    old = {"controller-uid": uid, "job-name": name_of(body)}
    metadata["labels"] = dict(sorted({**(metadata.get("labels") or {}), **ours, **old}.items()))
    kept = {
        "parallelism": spec.pop("parallelism", 1),
        "completions": spec.pop("completions", 1),
        "backoffLimit": spec.pop("backoffLimit", 6),
        "selector": {"matchLabels": {CONTROLLER_UID: uid}},
        "manualSelector": False,
        "template": {"metadata": metadata, "spec": _pod_spec(template["spec"])},
        "completionMode": spec.pop("completionMode", "NonIndexed"),
        "suspend": spec.pop("suspend", None) or False,
        "podReplacementPolicy": spec.pop("podReplacementPolicy", None) or "TerminatingOrFailed",
    }
    given = {name: value for name, value in spec.items() if value is not None}
    owned = {**body["metadata"], "uid": uid}
    return {"metadata": owned, "spec": {**kept, **given}, "status": {}}


def _pod_spec(spec: Object) -> Object:
    containers = [_container(container) for container in spec["containers"]]
    return {
        **spec,
        "containers": containers,
        "restartPolicy": spec.get("restartPolicy", "Always"),
        "terminationGracePeriodSeconds": spec.get("terminationGracePeriodSeconds", 30),
        "dnsPolicy": spec.get("dnsPolicy", "ClusterFirst"),
        "securityContext": spec.get("securityContext", {}),
        "schedulerName": spec.get("schedulerName", "default-scheduler"),
    }


def _container(container: Object) -> Object:
    image = container["image"]
    tag = image.rpartition("/")[2].partition(":")[2]
    pulled = "Always" if tag in ("", "latest") else "IfNotPresent"
    return {
        **container,
        "resources": container.get("resources", {}),
        "terminationMessagePath": container.get("terminationMessagePath", "/dev/termination-log"),
        "terminationMessagePolicy": container.get("terminationMessagePolicy", "File"),
        "imagePullPolicy": container.get("imagePullPolicy", pulled),
    }


def _pod(body: Object) -> Object:
    spec = _pod_spec(body["spec"])
    spec["containers"] = [_requesting(container) for container in spec["containers"]]
    account = spec.get("serviceAccountName", "default")
    spec |= {
        "serviceAccountName": account,
        "serviceAccount": account,
        "tolerations": _tolerations(spec.get("tolerations") or []),
        "priority": spec.get("priority", 0),
        "enableServiceLinks": True,
        "preemptionPolicy": spec.get("preemptionPolicy", "PreemptLowerPriority"),
    }
    status = {"phase": "Pending", "qosClass": _quality(spec["containers"])}
    return {"metadata": body["metadata"], "spec": spec, "status": status}


def _requesting(container: Object) -> Object:
    """What is limited and not requested is requested in full."""
    resources = container["resources"]
    if "limits" not in resources:
        return container
    requests = {**resources["limits"], **resources.get("requests", {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _tolerations(given: list[Object]) -> list[Object]:
    named = {one.get("key") for one in given}
    added = [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": GONE_NODE_TOLERANCE,
        }
        for state in ("not-ready", "unreachable")
        if f"node.kubernetes.io/{state}" not in named
    ]
    return [*given, *added]


def _quality(containers: list[Object]) -> str:
    asked: list[Any] = []
    equal = True
    for container in containers:
        limits = container["resources"].get("limits", {})
        requests = container["resources"].get("requests", {})
        asked += [name for name in (*limits, *requests) if name in ("cpu", "memory")]
        for name in ("cpu", "memory"):
            if name not in limits or amount(limits[name]) != amount(requests.get(name, 0)):
                equal = False
    if not asked:
        return "BestEffort"
    return "Guaranteed" if equal else "Burstable"


def _secret(body: Object) -> Object:
    kept = {name: value for name, value in body.items() if name != "stringData"}
    plain = body.get("stringData") or {}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in plain.items()}
    data = {**(body.get("data") or {}), **encoded}
    return {**kept, **({"data": data} if data else {}), "type": body.get("type") or "Opaque"}
