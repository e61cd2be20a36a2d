"""The fake cluster stays quick with a thousand Jobs, so that what is measured is the service."""

from __future__ import annotations

import time

from tests.cluster.clients import Kube, job_body, watching
from tests.cluster.cluster import Cluster
from tests.polling import eventually

JOBS = 1000


async def test_a_thousand_jobs_are_made_run_and_ended_in_seconds(
    cluster: Cluster, kube: Kube
) -> None:
    began = time.process_time()
    for number in range(JOBS):
        cluster.add_job(job_body(f"train-{number}"))
        cluster.start(f"train-{number}")
    for number in range(JOBS):
        cluster.exit(f"train-{number}", 0)
    assert time.process_time() - began < 10

    narrowed = await kube.batch.list_namespaced_job(kube.namespace, label_selector="job-id=77")
    assert [job.metadata.name for job in narrowed.items] == ["train-77"]


async def test_a_list_of_a_thousand_costs_little(cluster: Cluster) -> None:
    for number in range(JOBS):
        cluster.add_job(job_body(f"train-{number}"))
    async with cluster.reader() as read:
        first = await read("/apis/batch/v1/jobs?labelSelector=app%3Dtrainer")
        began = time.process_time()
        again = await read("/apis/batch/v1/jobs?labelSelector=app%3Dtrainer")
        assert time.process_time() - began < 0.5
    assert len(again["items"]) == JOBS
    assert again["items"] == first["items"]
    assert "kind" not in again["items"][0]


async def test_every_watcher_gets_every_change(cluster: Cluster, kube: Kube) -> None:
    async with watching(kube) as first, watching(kube) as second:
        await eventually(lambda: len(cluster.watches) == 4)
        for number in range(200):
            cluster.add_job(job_body(f"train-{number}"))
            cluster.start(f"train-{number}")
        await eventually(lambda: len(second.events["pods"]) == 800)
        await eventually(lambda: len(first.events["jobs"]) == 600)
        assert first.events["jobs"] == second.events["jobs"]
