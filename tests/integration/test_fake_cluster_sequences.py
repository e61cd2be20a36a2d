"""The streams of the fake cluster, event for event as a real control plane was recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.clients import Kube, Streams, watching
from tests.cluster.cluster import Cluster
from tests.polling import eventually

TRACKED = "finalizer batch.kubernetes.io/job-tracking"
RELEASED = "MODIFIED: no batch.kubernetes.io/job-tracking"
BACKOFF = "BackoffLimitExceeded Job has reached the specified backoff limit"
DEADLINE = "DeadlineExceeded Job was active longer than specified deadline"
FAILING = f"uncounted failed 1, FailureTarget True {BACKOFF}"
REACHED = "CompletionsReached Reached expected number of succeeded pods"

JOB_STARTS = ["ADDED", "MODIFIED: active 1, ready 0, terminating 0, startTime"]
JOB_RUNS = [*JOB_STARTS, "MODIFIED: ready 1"]
JOB_FAILS = [
    f"MODIFIED: no active, ready 0, uncounted failed 1, FailureTarget True {BACKOFF}",
    f"MODIFIED: no uncounted failed, failed 1, Failed True {BACKOFF}",
]
JOB_COMPLETES = [
    f"MODIFIED: no active, ready 0, uncounted succeeded 1, SuccessCriteriaMet True {REACHED}",
    f"MODIFIED: no uncounted succeeded, succeeded 1, completionTime, Complete True {REACHED}",
]
POD_CREATED = [
    f"ADDED: {TRACKED}, Pending",
    "MODIFIED: bound, PodScheduled True",
    "MODIFIED: waiting ContainerCreating",
]
POD_RUNS = [
    *POD_CREATED,
    (
        "MODIFIED: Running, running, PodReadyToStartContainers True, Initialized True, "
        "ContainersReady True, Ready True"
    ),
]
NOT_READY = "ContainersReady False, Ready False"


@pytest_asyncio.fixture
async def streams(kube: Kube) -> AsyncIterator[Streams]:
    async with watching(kube) as streams:
        yield streams


async def seen(streams: Streams, jobs: list[str], pods: list[str]) -> None:
    """Wait until so much has come; it must be exactly this."""
    await eventually(
        lambda: len(streams.jobs()) >= len(jobs) and len(streams.pods()) >= len(pods), within=5
    )
    assert streams.jobs() == jobs
    assert streams.pods() == pods


async def test_a_success(cluster: Cluster, kube: Kube, streams: Streams) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.exit("train-1", 0)

    ended = f"MODIFIED: Succeeded, terminated 0 Completed, {NOT_READY}"
    await seen(streams, [*JOB_RUNS, *JOB_COMPLETES], [*POD_RUNS, ended, RELEASED])


@pytest.mark.parametrize(
    ("code", "reason", "shown"),
    [
        (1, "", "1 Error"),
        (137, "OOMKilled", "137 OOMKilled"),
        (128, "StartError", "128 StartError"),
    ],
)
async def test_a_container_that_fails(
    cluster: Cluster, kube: Kube, streams: Streams, code: int, reason: str, shown: str
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.exit("train-1", code, reason=reason)

    ended = f"MODIFIED: Failed, terminated {shown}, {NOT_READY}"
    await seen(streams, [*JOB_RUNS, *JOB_FAILS], [*POD_RUNS, ended, RELEASED])


async def test_an_eviction_by_the_kubelet(cluster: Cluster, kube: Kube, streams: Streams) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.evict("train-1")

    low = "The node was low on resource: memory."
    ended = (
        f"MODIFIED: Failed, terminated 137 Error, {NOT_READY}, reason Evicted, message {low}, "
        f"DisruptionTarget True TerminationByKubelet {low}"
    )
    await seen(streams, [*JOB_RUNS, *JOB_FAILS], [*POD_RUNS, ended, RELEASED])


async def test_a_drain_deletes_the_pod_before_the_job_fails(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.drain("train-1")

    going = [
        "MODIFIED: DisruptionTarget True EvictionByEvictionAPI Eviction API: evicting",
        "MODIFIED: deleted with grace 5",
        f"MODIFIED: Failed, terminated 143 Error, {NOT_READY}",
        "MODIFIED: deleted with grace 0",
        "DELETED",
    ]
    await seen(streams, [*JOB_RUNS, *JOB_FAILS], [*POD_RUNS, *going])
    gone = streams.events["pods"][-1][1]["metadata"]["resourceVersion"]
    failed = streams.events["jobs"][-1][1]["metadata"]["resourceVersion"]
    assert int(gone) < int(failed)


async def test_a_pod_that_exits_0_when_told_to_stop_completes_its_job(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.drain("train-1", code=0)

    await eventually(lambda: streams.jobs() == [*JOB_RUNS, *JOB_COMPLETES], within=5)


async def test_a_failure_is_announced_while_the_container_still_stops(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.drain("train-1", code=None)
    announced = [
        f"MODIFIED: no active, ready 0, terminating 1, {FAILING}",
        "MODIFIED: no uncounted failed, failed 1",
    ]
    await eventually(lambda: streams.jobs() == [*JOB_RUNS, *announced], within=5)
    assert cluster.pod("train-1")["status"]["phase"] == "Running"

    cluster.exit("train-1", 0)
    last = ["MODIFIED: terminating 0", f"MODIFIED: Failed True {BACKOFF}"]
    await eventually(lambda: streams.jobs() == [*JOB_RUNS, *announced, *last], within=5)


async def test_an_unschedulable_pod_that_is_deleted(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.unschedulable("train-1", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    cluster.delete_pod("train-1")

    why = "Unschedulable 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    jobs = [
        f"MODIFIED: no active, terminating 1, uncounted failed 1, FailureTarget True {BACKOFF}",
        "MODIFIED: no uncounted failed, failed 1",
        "MODIFIED: terminating 0",
        f"MODIFIED: Failed True {BACKOFF}",
    ]
    pods = [
        f"ADDED: {TRACKED}, Pending",
        f"MODIFIED: PodScheduled False {why}",
        "MODIFIED: deleted with grace 0",
        "DELETED",
    ]
    await seen(streams, [*JOB_STARTS, *jobs], pods)


async def test_a_deadline_that_passes_while_the_pod_is_pending(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.creating("train-1")
    cluster.expire_deadline("train-1")

    jobs = [
        f"MODIFIED: no active, terminating 1, uncounted failed 1, FailureTarget True {DEADLINE}",
        "MODIFIED: no uncounted failed, failed 1",
        "MODIFIED: terminating 0",
        f"MODIFIED: Failed True {DEADLINE}",
    ]
    pods = ["MODIFIED: deleted with grace 5", "MODIFIED: deleted with grace 0", "DELETED"]
    await seen(streams, [*JOB_STARTS, *jobs], [*POD_CREATED, *pods])


async def test_a_deletion_in_the_background_takes_the_job_first(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.pull_fails("train-1")
    cluster.pull_fails("train-1", "ImagePullBackOff")
    await kube.batch.delete_namespaced_job(
        "train-1", kube.namespace, propagation_policy="Background"
    )

    pods = [
        'MODIFIED: waiting ErrImagePull failed to pull and unpack image "trainer:1": not found',
        'MODIFIED: waiting ImagePullBackOff Back-off pulling image "trainer:1"',
        RELEASED,
        "MODIFIED: deleted with grace 5",
        "MODIFIED: deleted with grace 0",
        "DELETED",
    ]
    await seen(streams, [*JOB_STARTS, "DELETED"], [*POD_CREATED, *pods])


async def test_a_late_secret_and_the_time_to_live(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    token = {"name": "CALLBACK_TOKEN", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k"}}}
    await kube.create_job(container={"env": [token]})
    cluster.config_error("train-1")
    cluster.start("train-1")
    cluster.exit("train-1", 0)
    cluster.expire_ttl("train-1")

    jobs = ["MODIFIED: deleted with grace 0, finalizer foregroundDeletion", "DELETED"]
    pods = [
        *POD_CREATED,
        'MODIFIED: waiting CreateContainerConfigError secret "t" not found',
        POD_RUNS[-1],
        f"MODIFIED: Succeeded, terminated 0 Completed, {NOT_READY}",
        RELEASED,
        "MODIFIED: deleted with grace 0",
        "DELETED",
    ]
    await seen(streams, [*JOB_RUNS, *JOB_COMPLETES, *jobs], pods)


async def test_a_quota_keeps_the_job_without_a_pod(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    cluster.quota_blocks()
    await kube.create_job()
    await eventually(
        lambda: streams.jobs() == ["ADDED", "MODIFIED: ready 0, terminating 0, startTime"], within=5
    )
    (said,) = (await kube.core.list_namespaced_event(kube.namespace)).items
    assert said.reason == "FailedCreate"
    assert said.message.startswith('Error creating: pods "train-1-')
    assert "is forbidden: exceeded quota: training, requested: pods=1" in said.message

    cluster.quota_frees()
    cluster.start("train-1")
    assert cluster.job("train-1")["status"]["active"] == 1


async def test_a_suspension_stops_the_pod_and_fails_nothing(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    first = cluster.pod("train-1")
    cluster.suspend("train-1")
    cluster.exit(first, 143)
    suspended = [
        "MODIFIED",
        (
            "MODIFIED: no active, ready 0, terminating 1, no startTime, "
            "Suspended True JobSuspended Job suspended"
        ),
        "MODIFIED: terminating 0",
    ]
    await eventually(lambda: streams.jobs() == [*JOB_RUNS, *suspended], within=5)
    assert cluster.pods("train-1") == []

    cluster.resume("train-1")
    resumed = ["MODIFIED", "MODIFIED: Suspended False JobResumed Job resumed, active 1, startTime"]
    await eventually(lambda: streams.jobs() == [*JOB_RUNS, *suspended, *resumed], within=5)


async def test_a_lost_node_withholds_the_failure_until_its_pod_is_forced_away(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.lose_node("node-1")
    assert cluster.pod("train-1")["status"]["phase"] == "Running"
    cluster.taint_node("node-1")

    announced = [
        "MODIFIED: ready 0",
        f"MODIFIED: no active, terminating 1, {FAILING}",
        "MODIFIED: no uncounted failed, failed 1",
    ]
    lost = [
        "MODIFIED: Ready False",
        (
            "MODIFIED: DisruptionTarget True DeletionByTaintManager "
            "Taint manager: deleting due to NoExecute taint"
        ),
        "MODIFIED: deleted with grace 5",
        RELEASED,
    ]
    await seen(streams, [*JOB_RUNS, *announced], [*POD_RUNS, *lost])

    cluster.delete_pod("train-1", grace=0)
    await eventually(lambda: streams.jobs()[-1:] == [f"MODIFIED: Failed True {BACKOFF}"], within=5)


async def test_a_removed_node_gives_its_pods_up(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.lose_node("node-1")
    cluster.remove_node("node-1")

    await eventually(lambda: streams.pods()[-1:] == ["DELETED"], within=5)
    _, last = streams.events["pods"][-1]
    assert last["status"]["phase"] == "Failed"
    assert last["status"]["conditions"][-1]["reason"] == "DeletionByPodGC"
    await eventually(
        lambda: "".join(streams.jobs()[-1:]).endswith(f"Failed True {BACKOFF}"), within=5
    )


async def test_a_pod_that_its_node_rejects_has_no_containers(
    cluster: Cluster, kube: Kube, streams: Streams
) -> None:
    await kube.create_job()
    cluster.admission_error("train-1")

    await eventually(lambda: len(streams.jobs()) == 4, within=5)
    (pod,) = (await kube.core.list_namespaced_pod(kube.namespace)).items
    assert pod.status.phase == "Failed"
    assert pod.status.reason == "UnexpectedAdmissionError"
    assert pod.status.container_statuses is None


async def test_a_preemption_is_said_by_the_scheduler(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.preempt("train-1")

    job = await kube.read_job()
    assert [one.type for one in job.status.conditions] == ["FailureTarget", "Failed"]
    events = (await kube.core.list_namespaced_event(kube.namespace)).items
    (preempted,) = [one for one in events if one.reason == "Preempted"]
    assert preempted.count is None
    assert preempted.event_time is not None


async def test_controllers_can_be_taken_one_write_at_a_time(cluster: Cluster, kube: Kube) -> None:
    cluster.paused = True
    await kube.create_job()
    assert cluster.job("train-1")["status"] == {}
    assert cluster.step()
    assert cluster.pods("train-1")
    assert cluster.job("train-1")["status"] == {}
    assert cluster.step()
    assert cluster.job("train-1")["status"]["active"] == 1
    assert not cluster.step()


async def test_the_other_replacement_policy_waits_for_the_real_exit(
    cluster: Cluster, kube: Kube
) -> None:
    await kube.create_job(spec={"podReplacementPolicy": "Failed"})
    cluster.start("train-1")
    cluster.drain("train-1", code=None)
    assert "conditions" not in cluster.job("train-1")["status"]

    cluster.exit("train-1", 0)
    kinds = [one["type"] for one in cluster.job("train-1")["status"]["conditions"]]
    assert kinds == ["SuccessCriteriaMet", "Complete"]


async def test_a_job_that_may_retry_gets_another_pod(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job(spec={"backoffLimit": 1})
    cluster.start("train-1")
    first = cluster.exit("train-1", 1)
    assert len(cluster.pods("train-1")) == 2
    assert "conditions" not in cluster.job("train-1")["status"]
    assert cluster.pod("train-1")["metadata"]["uid"] != first["metadata"]["uid"]

    cluster.start("train-1")
    cluster.exit("train-1", 0)
    status = cluster.job("train-1")["status"]
    assert (status["failed"], status["succeeded"]) == (1, 1)
    assert status["conditions"][-1]["type"] == "Complete"


async def test_a_job_that_begins_suspended_has_no_pod(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job(spec={"suspend": True})
    job = cluster.job("train-1")
    assert [one["type"] for one in job["status"]["conditions"]] == ["Suspended"]
    assert "startTime" not in job["status"]
    patch = {"spec": {"suspend": False}}
    await kube.batch.patch_namespaced_job("train-1", kube.namespace, patch)
    assert cluster.job("train-1")["status"]["active"] == 1
    assert cluster.job("train-1")["metadata"]["generation"] == 2


async def test_a_name_made_again_is_another_job(cluster: Cluster, kube: Kube) -> None:
    first = await kube.create_job()
    cluster.start("train-1")
    old = cluster.pod("train-1")
    cluster.delete_job("train-1")
    second = await kube.create_job()

    assert first.metadata.uid != second.metadata.uid
    (mine,) = cluster.pods("train-1")
    assert mine["metadata"]["uid"] != old["metadata"]["uid"]
    labels = await kube.core.list_namespaced_pod(kube.namespace, label_selector="job-id=1")
    assert len(labels.items) == 2
    cluster.exit(old, 0)
    assert "conditions" not in cluster.job("train-1")["status"]


async def test_a_threat_may_pass(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.threaten("train-1")
    cluster.spare("train-1")
    (target,) = (
        one
        for one in cluster.pod("train-1")["status"]["conditions"]
        if one["type"] == "DisruptionTarget"
    )
    assert target["status"] == "False"
    assert "conditions" not in cluster.job("train-1")["status"]


async def test_a_node_that_shuts_down_ends_its_pods(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.shut_down_node("node-1")
    status = cluster.pod("train-1")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Terminated")


async def test_a_node_that_returns_in_time_loses_nothing(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.lose_node("node-1")
    cluster.return_node("node-1")
    assert cluster.job("train-1")["status"]["ready"] == 1


async def test_a_node_that_returns_too_late_ends_its_deleted_pods(
    cluster: Cluster, kube: Kube
) -> None:
    cluster.exits_on_sigterm = 143
    await kube.create_job()
    cluster.start("train-1")
    cluster.lose_node("node-1")
    cluster.taint_node("node-1")
    assert len(cluster.pods("train-1")) == 1
    cluster.return_node("node-1")
    assert cluster.pods("train-1") == []
    assert cluster.job("train-1")["status"]["conditions"][-1]["type"] == "Failed"


async def test_events_do_not_last(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.forget_events()
    assert (await kube.core.list_namespaced_event(kube.namespace)).items == []
