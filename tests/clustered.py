"""A real service whose trainings run on a fake cluster, over real HTTP."""

from __future__ import annotations

from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.objects import EVENTS, JOBS, PODS, SECRETS, Object, Resource, decoded
from tests.cluster.selectors import Selector
from tests.http import Api
from tests.polling import eventually


async def until(api: Api, job: Any, status: str, reason: str | None = None) -> Any:
    """Wait until the job stands so, and return it."""

    async def check() -> Any:
        shown = (await api.get(f"/v1/jobs/{job['id']}")).json
        stands = (shown["status"], shown["reason"]["code"] if reason else None)
        assert stands == (status, reason), shown["reason"]
        return shown

    return await eventually(check)


async def until_said(api: Api, job: Any, kind: str, count: int = 1) -> Any:
    """Wait for so many events of a type, and return them."""

    async def check() -> Any:
        found = await api.events(job, kind)
        assert len(found) >= count, [one["type"] for one in await api.events(job)]
        return found

    return await eventually(check)


async def story(api: Api, job: Any) -> list[str]:
    """The job's events, each with its reason where it has one; evidence and callbacks left out."""
    left_out = {"evidence", "heartbeat", "trainer_event"}
    told = []
    for event in await api.events(job):
        data = event["data"]
        reason = data.get("cause") or data.get("reason") if event["type"] != "running" else None
        if event["type"] not in left_out:
            told.append(f"{event['type']}:{reason}" if reason else event["type"])
    return told


def everything(cluster: Cluster, resource: Resource) -> list[Object]:
    """All objects of a kind."""
    return [entry.body for _, entry in cluster.store.select(resource, None, Selector())]


def names(cluster: Cluster, resource: Resource) -> list[str]:
    return [one["metadata"]["name"] for one in everything(cluster, resource)]


def left(cluster: Cluster) -> list[str]:
    """What is left of all trainings."""
    return [name for resource in (JOBS, PODS, SECRETS) for name in names(cluster, resource)]


def with_token(cluster: Cluster, job: Any) -> Any:
    """The job with the callback token that its trainer has."""
    name = f"callback-token-{job['id']}"
    secret = cluster.store.get(SECRETS, cluster.namespace, name)
    return {**job, "callback_token": decoded(secret["data"]["token"])}


def words_of(cluster: Cluster) -> list[str]:
    """What the components have said."""
    return [event["message"] for event in everything(cluster, EVENTS)]


def is_there(cluster: Cluster, job: Any) -> bool:
    return cluster.store.find(JOBS, cluster.namespace, f"train-{job['id']}") is not None
