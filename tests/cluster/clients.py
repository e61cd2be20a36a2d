"""kubernetes-asyncio as the tests use it: typed calls, and streams that are written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kubernetes_asyncio import client
from kubernetes_asyncio.watch import Watch

from tests.cluster.cluster import Cluster
from tests.cluster.objects import Object
from tests.cluster.sequence import told


@dataclass(frozen=True, slots=True)
class Kube:
    """The three parts of the API that a launcher and a watcher need."""

    batch: Any
    core: Any
    auth: Any
    namespace: str

    async def create_job(self, name: str = "train-1", **parts: Any) -> Any:
        return await self.batch.create_namespaced_job(self.namespace, job_body(name, **parts))

    async def read_job(self, name: str = "train-1") -> Any:
        return await self.batch.read_namespaced_job(name, self.namespace)


@asynccontextmanager
async def kube_of(cluster: Cluster, token: str | None = None) -> AsyncIterator[Kube]:
    """A client of this cluster, by default its administrator's."""
    configuration = client.Configuration(host=cluster.url)
    configuration.api_key = {"BearerToken": f"Bearer {token or cluster.token}"}
    async with client.ApiClient(configuration) as api:
        batch, core = client.BatchV1Api(api), client.CoreV1Api(api)
        yield Kube(batch, core, client.AuthorizationV1Api(api), cluster.namespace)


def job_body(name: str = "train-1", **parts: Any) -> Object:
    """A Job as the service's template makes it; `spec`, `pod`, `container`, `labels` add to it."""
    labels = parts.pop("labels", {"app": "trainer", "job-id": name.removeprefix("train-")})
    container = {
        "name": "trainer",
        "image": "trainer:1",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        **parts.pop("container", {}),
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        **parts.pop("pod", {}),
    }
    spec = {
        "ttlSecondsAfterFinished": 3600,
        "backoffLimit": 0,
        "activeDeadlineSeconds": 86400,
        "template": {"metadata": {"labels": labels}, "spec": pod},
        **parts.pop("spec", {}),
    }
    assert not parts, parts
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


@dataclass(slots=True)
class Streams:
    """What a watch of Jobs and a watch of Pods have delivered so far."""

    events: dict[str, list[tuple[str, Object]]] = field(
        default_factory=lambda: {"jobs": [], "pods": []}
    )

    def jobs(self) -> list[str]:
        return told(self.events["jobs"])

    def pods(self) -> list[str]:
        return told(self.events["pods"])


@asynccontextmanager
async def watching(kube: Kube, **options: Any) -> AsyncIterator[Streams]:
    """Both streams, from what is there now, while the block runs."""
    streams = Streams()
    calls = {"jobs": kube.batch.list_namespaced_job, "pods": kube.core.list_namespaced_pod}
    tasks = []
    for name, call in calls.items():
        listed = await call(kube.namespace)
        version = listed.metadata.resource_version
        coming = _write_down(streams, name, call, kube.namespace, version, options)
        tasks.append(asyncio.create_task(coming))
    try:
        yield streams
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write_down(
    streams: Streams, name: str, call: Any, namespace: str, version: str, options: Object
) -> None:
    async with Watch("object") as watch:
        asked = {"resource_version": version, "timeout_seconds": 60, **options}
        async for event in watch.stream(call, namespace, **asked):
            if event["type"] != "BOOKMARK":
                streams.events[name].append((event["type"], event["object"]))
