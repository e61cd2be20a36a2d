"""What nodes and their kubelets do seldom, and what whoever is on call would say of it."""

from __future__ import annotations

from tests.scenarios.row import (
    AGAIN,
    MADE,
    RETRY,
    RUNS,
    SUCCESS,
    TRAINS,
    UNSEEN,
    WAITS,
    Table,
    runs,
)
from tests.scenarios.world import World

KUBELETS = Table()
row = KUBELETS.row
NEXT = {**WAITS, "reason": "scheduling"}
"""The next attempt waits for its node."""
SIDECAR = {
    "pod": {
        "containers": [
            {"name": "istio-proxy", "image": "istio:1"},
            {"name": "trainer", "image": "trainer:1"},
        ]
    }
}
"""A container that a mesh adds, and that does not end with the trainer."""


# Nodes


@row(
    "the pod of a silent node is deleted by force",
    events=f"{RUNS} terminating:pod_deleting exited:node_lost"
    " attempt_failed:node_lost:interruption retry_scheduled",
    says="Its node was silent",
    **RETRY,
    attempts=(2, 0, 1),
    differs={"away": UNSEEN, "restart": UNSEEN},
)
def a_pod_on_a_silent_node_is_deleted_by_force(w: World) -> None:
    runs(w)
    w.lose_node("node-1")
    w.later(120)
    w.delete_pod(grace=0)
    w.later(20)


@row(
    "somebody taints a node that answers",
    events=f"{RUNS} terminating:node_lost exited:node_lost attempt_failed:node_lost:interruption"
    " retry_scheduled",
    says="The pod was evicted by a taint of its node",
    **RETRY,
    attempts=(2, 0, 1),
    differs={"away": UNSEEN},
)
def a_taint_is_told_as_a_taint(w: World) -> None:
    runs(w)
    w.taint_node("node-1")
    w.later(3)
    w.exit(143)
    w.later(20)


