"""The fake cluster with real processes for containers, and a clock for its deadlines."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest_asyncio

from tests.cluster.clients import Kube
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import Kubelet, kubelet_of
from tests.cluster.objects import JOBS, is_finished, is_true
from tests.cluster.timekeeper import time_passes
from tests.polling import eventually

TOKEN = {
    "name": "CALLBACK_TOKEN",
    "valueFrom": {"secretKeyRef": {"name": "callback-token-1", "key": "token"}},
}
STUBBORN = """
import signal, time
signal.signal(15, signal.SIG_IGN)
print("up", flush=True)
"""
OBEDIENT = """
import signal, sys, time
signal.signal(15, lambda *_: sys.exit(7))
print("up", flush=True)
"""
SLEEP = "time.sleep(60)\n"


@pytest_asyncio.fixture
async def kubelet(cluster: Cluster) -> AsyncIterator[Kubelet]:
    async with kubelet_of(cluster, speed=20) as kubelet:
        yield kubelet


def python(script: str, *, env: list[Any] | None = None) -> Any:
    return {"command": [sys.executable, "-c", script], "env": env or []}


async def finished(cluster: Cluster) -> Any:
    await eventually(lambda: is_finished(cluster.job("train-1")))
    return cluster.job("train-1")


def ended(cluster: Cluster) -> Any:
    return cluster.pod("train-1")["status"]["containerStatuses"][0]["state"]["terminated"]


async def test_a_command_runs_and_its_exit_ends_the_job(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    env = [{"name": "WHO", "value": "you"}, {"name": "TEXT", "value": "hello $(WHO)"}]
    await kube.create_job(container=python("import os; print(os.environ['TEXT'])", env=env))
    job = await finished(cluster)

    assert is_true(job, "Complete")
    name = cluster.pod("train-1")["metadata"]["name"]
    assert await kube.core.read_namespaced_pod_log(name, kube.namespace) == "hello you\n"


async def test_a_failure_tells_its_last_words(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    container = python("import sys; sys.exit('no data set')")
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    await kube.create_job(container=container)
    await finished(cluster)
    assert (ended(cluster)["exitCode"], ended(cluster)["message"]) == (1, "no data set\n")


async def test_a_container_waits_for_its_secret(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    script = "import os; print(os.environ['CALLBACK_TOKEN'])"
    await kube.create_job(container=python(script, env=[TOKEN]))

    def waiting() -> Any:
        (status,) = cluster.pod("train-1")["status"].get("containerStatuses", [{"state": {}}])
        return status["state"].get("waiting", {})

    await eventually(lambda: waiting().get("reason") == "CreateContainerConfigError")
    assert waiting()["message"] == 'secret "callback-token-1" not found'
    secret = {"metadata": {"name": "callback-token-1"}, "stringData": {"token": "made up"}}
    await kube.core.create_namespaced_secret(kube.namespace, secret)

    await finished(cluster)
    name = cluster.pod("train-1")["metadata"]["name"]
    assert await kube.core.read_namespaced_pod_log(name, kube.namespace) == "made up\n"


async def test_a_deleted_pod_is_asked_to_stop(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    await kube.create_job(
        container=python(OBEDIENT + SLEEP), pod={"terminationGracePeriodSeconds": 600}
    )
    await eventually(lambda: b"up" in b"".join(cluster.logs.values()))
    deleted: list[Any] = []
    cluster.store.listeners.append(deleted.append)
    cluster.drain("train-1", code=None)

    await finished(cluster)
    codes = [
        state["state"]["terminated"]["exitCode"]
        for change in deleted
        for state in change.entry.body.get("status", {}).get("containerStatuses", [])
        if "terminated" in state["state"]
    ]
    assert set(codes) == {7}
    assert cluster.pods("train-1") == []


async def test_a_process_that_does_not_stop_is_killed(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    await kube.create_job(container=python(STUBBORN + SLEEP))
    await eventually(lambda: b"up" in b"".join(cluster.logs.values()))
    pod = cluster.pod("train-1")
    pid = kubelet.pid_of(pod)
    assert pid is not None
    await kube.batch.delete_namespaced_job(
        "train-1", kube.namespace, propagation_policy="Foreground"
    )
    assert cluster.job("train-1")["metadata"]["finalizers"] == ["foregroundDeletion"]

    await eventually(lambda: cluster.store.find(JOBS, kube.namespace, "train-1") is None)
    assert not psutil.pid_exists(pid)


async def test_a_command_that_is_not_there_cannot_start(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    await kube.create_job(container={"command": ["no-such-program"]})
    await finished(cluster)
    assert (ended(cluster)["exitCode"], ended(cluster)["reason"]) == (128, "StartError")


async def test_nobody_hears_of_an_exit_on_a_lost_node(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    await kube.create_job(container=python("import time\n" + SLEEP))
    await eventually(lambda: kubelet.pid_of(cluster.pod("train-1")) is not None)
    pid = kubelet.pid_of(cluster.pod("train-1"))
    assert pid is not None
    cluster.lose_node("node-1")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(pid))
    assert cluster.pod("train-1")["status"]["phase"] == "Running"

    cluster.return_node("node-1")
    assert is_true(await finished(cluster), "Failed")
    assert ended(cluster)["exitCode"] == 137


async def test_what_a_command_leaves_behind_goes_with_it(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    script = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    await kube.create_job(container=python(script))
    assert is_true(await finished(cluster), "Complete")
    (log,) = cluster.logs.values()
    await eventually(lambda: not psutil.pid_exists(int(log)) or is_dead(int(log)))


def is_dead(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_no_process_outlives_the_kubelet(cluster: Cluster, kube: Kube) -> None:
    async with kubelet_of(cluster) as kubelet:
        await kube.create_job(container=python("import time\n" + SLEEP))
        await eventually(lambda: kubelet.pid_of(cluster.pod("train-1")) is not None)
        pid = kubelet.pid_of(cluster.pod("train-1"))
        assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_a_deadline_passes_and_the_job_is_removed(
    cluster: Cluster, kube: Kube, kubelet: Kubelet
) -> None:
    spec = {"activeDeadlineSeconds": 30, "ttlSecondsAfterFinished": 100}
    with time_passes(cluster, speed=100):
        await kube.create_job(container=python(OBEDIENT + SLEEP), spec=spec)
        job = await finished(cluster)
        reasons = {one["reason"] for one in job["status"]["conditions"]}
        assert reasons == {"DeadlineExceeded"}
        await eventually(lambda: cluster.store.find(JOBS, kube.namespace, "train-1") is None)
