"""The watch ends up with what is in the cluster, whatever lies between the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from projections.objects import name_of, text, uid_of, version_of
from service import cluster_client, cluster_watch
from service.cluster_client import ClusterClient
from service.cluster_watch import ClusterWatch
from tests.cluster import objects as fake
from tests.cluster.clients import job_body
from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.selectors import Selector
from tests.polling import eventually


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_client, "STREAM", aiohttp.ClientTimeout(sock_read=0.6))
    monkeypatch.setattr(cluster_watch, "SHORTEST_WAIT", 0.02)
    monkeypatch.setattr(cluster_watch, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(cluster_watch, "FORBIDDEN_SECONDS", 0.1)


@asynccontextmanager
async def following(
    cluster: Cluster, folder: Path, token: str | None = None
) -> AsyncIterator[ClusterWatch]:
    """A watch of this cluster, and what it told."""
    kubeconfig = write_kubeconfig(folder / "kubeconfig", token=token, one=cluster)
    client = ClusterClient(namespace=cluster.namespace, kubeconfig=str(kubeconfig))
    watch = ClusterWatch(name="one", client=client, changed=lambda _uids: None)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.close()
    assert task.cancelled()


def launched(cluster: Cluster, name: str = "train-1") -> None:
    cluster.add_job(job_body(name))
    cluster.schedule(name)
    cluster.start(name)


def agrees(cluster: Cluster, watch: ClusterWatch) -> None:
    """Every Job and pod that is there is known as it is; nothing else is held to be there."""
    jobs = [entry.body for _, entry in cluster.store.select(fake.JOBS, None, Selector())]
    assert {uid: version_of(job) for uid, job in watch.view.jobs.items()} == {
        uid_of(job): version_of(job) for job in jobs
    }
    for job in jobs:
        there = {uid_of(pod): version_of(pod) for pod in cluster.pods(name_of(job))}
        seen = [
            pod
            for pod in watch.view.pods_of(uid_of(job))
            if uid_of(pod) not in watch.view.gone_pods
        ]
        assert {uid_of(pod): version_of(pod) for pod in seen} == there
    assert watch.problem is None


async def settled(cluster: Cluster, watch: ClusterWatch) -> None:
    def check() -> bool:
        agrees(cluster, watch)
        return True

    await eventually(check)


async def test_a_job_is_followed_from_its_beginning_to_its_end(
    cluster: Cluster, tmp_path: Path
) -> None:
    told: list[str] = []
    async with following(cluster, tmp_path) as watch:
        watch.changed = told.extend
        launched(cluster)
        await settled(cluster, watch)
        uid = uid_of(cluster.job("train-1"))
        cluster.exit("train-1", 1)
        await settled(cluster, watch)
        cluster.expire_ttl("train-1")
        await eventually(lambda: uid not in watch.view.jobs)

        (pod,) = watch.view.pods_of(uid)
        assert text(pod["status"], "phase") == "Failed", "the last that was seen of it is kept"
        assert uid_of(pod) in watch.view.gone_pods
        assert set(told) == {uid}


@pytest.mark.parametrize("fault", ["duplicate", "reorder", "cut", "cut_all", "malformed", "page"])
async def test_a_disturbed_stream_changes_nothing_in_the_end(
    cluster: Cluster, tmp_path: Path, fault: str
) -> None:
    async with following(cluster, tmp_path) as watch:
        await settled(cluster, watch)
        match fault:
            case "duplicate":
                cluster.faults.deliveries = 2
            case "reorder":
                cluster.faults.reorder = True
            case "cut":
                cluster.faults.cuts = 1
            case "malformed":
                for line in ('{"type":"MODIFIED","object":{"metadata":null}}', "{}", '{"type":7}'):
                    cluster.say("jobs", line)
                cluster.say("pods", "not json")
            case "page":
                cluster.faults.answer(502, times=3)
            case _:  # cut below, in the middle of what happens
                assert fault == "cut_all"
        launched(cluster)
        if fault == "cut_all":
            cluster.watches.cut_all()
        cluster.exit("train-1", 137, reason="OOMKilled")
        cluster.faults.clear()
        await settled(cluster, watch)


async def test_a_stream_that_is_cut_after_a_while_is_no_alarm(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_client, "STREAM", aiohttp.ClientTimeout(sock_read=30))
    monkeypatch.setattr(cluster_watch, "STEADY_SECONDS", 0.0)
    cluster.watches.bookmark_every = 0.1
    async with following(cluster, tmp_path) as watch:
        await settled(cluster, watch)
        problems: set[str | None] = set()
        for number in range(1, 4):
            await eventually(lambda: len(cluster.watches) == 2)
            cluster.watches.cut_all()
            launched(cluster, f"train-{number}")

            def is_followed_again(number: int = number) -> bool:
                problems.add(watch.problem)
                return watch.restarts >= 2 * number and len(watch.view.jobs) == number

            await eventually(is_followed_again)
        assert problems == {None}


async def test_history_that_is_over_is_listed_anew(cluster: Cluster, tmp_path: Path) -> None:
    async with following(cluster, tmp_path) as watch:
        launched(cluster)
        await settled(cluster, watch)
        cluster.faults.refuse_connections(times=2)
        cluster.watches.cut_all()
        cluster.exit("train-1", 0)
        cluster.forget_history()
        await settled(cluster, watch)


async def test_what_went_while_nobody_looked_is_missed_at_the_next_look(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with following(cluster, tmp_path) as watch:
        launched(cluster)
        await settled(cluster, watch)
        uid = uid_of(cluster.job("train-1"))
        await cluster.stop()
        await eventually(lambda: watch.problem is not None)
        cluster.exit("train-1", 0)
        cluster.expire_ttl("train-1")
        await cluster.restart(lost_history=True, versions_from=1)
        await settled(cluster, watch)
        assert uid not in watch.view.jobs
        assert {uid_of(pod) for pod in watch.view.pods_of(uid)} <= watch.view.gone_pods


async def test_a_frozen_cluster_is_noticed_and_found_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with following(cluster, tmp_path) as watch:
        await settled(cluster, watch)
        cluster.faults.freeze()
        await eventually(lambda: watch.problem is not None)
        cluster.faults.thaw()
        launched(cluster)
        await settled(cluster, watch)


async def test_too_many_requests_are_made_again_when_the_cluster_says_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.faults.answer(429, times=2, retry_after=0)
    async with following(cluster, tmp_path) as watch:
        await settled(cluster, watch)


async def test_a_verb_that_is_taken_away_is_named(cluster: Cluster, tmp_path: Path) -> None:
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "watch", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "get"]},
    ]
    token = cluster.give_role(rules)
    async with following(cluster, tmp_path, token) as watch:
        await settled(cluster, watch)
        cluster.take_away(token, "list", "pods")
        cluster.watches.cut_all()
        await eventually(lambda: 'cannot list resource "pods"' in (watch.problem or ""))
        cluster.access.add(token, "system:serviceaccount:training:epochlog", "training", rules)
        await settled(cluster, watch)


async def test_a_token_that_was_renewed_is_read_without_an_alarm(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_client, "RELOGIN_SECONDS", 0.0)
    monkeypatch.setattr(cluster_watch, "FORBIDDEN_SECONDS", 600.0)
    async with following(cluster, tmp_path, "the first") as watch:
        await eventually(lambda: "not accepted" in (watch.problem or ""))
    cluster.access.add("the first", "epochlog", "", None)
    async with following(cluster, tmp_path, "the first") as watch:
        await settled(cluster, watch)
        write_kubeconfig(tmp_path / "kubeconfig", token="the second", one=cluster)
        cluster.access.add("the second", "epochlog", "", None)
        del cluster.access.users["the first"]
        cluster.watches.cut_all()
        launched(cluster)
        await settled(cluster, watch)


async def test_a_certificate_that_was_renewed_is_trusted_after_a_new_login(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_client, "RELOGIN_SECONDS", 0.0)
    key = ConnectionKey(
        "api", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )
    distrusts = aiohttp.ClientConnectorSSLError(key, OSError("unable to get local issuer"))
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", one=cluster)
    client = ClusterClient(namespace=cluster.namespace, kubeconfig=str(kubeconfig))
    try:
        assert await client.job("train-1") is None
        monkeypatch.setattr(await client._logged_in(), "call_api", AsyncMock(side_effect=distrusts))
        assert await client.job("train-1") is None
    finally:
        await client.close()


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_the_word_of_a_proxy_is_not_taken_for_the_clusters(
    cluster: Cluster, tmp_path: Path, status: int
) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", one=cluster)
    client = ClusterClient(namespace=cluster.namespace, kubeconfig=str(kubeconfig))
    cluster.faults.answer(status, body="default backend: not found")
    try:
        with pytest.raises(cluster_client.ClusterUnavailableError, match="no Kubernetes API"):
            await client.job("train-1")
        with pytest.raises(cluster_client.ClusterUnavailableError, match="no Kubernetes API"):
            await client.delete_job("train-1", "uid")
    finally:
        await client.close()


async def test_what_is_remembered_does_not_grow_with_what_has_passed(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with following(cluster, tmp_path) as watch:
        for number in range(30):
            name = f"train-{number}"
            launched(cluster, name)
            cluster.exit(name, 0)
            cluster.expire_ttl(name)
        await settled(cluster, watch)
        watch.view.forget_all_but(set())
        assert len(watch.view) == 0
        assert not watch.view.gone_pods