@row(
    "a pod that fails its readiness probe and does not end",
    events=f"{RUNS} terminating:pod_deleting exited:stuck_terminating"
    f" attempt_failed:stuck_terminating:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def an_unready_pod_is_not_on_a_lost_node(w: World) -> None:
    runs(w)
    w.fails_its_probe()
    w.delete_pod()
    w.later(300)


@row(
    "a node starts anew and does not find the container",
    events=f"{RUNS} exited:node_lost attempt_failed:node_lost:interruption retry_scheduled",
    says="The node lost the pod's container, as when it starts anew (node node-1)",
    **RETRY,
    attempts=(2, 0, 1),
)
def a_node_starts_anew_and_has_lost_the_container(w: World) -> None:
    runs(w)
    w.not_located()
    w.later(20)


@row(
    "a node starts anew, and its runtime says 255",
    events=f"{RUNS} exited:node_lost attempt_failed:node_lost:interruption retry_scheduled",
    **RETRY,
    attempts=(2, 0, 1),
)
def a_node_starts_anew_and_its_runtime_does_not_know(w: World) -> None:
    runs(w)
    w.exit(255, reason="Unknown")
    w.later(20)


@row(
    "exit code 255 by the trainer itself",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    **RETRY,
)
def exit_255_is_the_trainers_own(w: World) -> None:
    runs(w)
    w.exit(255)
    w.later(20)


@row(
    "a pod's node is deleted before its container runs",
    events=f"{MADE} terminating:node_lost exited:node_lost"
    f" attempt_failed:node_lost:interruption retry_scheduled {AGAIN}",
    **NEXT,
    attempts=(2, 0, 1),
    differs={"away": UNSEEN},
)
def a_node_is_deleted_while_the_pod_is_made(w: World) -> None:
    w.creating()
    w.lose_node("node-1")
    w.later(100)
    w.remove_node("node-1")
    w.later(60)


@row("an older control plane's word for a silent node", events=RUNS, **TRAINS)
def a_pod_in_phase_unknown_comes_back(w: World) -> None:
    runs(w)
    w.pod_says("Unknown", "NodeLost")
    w.later(100)
    w.pod_says("Running")
    w.heartbeat(epoch=2)
    w.later(30)


@row(
    "the topology manager of a node has no place for the GPU",
    events=f"{MADE} exited:admission_refused attempt_failed:admission_refused:interruption"
    " retry_scheduled",
    says="Topology locality",
    **RETRY,
    attempts=(2, 0, 1),
)
def a_node_without_the_topology_refuses_the_pod(w: World) -> None:
    w.admission_error(
        "TopologyAffinityError", "Resources cannot be allocated with Topology locality"
    )
    w.later(20)


@row(
    "a node shuts down as the pod comes to it",
    events=f"{MADE} exited:node_shutdown attempt_failed:node_shutdown:interruption retry_scheduled",
    **RETRY,
)
def a_node_that_shuts_down_takes_no_pod(w: World) -> None:
    w.admission_error("NodeShutdown", "Pod was rejected as the node is shutting down.")
    w.later(20)


@row(
    "evicted for what it wrote to its own disk",
    events=f"{RUNS} exited:evicted attempt_failed:evicted:interruption retry_scheduled",
    says="exceeds the total limit of containers 10Gi",
    **RETRY,
)
def a_pod_over_its_own_limit_of_storage_is_evicted(w: World) -> None:
    runs(w)
    w.ends_for_its_own_fault(
        "Evicted",
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi.",
    )
    w.later(20)


@row(
    "preempted, with minutes to end",
    events=f"{RUNS} terminating:preempted exited:preempted attempt_failed:preempted:interruption"
    f" retry_scheduled {AGAIN}",
    **NEXT,
    body={"pod": {"terminationGracePeriodSeconds": 600}},
    differs={"away": UNSEEN},
)
def a_preempted_pod_uses_its_grace(w: World) -> None:
    runs(w)
    w.preempt(code=None)
    for epoch in range(2, 7):
        w.later(100)
        assert w.log.status == "running"
        w.heartbeat(epoch=epoch)
    w.exit(143)
    w.later(60)


@row(
    "preempted before it ran",
    events=f"{MADE} terminating:preempted exited:preempted attempt_failed:preempted:interruption"
    f" retry_scheduled {AGAIN}",
    **NEXT,
    attempts=(2, 0, 1),
    differs={"away": UNSEEN},
)
def a_pod_is_preempted_while_it_is_made(w: World) -> None:
    w.creating()
    w.preempt(code=None)
    w.later(60)


# Containers


@row(
    "a trainer fails and a sidecar keeps its pod running",
    events=f"{RUNS} terminating:exit_nonzero stop_requested:exit_nonzero exited:pod_deleted"
    f" attempt_failed:exit_nonzero:retryable retry_scheduled {AGAIN}",
    **NEXT,
    attempts=(2, 1, 0),
    body=SIDECAR,
)
def a_sidecar_does_not_hide_the_trainers_failure(w: World) -> None:
    runs(w)
    w.container_ends("trainer", exitCode=1, reason="Error")
    w.later(130)
    w.exit(143)
    w.later(60)


@row(
    "a trainer out of memory beside a sidecar",
    events=f"{RUNS} terminating:oom_killed stop_requested:oom_killed exited:oom_killed"
    " attempt_failed:oom_killed:retryable failed:oom_killed",
    status="failed",
    reason="oom_killed",
    rule="retries_spent",
    because="stop_requested exited attempt_failed failed",
    says="OOMKilled (node node-1): exit code 137. Other containers of the pod run on.",
    retries=0,
    body=SIDECAR,
)
def a_sidecar_does_not_hide_that_memory_was_short(w: World) -> None:
    runs(w)
    w.container_ends("trainer", exitCode=137, reason="OOMKilled")
    w.later(130)
    w.exit(0)
    w.later(60)


@row(
    "a trainer ends without a word, and a sidecar runs on",
    events=f"{RUNS} terminating:trainer_ended stop_requested:exited_without_result"
    " terminating:deletion_sent exited:pod_deleted"
    " attempt_failed:exited_without_result:retryable retry_scheduled"
    f" {AGAIN}",
    **NEXT,
    body=SIDECAR,
)
def a_trainer_ends_without_a_word_beside_a_sidecar(w: World) -> None:
    runs(w)
    w.container_ends("trainer", exitCode=0, reason="Completed")
    w.later(130)
    w.exit(143)
    w.later(170)


@row(
    "a trainer succeeds, and a sidecar runs on",
    events=f"{RUNS} done succeeded exited:pod_deleted",
    **SUCCESS,
    body=SIDECAR,
)
def a_sidecar_that_runs_on_is_ended_with_its_pod(w: World) -> None:
    runs(w)
    w.done()
    w.container_ends("trainer", exitCode=0, reason="Completed")
    w.later(60)
    w.exit(143)
    w.later(20)


@row(
    "a trainer fails, and its sidecar ends after it",
    events=f"{RUNS} terminating:exit_nonzero exited:exit_nonzero"
    " attempt_failed:exit_nonzero:retryable retry_scheduled",
    says="The container ended with exit code 3",
    **RETRY,
    body=SIDECAR,
    differs={"away": UNSEEN},
)
def a_sidecar_ends_after_its_trainer(w: World) -> None:
    runs(w)
    w.container_ends("trainer", exitCode=3, reason="Error")
    w.later(10)
    w.exit(137)
    w.later(20)


@row(
    "one of the trainer's processes was killed for memory, and the trainer gave up",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    says="exit code 1, after one of its processes was OOMKilled",
    **RETRY,
)
def a_child_is_out_of_memory(w: World) -> None:
    runs(w)
    w.exit(1, reason="OOMKilled")
    w.later(20)


@row(
    "137, and no word of memory",
    events=f"{RUNS} exited:killed attempt_failed:killed:retryable retry_scheduled",
    says="The container was killed (node node-1): exit code 137",
    **RETRY,
)
def a_kill_without_a_reason_is_a_kill(w: World) -> None:
    runs(w)
    w.exit(137)
    w.later(20)


@row(
    "an init container fails",
    events=f"{MADE} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    says="Container fetch ended with exit code 4 (node node-1): no such bucket",
    **RETRY,
    body={"pod": {"initContainers": [{"name": "fetch"}]}},
)
def an_init_container_fails(w: World) -> None:
    w.waits("PodInitializing")
    w.container_ends(
        "fetch",
        kind="initContainerStatuses",
        phase="Failed",
        exitCode=4,
        reason="Error",
        message="no such bucket",
    )
    w.later(20)


@row(
    "a pod is deleted while its image is pulled, and its kubelet makes an end up",
    events=f"{MADE} queued:image_pull_backoff terminating:pod_deleting exited:pod_deleted"
    " attempt_failed:pod_deleted:retryable retry_scheduled",
    says="The pod was deleted and nobody knows how its container ended, or whether it ran",
    **RETRY,
    differs={"away": UNSEEN},
)
def a_pod_deleted_before_it_ran_has_no_exit_code(w: World) -> None:
    w.pull_fails("ImagePullBackOff")
    w.held(lambda: w.cluster.delete_pod(w.name), lambda: w.cluster.not_located(w.name))
    assert w.log.state.exit is None or w.log.state.exit.exit_code is None
    w.later(20)


@row(
    "the pod's own deadline",
    events=f"{RUNS} exited:deadline_exceeded attempt_failed:deadline_exceeded:retryable"
    " retry_scheduled",
    says="longer than the specified deadline",
    **RETRY,
)
def a_pod_has_a_deadline_of_its_own(w: World) -> None:
    runs(w)
    w.ends_for_its_own_fault(
        "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
    )
    w.later(20)
