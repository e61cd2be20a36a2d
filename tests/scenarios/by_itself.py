"""What happens to pods by itself: to their nodes, their containers and their time."""

from __future__ import annotations

from dataclasses import replace

from tests.given import POLICY
from tests.scenarios.row import (
    AGAIN,
    LAUNCHED,
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

BY_ITSELF = Table()
row = BY_ITSELF.row
NEXT = {**WAITS, "reason": "scheduling"}
"""The next attempt waits for its node."""


@row("the usual course", events=f"{RUNS} done succeeded exited:0", **SUCCESS)
def a_training_that_ends_well(w: World) -> None:
    runs(w)
    w.epoch(10)
    w.done()
    w.exit(0)
    w.later(60)


# Nodes


@row("a node is silent and comes back", events=RUNS, **TRAINS)
def a_node_comes_back(w: World) -> None:
    runs(w)
    w.lose_node("node-1")
    w.later(120)
    w.return_node("node-1")
    w.heartbeat(epoch=2)
    w.later(60)


@row(
    "a node is deleted",
    events=f"{RUNS} terminating:node_lost exited:node_lost attempt_failed:node_lost:interruption"
    f" retry_scheduled {AGAIN}",
    **NEXT,
    differs={"away": UNSEEN},
)
def a_node_is_deleted(w: World) -> None:
    runs(w)
    w.lose_node("node-1")
    w.later(120)
    w.remove_node("node-1")
    w.later(60)


@row(
    "every node is silent, so that nothing is evicted",
    events=f"{RUNS} health_changed:silent stop_requested:heartbeat_lost"
    " terminating:deletion_sent exited:node_lost attempt_failed:node_lost:interruption"
    f" retry_scheduled {AGAIN}",
    **NEXT,
    attempts=(2, 0, 1),
)
def a_silent_node_is_found_by_the_missing_heartbeats(w: World) -> None:
    runs(w)
    w.lose_node("node-1")
    w.later(1200)


@row(
    "a node shuts down",
    events=f"{RUNS} terminating:node_shutdown exited:node_shutdown"
    " attempt_failed:node_shutdown:interruption retry_scheduled",
    says="imminent node shutdown",
    **RETRY,
)
def a_node_shuts_down(w: World) -> None:
    runs(w)
    w.shut_down_node("node-1")
    w.later(20)


@row("a threat that passes", events=RUNS, **TRAINS)
def a_pod_is_threatened_and_spared(w: World) -> None:
    runs(w)
    w.threaten()
    w.later(30)
    w.spare()
    w.heartbeat(epoch=2)
    w.later(30)


@row(
    "drained, and the container ends with 0",
    events=f"{RUNS} terminating:drained exited:drained"
    f" attempt_failed:exited_without_result:interruption retry_scheduled {AGAIN}",
    **NEXT,
    attempts=(2, 0, 1),
    differs={"restart": "the exit code went with the pod", "away": UNSEEN},
)
def exit_0_after_sigterm_is_no_success(w: World) -> None:
    runs(w)
    w.drain(code=None)
    w.later(4)
    w.exit(0)
    w.later(200)


@row(
    "drained, and the trainer ends its work in time",
    events=f"{RUNS} terminating:drained done succeeded exited:drained",
    **SUCCESS,
)
def a_drained_trainer_that_finishes_has_succeeded(w: World) -> None:
    runs(w)
    w.drain(code=None)
    w.later(4)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "`done` of an attempt that was given up",
    events=f"{RUNS} terminating:drained exited:drained attempt_failed:drained:interruption"
    f" retry_scheduled done:(stale_attempt) {AGAIN}",
    **NEXT,
    differs={"away": UNSEEN},
)
def done_after_the_attempt_was_lost_comes_too_late(w: World) -> None:
    runs(w)
    w.drain()
    w.later(20)
    w.done(of=1)
    w.later(60)


