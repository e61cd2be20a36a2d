"""A real training as a pod: Job, Secret, callbacks, `done`, all through the cluster's API."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.kubelet import kubelet_of
from tests.cluster.objects import SECRETS
from tests.conftest import StartService
from tests.polling import eventually

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

TEMPLATE = Path(__file__).parents[2] / "deploy" / "job-template.yaml"


def template_for(folder: Path) -> Path:
    """The default template, with folders of this test for the volumes that a pod would have."""
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("value: /work }", f'value: "{folder}" }}')
    path = folder / "job-template.yaml"
    path.write_text(text.replace("value: /tmp }", f'value: "{folder}" }}'), encoding="utf-8")
    return path


async def dataset(bucket: Path) -> None:
    folder = bucket / "datasets"
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "trainer.shapes", str(folder / "shapes.zip"), "--size", "96"]
    await asyncio.to_thread(subprocess.run, words, check=True)


async def test_a_training_runs_from_its_job_to_its_done(
    start_service: StartService, cluster: Cluster, tmp_path: Path
) -> None:
    await dataset(tmp_path / "bucket")
    cluster.add_secret("r2-credentials", access_key_id="none", secret_access_key="none")
    api = await start_service(
        EPOCHLOG_EXECUTOR="kubernetes",
        KUBECONFIG=str(write_kubeconfig(tmp_path / "kubeconfig", one=cluster)),
        EPOCHLOG_KUBE_NAMESPACE=cluster.namespace,
        EPOCHLOG_JOB_TEMPLATE=str(template_for(tmp_path)),
        EPOCHLOG_BUCKET=str(tmp_path / "bucket"),
    )

    async with kubelet_of(cluster, command=[sys.executable, "-m", "trainer"]):
        job = await api.create_job(
            dataset_id="shapes", model_name="yolov8n", epochs=2, imgsz=96, batch=16
        )

        async def over() -> bool:
            shown = (await api.get(f"/v1/jobs/{job['id']}")).json
            assert shown["status"] == "succeeded", shown["reason"]
            return bool([one["type"] for one in await api.events(job)][-1] == "exited")

        await eventually(over, within=200)

    events = await api.events(job)
    types = [one["type"] for one in events]
    timeline = (await api.get(f"/v1/jobs/{job['id']}/timeline")).json
    assert types[:3] == ["created", "queued", "launched"]
    assert events[2]["data"]["uid"] == cluster.job("train-1")["metadata"]["uid"]
    assert types.index("running") < types.index("done") < types.index("succeeded")
    assert [one["epoch"] for one in timeline["attempts"][0]["epochs"]] == [1, 2]
    assert timeline["attempts"][0]["gaps"] == []
    assert (tmp_path / "bucket" / "checkpoints" / "job-1" / "best.pt").stat().st_size > 0
    secret = cluster.store.get(SECRETS, cluster.namespace, "callback-token-1")
    assert secret["immutable"] is True
    assert secret["data"]["token"] not in str(events)
