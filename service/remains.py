"""What lies in a cluster that says of itself for which attempt it was made, as the sweeper asks."""

from __future__ import annotations

from collections.abc import Iterator

from projections.objects import (
    Object,
    condition,
    is_deleting,
    name_of,
    owner_of,
    part,
    parts,
    text,
    uid_of,
)
from projections.pods import has_ended
from service.cluster_view import ClusterView
from service.clusters import Cluster
from service.executor import Found
from service.job_template import LOG_ANNOTATION

_JOB_NAMES = ("batch.kubernetes.io/job-name", "job-name")


def remains_in(view: ClusterView, cluster: Cluster) -> Iterator[Found]:
    """Yield every Job, and every pod that is there without its Job."""
    for uid, job in view.jobs.items():
        yield _job(view, cluster, uid, job)
    for pod in view.pods:
        if uid_of(pod) not in view.gone_pods and owner_of(pod) not in view.jobs:
            yield _pod(cluster, pod)


def _job(view: ClusterView, cluster: Cluster, uid: str, job: Object) -> Found:
    over = bool(condition(job, "Failed", "Complete"))
    pods = [pod for pod in view.pods_of(uid) if uid_of(pod) not in view.gone_pods]
    labels = part(job, "metadata", "labels")
    return Found(
        cluster=cluster.name,
        place=cluster.place,
        name=name_of(job),
        uid=uid,
        job_name=name_of(job),
        job_id=text(labels, "job-id"),
        trace_id=text(labels, "trace-id"),
        log_id=text(part(job, "metadata", "annotations"), LOG_ANNOTATION),
        lives=not over or not all(map(has_ended, pods)),
        ending=is_deleting(job),
    )


def _pod(cluster: Cluster, pod: Object) -> Found:
    labels = part(pod, "metadata", "labels")
    named = [text(labels, name) for name in _JOB_NAMES]
    owners = [text(owner, "name") for owner in parts(part(pod, "metadata"), "ownerReferences")]
    return Found(
        cluster=cluster.name,
        place=cluster.place,
        name=name_of(pod),
        uid=uid_of(pod),
        job_name=next(filter(None, [*named, *owners]), ""),
        job_id=text(labels, "job-id"),
        trace_id=text(labels, "trace-id"),
        log_id=None,
        lives=not has_ended(pod),
        ending=is_deleting(pod),
    )