@row(
    "a pod that does not end",
    events=f"{RUNS} terminating:pod_deleting exited:stuck_terminating"
    f" attempt_failed:stuck_terminating:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def a_pod_that_does_not_end_is_given_up(w: World) -> None:
    runs(w)
    w.delete_pod()
    w.later(300)


@row(
    "a pod that was evicted, and a Job controller that does not say so",
    events=f"{RUNS} terminating:evicted exited:evicted attempt_failed:evicted:interruption"
    " retry_scheduled queued:submitted launched",
    **{**WAITS, "reason": "submitted"},
)
def a_controller_that_stands_still_holds_nobody_for_ever(w: World) -> None:
    runs(w)
    w.cluster.paused = True
    w.evict()
    w.later(200)


# Containers


@row(
    "an init container out of memory",
    events=f"{MADE} exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled",
    says="OOMKilled: container fetch (node node-1): exit code 137, memory limit 1Gi",
    **RETRY,
    body={
        "pod": {"initContainers": [{"name": "fetch", "resources": {"limits": {"memory": "1Gi"}}}]}
    },
)
def an_init_container_is_out_of_memory(w: World) -> None:
    w.waits("PodInitializing")
    w.container_ends(
        "fetch",
        kind="initContainerStatuses",
        phase="Failed",
        exitCode=137,
        reason="OOMKilled",
    )
    w.later(20)


@row(
    "a sidecar out of memory",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_sidecar_is_out_of_memory(w: World) -> None:
    runs(w)
    w.container_ends("logs", exitCode=137, reason="OOMKilled")
    w.later(30)
    w.heartbeat(epoch=2)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "a container that cannot start",
    events=f"{MADE} exited:start_error attempt_failed:start_error:retryable retry_scheduled",
    says="no such file",
    **RETRY,
)
def a_container_cannot_start(w: World) -> None:
    w.creating()
    w.exit(128, reason="StartError", message='exec: "train": no such file')
    w.later(20)


@row(
    "an image that comes in the end",
    events=f"{MADE} queued:image_pull_backoff running",
    **TRAINS,
)
def an_image_comes_in_the_end(w: World) -> None:
    w.pull_fails()
    w.pull_fails("ImagePullBackOff")
    w.later(60)
    w.pull_fails()
    w.pull_fails("ImagePullBackOff")
    w.later(60)
    w.start()
    w.heartbeat(epoch=1)


@row(
    "a Secret that never comes",
    events=f"{MADE} queued:config_error stop_requested:config_error terminating:deletion_sent"
    " exited:None attempt_failed:config_error:fatal failed:config_error",
    status="failed",
    reason="config_error",
    rule="not_retryable",
    because="stop_requested exited attempt_failed failed",
    says='secret "none" not found',
)
def a_secret_never_comes(w: World) -> None:
    w.config_error()
    w.later(200)


@row(
    "the runtime cannot make the container",
    events=f"{MADE} queued:container_error stop_requested:container_error"
    " terminating:deletion_sent exited:None attempt_failed:container_error:retryable"
    f" retry_scheduled {AGAIN}",
    **NEXT,
)
def a_container_cannot_be_made(w: World) -> None:
    w.waits("CreateContainerError", "context deadline exceeded")
    w.later(300)


@row(
    "a pod that never gets out of ContainerCreating",
    events=f"{MADE} stop_requested:start_timeout terminating:deletion_sent exited:None"
    f" attempt_failed:start_timeout:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def a_pod_never_starts(w: World) -> None:
    w.creating()
    w.later(2000)


@row(
    "a pod behind a gate",
    events=f"{LAUNCHED} queued:scheduling_gated",
    reason="scheduling_gated",
    **WAITS,
)
def a_pod_waits_behind_a_gate(w: World) -> None:
    w.unschedulable(
        "Scheduling is blocked due to non-empty scheduling gates", reason="SchedulingGated"
    )
    w.later(4000)


# Time, and attempts


@row(
    "the deadline of a running attempt, whose trainer says terminated",
    events=f"{RUNS} terminating:pod_deleting terminating:deadline_exceeded done"
    " exited:deadline_exceeded attempt_failed:deadline_exceeded:retryable retry_scheduled"
    f" {AGAIN}",
    **NEXT,
    attempts=(2, 1, 0),
)
def a_deadline_is_no_interruption(w: World) -> None:
    runs(w)
    w.expire_deadline()
    w.later(2)
    w.gave_up("terminated")
    w.exit(143)
    w.later(60)


@row(
    "ended by a signal that no cluster knows of",
    events=f"{RUNS} done exited:exit_nonzero attempt_failed:terminated:interruption"
    f" retry_scheduled {AGAIN}",
    **NEXT,
    attempts=(2, 0, 1),
)
def a_trainer_ended_by_a_stranger_was_interrupted(w: World) -> None:
    runs(w)
    w.gave_up("terminated")
    w.exit(1)
    w.later(60)


@row(
    "a callback before the pod is seen running",
    events=f"{MADE} running",
    **{**TRAINS, "reason": "called_back", "rule": "callback_means_running", "because": "heartbeat"},
)
def a_callback_comes_before_the_pod_is_seen(w: World) -> None:
    w.schedule()
    w.then()
    w.heartbeat(epoch=1)
    w.start()
    w.later(15)


@row(
    "the old pod still ends when the next attempt is due",
    events=f"{RUNS} done attempt_failed:oom:retryable retry_scheduled exited:pod_deleted {AGAIN}"
    " queued:container_creating running done succeeded exited:0",
    **SUCCESS,
    attempts=(2, 1, 0),
)
def no_attempt_starts_before_the_one_before_has_ended(w: World) -> None:
    runs(w)
    w.gave_up("oom")
    w.later(60)
    assert w.log.state.executor is None
    w.exit(143, of=1)
    w.later(20)
    runs(w)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "silent for a while",
    events=f"{RUNS} health_changed:silent health_changed:healthy done succeeded exited:0",
    **SUCCESS,
)
def a_silent_training_calls_again(w: World) -> None:
    runs(w)
    w.later(400)
    w.heartbeat(epoch=2)
    w.later(15)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "more interruptions than are allowed",
    events=f"{RUNS} terminating:evicted exited:evicted attempt_failed:evicted:interruption"
    f" retry_scheduled {AGAIN} queued:container_creating running terminating:evicted"
    " exited:evicted attempt_failed:evicted:interruption failed:evicted",
    status="failed",
    reason="evicted",
    rule="interruptions_spent",
    because="exited attempt_failed failed",
    policy=replace(POLICY, max_interruptions=1, retry_backoff=10),
)
def interruptions_have_an_end(w: World) -> None:
    runs(w)
    w.evict()
    w.later(40)
    runs(w)
    w.evict()
    w.later(40)
