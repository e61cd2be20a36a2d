"""What else happens to pods and Jobs: by hand, by queues, by nodes, and by bad luck."""

from __future__ import annotations

from dataclasses import replace

from tests.given import POLICY
from tests.scenarios.row import (
    AGAIN,
    CANCELLED,
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

OWN = Table()
row = OWN.row
NEXT = {**WAITS, "reason": "scheduling"}
"""The next attempt waits for its node."""


@row("the usual course", events=f"{RUNS} done succeeded exited:0", **SUCCESS)
def a_training_that_ends_well(w: World) -> None:
    runs(w)
    w.epoch(10)
    w.done()
    w.exit(0)
    w.later(60)


# Pods and Jobs deleted by hand


@row(
    "a pod deleted while it waits",
    events=f"{LAUNCHED} queued:unschedulable terminating:pod_deleting exited:pod_deleted"
    f" attempt_failed:pod_deleted:retryable retry_scheduled {AGAIN}",
    **NEXT,
    differs={"away": UNSEEN},
)
def a_waiting_pod_is_deleted(w: World) -> None:
    w.unschedulable()
    w.delete_pod()
    w.later(60)


@row(
    "a pod deleted by force",
    events=f"{RUNS} terminating:pod_deleting exited:pod_deleted"
    " attempt_failed:pod_deleted:retryable retry_scheduled",
    says="nobody saw how its container ended",
    **RETRY,
    differs={"away": UNSEEN},
)
def a_pod_is_deleted_by_force(w: World) -> None:
    runs(w)
    w.delete_pod(grace=0)
    w.later(25)


@row(
    "a Job deleted with Background",
    events=f"{RUNS} terminating:job_deleted exited:job_vanished"
    f" attempt_failed:job_vanished:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def a_job_is_deleted_in_the_background(w: World) -> None:
    runs(w)
    w.delete_job("Background")
    w.later(5)
    w.exit(143)
    w.later(60)


@row(
    "a Job deleted with Foreground",
    events=f"{RUNS} terminating:job_deleted exited:job_vanished"
    f" attempt_failed:job_vanished:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def a_job_is_deleted_in_the_foreground(w: World) -> None:
    runs(w)
    w.delete_job("Foreground")
    w.later(5)
    w.exit(143)
    w.later(60)


@row(
    "a Job deleted while its trainer reports success",
    events=f"{RUNS} terminating:job_deleted done succeeded exited:pod_deleted",
    **SUCCESS,
)
def success_is_reported_while_the_job_is_deleted(w: World) -> None:
    runs(w)
    w.delete_job("Background")
    w.later(5)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "a Job deleted while its pod waits",
    events=f"{LAUNCHED} queued:unschedulable terminating:job_deleted exited:job_vanished"
    f" attempt_failed:job_vanished:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def a_job_is_deleted_while_its_pod_waits(w: World) -> None:
    w.unschedulable()
    w.delete_job("Background")
    w.later(60)


@row("a Job deleted with Orphan", events=f"{RUNS} done succeeded exited:0", **SUCCESS)
def an_orphaned_pod_trains_on(w: World) -> None:
    runs(w)
    w.delete_job("Orphan")
    w.later(200)
    w.heartbeat(epoch=2)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "a Job deleted with Orphan, whose pod fails",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    **RETRY,
)
def an_orphaned_pod_fails(w: World) -> None:
    runs(w)
    w.delete_job("Orphan")
    w.later(100)
    w.exit(1)
    w.later(20)


# Suspension


@row(
    "Kueue suspends the Job as it is created",
    events="created queued:submitted launched queued:suspended queued:scheduling"
    " queued:container_creating running",
    **TRAINS,
    body={"spec": {"suspend": True}},
)
def a_job_waits_for_its_admission(w: World) -> None:
    w.submit()
    w.later(3600)
    w.resume()
    w.later(15)
    runs(w)


@row(
    "a suspended trainer says that it was terminated",
    events=f"{RUNS} queued:suspended done queued:suspended queued:scheduling"
    " queued:container_creating running done succeeded exited:0",
    **SUCCESS,
    attempts=(1, 0, 0),
)
def a_suspended_trainer_that_says_terminated_did_not_fail(w: World) -> None:
    runs(w)
    w.suspend()
    w.gave_up("terminated")
    w.exit(143)
    w.later(600)
    w.resume()
    w.later(15)
    runs(w)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "a suspended job is cancelled",
    events=f"{RUNS} queued:suspended cancel_requested:enough stop_requested:cancel_requested"
    " exited:pod_deleted cancelled:cancelled",
    **CANCELLED,
)
def a_suspended_job_is_cancelled(w: World) -> None:
    runs(w)
    w.suspend()
    w.exit(143)
    w.later(60)
    w.cancel()
    w.later(60)


@row(
    "suspended while its pod waits",
    events=f"{LAUNCHED} queued:unschedulable queued:suspended queued:scheduling"
    " queued:container_creating running",
    **TRAINS,
)
def a_waiting_job_is_suspended_and_resumed(w: World) -> None:
    w.unschedulable()
    w.suspend()
    w.later(60)
    w.resume()
    w.later(15)
    runs(w)


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


# Cancels


@row(
    "cancelled before anything was launched",
    events="created cancel_requested:enough cancelled:cancelled_before_launch",
    status="cancelled",
    reason="cancelled_before_launch",
    rule="never_launched",
    because="cancel_requested cancelled",
)
def a_job_is_cancelled_before_its_launch(w: World) -> None:
    w.cancel()
    w.later(60)


@row(
    "cancelled while its image is pulled",
    events=f"{MADE} queued:image_pull_backoff cancel_requested:enough"
    " stop_requested:cancel_requested terminating:deletion_sent exited:None cancelled:cancelled",
    **CANCELLED,
)
def a_job_is_cancelled_while_its_image_is_pulled(w: World) -> None:
    w.pull_fails("ImagePullBackOff")
    w.then()
    w.cancel()
    w.later(60)


@row(
    "cancelled while the quota lets no pod be made",
    events="created queued:submitted launched queued:pod_create_blocked cancel_requested:enough"
    " stop_requested:cancel_requested terminating:deletion_sent exited:None cancelled:cancelled",
    **CANCELLED,
)
def a_job_without_a_pod_is_cancelled(w: World) -> None:
    w.quota_blocks()
    w.later(30)
    w.cancel()
    w.later(60)


@row(
    "the trainer obeys a cancel",
    events=f"{RUNS} cancel_requested:enough cancel_delivered done exited:0 cancelled:cancelled",
    **CANCELLED,
)
def a_trainer_obeys_a_cancel(w: World) -> None:
    runs(w)
    w.then()
    w.cancel()
    w.then()
    w.heartbeat(epoch=2)
    w.gave_up("cancelled")
    w.exit(0)
    w.later(60)


@row(
    "success that was under way when the cancel came",
    events=f"{RUNS} cancel_requested:enough done succeeded exited:0",
    **SUCCESS,
)
def success_before_the_trainer_heard_of_the_cancel_wins(w: World) -> None:
    runs(w)
    w.then()
    w.cancel()
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "cancelled while it is drained",
    events=f"{RUNS} terminating:drained cancel_requested:enough exited:drained cancelled:cancelled",
    **CANCELLED,
)
def a_job_is_cancelled_while_its_pod_ends(w: World) -> None:
    runs(w)
    w.drain(code=None)
    w.then()
    w.cancel()
    w.later(10)
    w.exit(143)
    w.later(60)


@row(
    "cancelled, and its Job is deleted by somebody else",
    events=f"{RUNS} cancel_requested:enough terminating:job_deleted exited:job_vanished"
    " cancelled:cancelled",
    **CANCELLED,
)
def a_cancelled_job_is_deleted_by_somebody_else(w: World) -> None:
    runs(w)
    w.then()
    w.cancel()
    w.delete_job("Background")
    w.later(10)
    w.exit(143)
    w.later(60)


@row(
    "deleted by somebody else first, and cancelled then",
    events=f"{RUNS} terminating:job_deleted cancel_requested:enough"
    " stop_requested:cancel_requested terminating:deletion_sent exited:pod_deleted"
    " cancelled:cancelled",
    **CANCELLED,
)
def a_job_that_is_being_deleted_is_cancelled(w: World) -> None:
    runs(w)
    w.delete_job("Foreground")
    w.later(10)
    w.cancel()
    w.later(45)
    w.exit(143)
    w.later(60)


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
