"""Clusters of a file: each job goes where it says, and what ails one cluster is its own affair."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from service import cluster_client, cluster_watch
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS
from tests.conftest import StartService
from tests.http import NEW_JOB, Api
from tests.polling import eventually

FILE = """
clusters:
  - {name: near, context: near}
  - {name: far, context: far, namespace: gpus}
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_client, "STREAM", aiohttp.ClientTimeout(sock_read=1.0))
    monkeypatch.setattr(cluster_watch, "LONGEST_WAIT", 0.5)


@pytest_asyncio.fixture
async def far() -> AsyncIterator[Cluster]:
    async with running_cluster(namespace="gpus") as cluster:
        cluster.watches.bookmark_every = 0.2
        yield cluster


@pytest_asyncio.fixture
async def api(start_service: StartService, cluster: Cluster, far: Cluster, tmp_path: Path) -> Api:
    cluster.watches.bookmark_every = 0.2
    (tmp_path / "clusters.yaml").write_text(FILE)
    return await start_service(
        EPOCHLOG_EXECUTOR="kubernetes",
        EPOCHLOG_CLUSTERS=str(tmp_path / "clusters.yaml"),
        KUBECONFIG=str(write_kubeconfig(tmp_path / "kubeconfig", near=cluster, far=far)),
        EPOCHLOG_KUBE_NAMESPACE=cluster.namespace,
    )


async def shown(api: Api, job: Any) -> Any:
    return (await api.get(f"/v1/jobs/{job['id']}")).json


async def until(api: Api, job: Any, status: str, *, within: float = 10) -> None:
    async def check() -> bool:
        return bool((await shown(api, job))["status"] == status)

    await eventually(check, within=within)


async def runs(api: Api, cluster: Cluster, job: Any) -> None:
    """Let the job's pod run, and wait until the log has heard of it."""
    name = f"train-{job['id']}"
    await eventually(lambda: cluster.store.find(JOBS, cluster.namespace, name))
    cluster.schedule(name)
    cluster.start(name)
    await until(api, job, "running")


async def verdict(api: Api, job: Any) -> str:
    return str((await shown(api, job))["health"]["verdict"])


async def test_jobs_go_where_they_say(api: Api, cluster: Cluster, far: Cluster) -> None:
    first = await api.create_job()
    second = await api.create_job(cluster="far")
    await runs(api, cluster, first)
    await runs(api, far, second)
    assert far.store.find(JOBS, "gpus", f"train-{first['id']}") is None
    assert cluster.store.find(JOBS, cluster.namespace, f"train-{second['id']}") is None
    refused = await api.post("/v1/jobs", {**NEW_JOB, "cluster": "nowhere"})
    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "cluster")
    ready = (await api.get("/readyz")).json
    assert (ready["status"], set(ready["clusters"])) == ("ok", {"near", "far"})


@pytest.mark.parametrize("ailment", ["frozen", "stopped"])
async def test_what_ails_one_cluster_touches_no_other_and_changes_no_status(
    api: Api, cluster: Cluster, far: Cluster, ailment: str
) -> None:
    near_job = await api.create_job()
    far_jobs = [await api.create_job(cluster="far") for _ in range(2)]
    await runs(api, cluster, near_job)
    for job in far_jobs:
        await runs(api, far, job)
    if ailment == "frozen":
        far.faults.freeze()
    else:
        await far.stop()

    # As many as can be asked about at the same time at one place, and more, hang there at once.
    stuck = [await api.create_job(cluster="far") for _ in range(40)]
    delays = [await _delay(api, cluster) for _ in range(3)]
    assert max(delays) < 3, "the other cluster goes on"

    async def is_unreachable() -> bool:
        return {await verdict(api, job) for job in far_jobs} == {"unreachable"}

    await eventually(is_unreachable, within=20)
    assert await verdict(api, near_job) != "unreachable"
    assert {(await shown(api, job))["status"] for job in far_jobs} == {"running"}
    ready = await api.get("/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert set(ready.json["problems"]) == {"far"}
    assert ready.json["clusters"]["near"]["problem"] is None

    if ailment == "frozen":
        far.faults.thaw()
    else:
        await far.start_server()

    async def is_back() -> bool:
        return "unreachable" not in {await verdict(api, job) for job in far_jobs}

    await eventually(is_back, within=20)
    await runs(api, far, stuck[-1])
    far.exit(f"train-{far_jobs[0]['id']}", 1)

    async def is_told() -> bool:
        return bool((await shown(api, far_jobs[0]))["attempt"] == 2)

    await eventually(is_told)

    async def is_well() -> bool:
        return bool((await api.get("/readyz")).json["status"] == "ok")

    await eventually(is_well, within=20)


async def _delay(api: Api, cluster: Cluster) -> float:
    """How long a new job takes to run in a cluster that works."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        await runs(api, cluster, await api.create_job())
    return time.monotonic() - began
