"""Ending trainings on a cluster: each step is told, and over is what the pod's end says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from service import cluster_client, cluster_watch
from tests.cluster.clients import job_body
from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS
from tests.clustered import is_there, left, story, until, until_said, with_token
from tests.conftest import StartService
from tests.http import Api
from tests.polling import eventually


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    cluster.watches.bookmark_every = 0.2
    monkeypatch.setattr(cluster_watch, "LONGEST_WAIT", 0.6)
    monkeypatch.setattr(cluster_client, "CALL", aiohttp.ClientTimeout(total=4, sock_read=3))
    monkeypatch.setattr(cluster_client, "STREAM", aiohttp.ClientTimeout(sock_read=3))


@pytest_asyncio.fixture
async def api(start_service: StartService, cluster: Cluster, tmp_path: Path) -> Api:
    return await start_service(
        EPOCHLOG_EXECUTOR="kubernetes",
        KUBECONFIG=str(write_kubeconfig(tmp_path / "kubeconfig", one=cluster)),
        EPOCHLOG_KUBE_NAMESPACE=cluster.namespace,
        EPOCHLOG_RETRY_BACKOFF="0.1",
        EPOCHLOG_DONE_GRACE="0.5",
        EPOCHLOG_CANCEL_GRACE="1",
    )


async def a_waiting_job(api: Api) -> tuple[Any, str]:
    job = await api.create_job()
    await until(api, job, "queued", "scheduling")
    return job, f"train-{job['id']}"


async def a_running_job(api: Api, cluster: Cluster, **fields: Any) -> tuple[Any, str]:
    job = await api.create_job(**fields)
    name = f"train-{job['id']}"
    await until(api, job, "queued", "scheduling")
    cluster.schedule(name)
    cluster.start(name)
    await until(api, job, "running", "seen_alive")
    return with_token(cluster, job), name


async def cancel(api: Api, job: Any) -> None:
    answer = await api.post(f"/v1/jobs/{job['id']}/cancel", {"reason": "enough"})
    assert answer.status == 202


DELETED = [
    "cancel_requested:enough",
    "stop_requested:cancel_requested",
    "terminating:deletion_sent",
    "exited:pod_deleted",
    "cancelled:cancelled",
]


async def test_a_waiting_job_is_deleted_at_once_and_nothing_is_left(
    api: Api, cluster: Cluster
) -> None:
    job, name = await a_waiting_job(api)
    cluster.unschedulable(name)
    await until(api, job, "queued", "unschedulable")

    await cancel(api, job)

    await until(api, job, "cancelled", "cancelled")
    assert left(cluster) == []
    sent = cluster.asked("delete", "jobs")
    assert len(sent) == 1
    assert "attempt_failed" not in str(await story(api, job))


async def test_a_trainer_that_obeys_ends_by_itself(api: Api, cluster: Cluster) -> None:
    job, name = await a_running_job(api, cluster)
    await cancel(api, job)

    told = (await api.call_back(job, "heartbeat")).json
    assert told["directive"] == "cancel"
    error = {"code": "cancelled", "message": "as asked", "retryable": False}
    await api.call_back(job, "done", {"status": "failed", "error": error})
    assert (await until(api, job, "running"))["cancel_requested"]
    cluster.exit(name, 0)

    await until(api, job, "cancelled", "cancelled")
    assert cluster.asked("delete", "jobs") == []


async def test_a_trainer_that_does_not_obey_is_deleted_and_over_when_its_pod_is_gone(
    api: Api, cluster: Cluster
) -> None:
    job, name = await a_running_job(api, cluster)
    await cancel(api, job)

    await until_said(api, job, "terminating")
    assert cluster.job(name)["metadata"]["deletionTimestamp"]
    await until(api, job, "running")
    cluster.exit(name, 143)

    await until(api, job, "cancelled", "cancelled")
    assert (await story(api, job))[-5:] == DELETED
    await eventually(lambda: left(cluster) == [])


async def test_a_cancel_outlasts_an_outage_of_the_cluster(api: Api, cluster: Cluster) -> None:
    job, _ = await a_running_job(api, cluster)
    cluster.exits_on_sigterm = 143
    await cluster.stop()
    await until_said(api, job, "health_changed")

    await cancel(api, job)
    await until_said(api, job, "stop_requested")
    assert (await until(api, job, "running"))["health"]["verdict"] == "unreachable"
    await cluster.restart()

    await until(api, job, "cancelled", "cancelled")
    assert left(cluster) == []


async def test_an_answer_to_the_deletion_that_is_lost_changes_nothing(
    api: Api, cluster: Cluster
) -> None:
    job, _ = await a_running_job(api, cluster)
    cluster.exits_on_sigterm = 143
    cluster.faults.lose_answer(method="DELETE", path="jobs")

    await cancel(api, job)

    await until(api, job, "cancelled", "cancelled")
    assert left(cluster) == []


async def test_a_job_that_took_the_name_is_not_deleted(api: Api, cluster: Cluster) -> None:
    job, name = await a_running_job(api, cluster)
    cluster.exits_on_sigterm = 143
    await cancel(api, job)
    cluster.delete_job(name, "Background")
    other = cluster.add_job(job_body(name))

    await until(api, job, "cancelled", "cancelled")
    assert cluster.job(name)["metadata"]["uid"] == other["metadata"]["uid"]
    assert is_there(cluster, job)


async def test_success_that_was_under_way_wins_over_a_cancel(api: Api, cluster: Cluster) -> None:
    job, name = await a_running_job(api, cluster)

    await cancel(api, job)
    await api.call_back(job, "done", {"status": "succeeded"})
    cluster.exit(name, 0)

    await until(api, job, "succeeded", "done")
    explained = (await api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert [one["verdict"] for one in explained["conflicts"]] == ["succeeded"]


async def test_what_is_given_up_while_it_waits_is_gone_before_it_failed(
    api: Api, cluster: Cluster
) -> None:
    job, name = await a_waiting_job(api)

    cluster.pull_fails(name, "InvalidImageName")

    shown = await until(api, job, "failed", "invalid_image_name")
    assert "invalid reference format" in shown["reason"]["message"]
    assert left(cluster) == []
    told = [line for line in await story(api, job) if line != "terminating:deletion_sent"]
    assert told[-4:] == [
        "stop_requested:invalid_image_name",
        "exited",
        "attempt_failed:invalid_image_name",
        "failed:invalid_image_name",
    ]


async def test_the_next_attempt_waits_for_the_pod_of_the_one_before(
    api: Api, cluster: Cluster
) -> None:
    job, name = await a_running_job(api, cluster)
    error = {"code": "oom", "message": "CUDA out of memory", "retryable": True}

    await api.call_back(job, "done", {"status": "failed", "error": error})
    shown = await until(api, job, "queued", "retry_scheduled")
    assert shown["attempt"] == 2
    assert len(cluster.asked("create", "jobs")) == 1
    cluster.exit(name, 1)

    await until(api, job, "queued", "scheduling")
    assert cluster.job(f"{name}-2")["metadata"]["labels"]["job-id"] == str(job["id"])


async def test_a_job_deleted_by_hand_is_told_and_tried_again(api: Api, cluster: Cluster) -> None:
    job, name = await a_running_job(api, cluster)
    cluster.exits_on_sigterm = 143

    cluster.delete_job(name, "Foreground")

    failed = (await until_said(api, job, "attempt_failed"))[0]["data"]
    assert (failed["reason"], failed["failure_class"]) == ("job_vanished", "retryable")
    assert "not by us" in failed["message"]


async def test_a_job_that_is_held_by_a_finalizer_is_cancelled_with_its_pod(
    api: Api, cluster: Cluster
) -> None:
    job, name = await a_running_job(api, cluster)
    cluster.exits_on_sigterm = 143
    meta = cluster.job(name)["metadata"]
    held = {**meta, "finalizers": ["example.com/keep"]}
    cluster.store.update(JOBS, cluster.namespace, name, lambda body: body["metadata"].update(held))
    cluster.delete_job(name, "Background")
    await until_said(api, job, "terminating")

    await cancel(api, job)

    await until(api, job, "cancelled", "cancelled")
    assert is_there(cluster, job)
    assert cluster.pods(name) == []


async def test_a_suspended_training_is_queued_and_runs_again(api: Api, cluster: Cluster) -> None:
    job, name = await a_running_job(api, cluster)
    cluster.exits_on_sigterm = 143

    cluster.suspend(name)
    await until(api, job, "queued", "suspended")
    cluster.resume(name)
    await until(api, job, "queued", "scheduling")
    cluster.schedule(name)
    cluster.start(name)

    shown = await until(api, job, "running", "seen_alive")
    assert (shown["attempt"], shown["retry_count"], shown["interruptions"]) == (1, 0, 0)
