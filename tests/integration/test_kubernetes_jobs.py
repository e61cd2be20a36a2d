"""Jobs on a cluster: what happens to pods ends up in the log, and what the log decides happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.conftest import StartService
from tests.http import Api
from tests.polling import eventually


@pytest_asyncio.fixture
async def api(start_service: StartService, cluster: Cluster, tmp_path: Path) -> Api:
    """A service that starts its trainings on the cluster."""
    return await start_service(
        EPOCHLOG_EXECUTOR="kubernetes",
        KUBECONFIG=str(write_kubeconfig(tmp_path / "kubeconfig", one=cluster)),
        EPOCHLOG_KUBE_NAMESPACE=cluster.namespace,
        EPOCHLOG_RETRY_BACKOFF="0.1",
        EPOCHLOG_DONE_GRACE="0.5",
    )


async def until(api: Api, job_id: int, status: str, reason: str | None = None) -> Any:
    async def check() -> Any:
        shown = (await api.get(f"/v1/jobs/{job_id}")).json
        assert (shown["status"], shown["reason"]["code"] if reason else None) == (status, reason)
        return shown

    return await eventually(check)


async def test_a_pod_that_starts_is_seen_running(api: Api, cluster: Cluster) -> None:
    job = await api.create_job()
    name = f"train-{job['id']}"
    await until(api, job["id"], "queued", "scheduling")
    cluster.unschedulable(name, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    await until(api, job["id"], "queued", "unschedulable")
    cluster.schedule(name)
    cluster.start(name)
    await until(api, job["id"], "running")
    cluster.out_of_memory(name)
    shown = await until(api, job["id"], "queued", "scheduling")
    assert shown["attempt"] == 2
