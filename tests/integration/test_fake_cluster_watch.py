"""The fake cluster's watch, and what may go wrong with it, as kubernetes-asyncio meets both."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from kubernetes_asyncio.client import ApiException
from kubernetes_asyncio.watch import Watch

from tests.cluster.clients import Kube, kube_of, watching
from tests.cluster.cluster import Cluster
from tests.cluster.objects import JOBS
from tests.polling import eventually


async def collect(kube: Kube, most: int = 99, *, seconds: int = 1, **options: Any) -> list[Any]:
    """What one watch of Jobs delivers: so many events, or all until it ends by itself."""
    told: list[Any] = []
    async with Watch("object") as watch:
        asked = {"timeout_seconds": seconds, "_request_timeout": (5, 20), **options}
        async for event in watch.stream(kube.batch.list_namespaced_job, kube.namespace, **asked):
            told.append(event)
            if len(told) == most:
                break
    return told


async def version_of(kube: Kube) -> str:
    listed = await kube.batch.list_namespaced_job(kube.namespace)
    return str(listed.metadata.resource_version)


def names(events: list[Any]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def test_without_a_version_a_watch_begins_with_all_there_is(
    cluster: Cluster, kube: Kube
) -> None:
    await kube.create_job("train-1")
    await kube.create_job("train-2")
    assert names(await collect(kube, 2)) == [("ADDED", "train-1"), ("ADDED", "train-2")]


async def test_from_a_version_a_watch_tells_what_was_missed(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job("train-1")
    version = await version_of(kube)
    await kube.create_job("train-2")
    cluster.delete_job("train-1")

    types = names(await collect(kube, 3, resource_version=version))
    assert types == [("ADDED", "train-2"), ("MODIFIED", "train-2"), ("DELETED", "train-1")]


async def test_a_watch_ends_when_its_time_is_over(kube: Kube) -> None:
    began = time.monotonic()
    assert await collect(kube, seconds=1) == []
    assert 0.9 < time.monotonic() - began < 10


async def test_an_object_enters_and_leaves_a_selection(cluster: Cluster, kube: Kube) -> None:
    version = await version_of(kube)
    await kube.create_job("train-1")
    for label in ("gold", None):
        patch = {"metadata": {"labels": {"tier": label}}}
        await kube.batch.patch_namespaced_job("train-1", kube.namespace, patch)

    told = await collect(kube, 2, resource_version=version, label_selector="tier=gold")
    assert names(told) == [("ADDED", "train-1"), ("DELETED", "train-1")]


async def test_a_forgotten_version_is_gone(cluster: Cluster, kube: Kube) -> None:
    version = await version_of(kube)
    cluster.forget_history()
    with pytest.raises(ApiException) as refusal:
        await collect(kube, resource_version=version)
    assert refusal.value.status == 410
    assert str(refusal.value.reason).startswith("Expired: too old resource version: ")


async def test_a_history_is_bounded() -> None:
    small = Cluster(history=10)
    await small.server.start()
    async with kube_of(small) as kube:
        version = await version_of(kube)
        for number in range(8):
            await kube.create_job(f"train-{number}")
        with pytest.raises(ApiException, match="410"):
            await collect(kube, resource_version=version)
    await small.stop()


async def test_a_version_of_the_future_yields_nothing(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    before = await version_of(kube)
    await cluster.restart(versions_from=100)
    assert int(await version_of(kube)) < int(before)

    waiting = asyncio.create_task(collect(kube, resource_version=before))
    await eventually(lambda: cluster.watches.of(JOBS) == 1)
    await kube.create_job("train-2")
    assert await waiting == []


async def test_bookmarks_come_to_those_who_allow_them(cluster: Cluster, kube: Kube) -> None:
    cluster.watches.bookmark_every = 0.2
    await kube.create_job()
    version = await version_of(kube)
    cluster.forget_history()
    version = await version_of(kube)
    allowed, plain = await asyncio.gather(
        collect(kube, resource_version=version, allow_watch_bookmarks=True),
        collect(kube, resource_version=version),
    )
    assert plain == []
    assert {event["type"] for event in allowed} == {"BOOKMARK"}
    assert allowed[0]["object"]["metadata"] == {"resourceVersion": version}


async def test_a_frozen_server_says_nothing_and_closes_nothing(
    cluster: Cluster, kube: Kube
) -> None:
    cluster.faults.freeze()
    with pytest.raises(TimeoutError):
        await kube.batch.list_namespaced_job(kube.namespace, _request_timeout=0.2)
    cluster.faults.thaw()
    await kube.batch.list_namespaced_job(kube.namespace, _request_timeout=2)


async def test_a_frozen_watch_goes_on_when_thawed(cluster: Cluster, kube: Kube) -> None:
    async with watching(kube) as streams:
        await eventually(lambda: len(cluster.watches) == 2)
        cluster.faults.freeze()
        cluster.store.create(JOBS, {"metadata": {"name": "x", "namespace": "training"}})
        await asyncio.sleep(0.1)
        assert streams.events["jobs"] == []
        cluster.faults.thaw()
        await eventually(lambda: len(streams.events["jobs"]) == 1)


async def test_a_line_cut_in_its_middle_is_a_broken_payload(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.faults.cuts = 1
    with pytest.raises(aiohttp.ClientPayloadError):
        await collect(kube)
    assert len(await collect(kube, 1)) == 1


async def test_a_gateways_page_comes_as_text(cluster: Cluster, kube: Kube) -> None:
    cluster.faults.answer(502, watches=True, times=1)
    told = await collect(kube)
    assert told
    assert all(isinstance(line, str) for line in told)
    assert "502 Bad Gateway" in "".join(told)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_an_answer_of_trouble_has_its_status(
    cluster: Cluster, kube: Kube, status: int
) -> None:
    cluster.faults.answer(status, times=1, retry_after=7)
    with pytest.raises(ApiException) as refusal:
        await kube.read_job()
    assert refusal.value.status == status
    assert refusal.value.headers is not None
    assert refusal.value.headers["Retry-After"] == "7"
    cluster.faults.answer(status, times=1, watches=True)
    with pytest.raises(ApiException) as told:
        await collect(kube)
    assert told.value.status == status


async def test_a_creation_may_succeed_though_its_answer_is_lost(
    cluster: Cluster, kube: Kube
) -> None:
    cluster.faults.lose_answer()
    with pytest.raises(aiohttp.ClientError):
        await kube.create_job()
    with pytest.raises(ApiException, match="409"):
        await kube.create_job()


async def test_a_creation_may_succeed_after_its_time_out(cluster: Cluster, kube: Kube) -> None:
    cluster.faults.lose_answer(seconds=30)
    with pytest.raises(TimeoutError):
        await kube.batch.create_namespaced_job(
            kube.namespace,
            {"metadata": {"name": "train-1"}, "spec": cluster_spec()},
            _request_timeout=0.3,
        )
    assert cluster.job("train-1")["status"]["active"] == 1


def cluster_spec() -> Any:
    container = {"name": "trainer", "image": "trainer:1"}
    return {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}


async def test_a_slow_answer_comes(cluster: Cluster, kube: Kube) -> None:
    cluster.faults.slow(0.2, times=1)
    began = time.monotonic()
    await version_of(kube)
    assert time.monotonic() - began >= 0.2


async def test_everything_may_come_twice_and_out_of_order(cluster: Cluster, kube: Kube) -> None:
    cluster.faults.deliveries = 2
    cluster.faults.reorder = True
    async with watching(kube) as streams:
        await eventually(lambda: len(cluster.watches) == 2)
        await kube.create_job()
        cluster.start("train-1")
        cluster.exit("train-1", 1)
        await eventually(lambda: len(streams.events["jobs"]) == 10)
    versions = [int(body["metadata"]["resourceVersion"]) for _, body in streams.events["jobs"]]
    assert versions != sorted(versions)
    assert all(versions.count(version) == 2 for version in versions)


async def test_any_line_may_stand_in_the_stream(cluster: Cluster, kube: Kube) -> None:
    cluster.say("jobs", "this is not JSON")
    cluster.say("jobs", '{"type": "MODIFIED", "object": {"metadata": {}, "spec": 3}}')
    told = await collect(kube, 2)
    assert told[0] == "this is not JSON\n"
    assert told[1]["object"] == {"metadata": {}, "spec": 3}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"type": "MODIFIED", "object": {"metadata": null}}', TypeError),
        ('{"type": "ERROR", "object": {"message": "no code"}}', KeyError),
        ('{"type": "MODIFIED"}', Exception),
        ("[]", Exception),
    ],
)
async def test_some_lines_break_the_client_library_itself(
    cluster: Cluster, kube: Kube, line: str, error: type[Exception]
) -> None:
    cluster.say("jobs", line)
    with pytest.raises(error) as broken:
        await collect(kube)
    assert not isinstance(broken.value, ApiException | aiohttp.ClientError | OSError)


async def test_a_stopped_server_refuses_and_returns_at_its_place(
    cluster: Cluster, kube: Kube
) -> None:
    await kube.create_job()
    await cluster.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await kube.read_job()
    cluster.start("train-1")
    await cluster.start_server()
    assert (await kube.read_job()).status.ready == 1


async def test_a_broken_connection_ends_its_watch(cluster: Cluster, kube: Kube) -> None:
    waiting = asyncio.create_task(collect(kube, seconds=30))
    await eventually(lambda: len(cluster.watches) == 1)
    cluster.watches.cut_all()
    with pytest.raises(aiohttp.ClientError):
        await waiting
    await eventually(lambda: len(cluster.watches) == 0)


async def test_a_client_that_leaves_is_forgotten(cluster: Cluster, kube: Kube) -> None:
    async with watching(kube):
        await eventually(lambda: len(cluster.watches) == 2)
    await eventually(lambda: len(cluster.watches) == 0)
    assert len(cluster.store.listeners) == 1
