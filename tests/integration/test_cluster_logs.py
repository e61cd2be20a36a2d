"""The output of a pod, from whichever service is asked, whatever ails another cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS
from tests.conftest import StartService
from tests.http import Api
from tests.polling import eventually

FILE = "clusters: [{name: broken, context: broken}, {name: works, context: works}]"


async def test_logs_are_told_by_a_service_that_follows_no_cluster(
    start_service: StartService, cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "clusters.yaml").write_text(FILE)
    async with running_cluster() as broken:
        contexts = write_kubeconfig(tmp_path / "kubeconfig", broken=broken, works=cluster)
        variables = {
            "EPOCHLOG_EXECUTOR": "kubernetes",
            "EPOCHLOG_CLUSTERS": str(tmp_path / "clusters.yaml"),
            "EPOCHLOG_KUBE_NAMESPACE": cluster.namespace,
            "EPOCHLOG_API_TOKEN": "the-same-token-for-both-of-them",
            "KUBECONFIG": str(contexts),
        }
        leader = await start_service(**variables)
        other = await start_service(**variables, EPOCHLOG_STATE_DIR=str(tmp_path / "other"))
        job = await leader.create_job(cluster="works")
        name = f"train-{job['id']}"
        await eventually(lambda: cluster.store.find(JOBS, cluster.namespace, name))
        cluster.schedule(name)
        cluster.start(name)
        cluster.log(name, "epoch 1\nepoch 2\n")

        await broken.stop()
        await eventually(partial(_told, leader, job))
        await eventually(partial(_told, other, job))
        ready = (await other.get("/readyz")).json
        assert (ready["leads"], ready["problems"]) == (False, {})
        assert ready["clusters"]["works"] == {"heard_seconds_ago": None, "problem": None}


async def _told(api: Api, job: Any) -> bool:
    return "epoch 2" in (await api.get(f"/v1/jobs/{job['id']}/logs", tail=1)).text
