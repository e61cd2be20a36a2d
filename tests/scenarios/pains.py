"""What hurts most in systems like this one: 25 pains of their users, and how we fare."""

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

PAINS = Table()
row = PAINS.row


@row(
    "pain 1: a pod killed for memory, and the run shows Running for ever",
    events=f"{RUNS} exited:oom_killed attempt_failed:oom_killed:retryable failed:oom_killed",
    status="failed",
    reason="oom_killed",
    rule="retries_spent",
    because="exited attempt_failed failed",
    says="exit code 137",
    retries=0,
)
def a_killed_pod_does_not_run_for_ever(w: World) -> None:
    runs(w)
    w.out_of_memory()
    w.later(20)


@row(
    "pain 2: a late heartbeat relabels a run that is complete",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_heartbeat_after_the_end_changes_nothing(w: World) -> None:
    runs(w)
    w.done()
    w.then()
    w.heartbeat(epoch=3)
    w.exit(0)
    w.later(2000)
    w.heartbeat(epoch=3)


@row(
    "pain 3: a final status that is not final",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable"
    " failed:exit_nonzero done:(job_is_final)",
    status="failed",
    reason="exit_nonzero",
    rule="retries_spent",
    because="exited attempt_failed failed",
    retries=0,
)
def done_after_the_job_failed_is_kept_and_changes_nothing(w: World) -> None:
    runs(w)
    w.exit(1)
    w.later(20)
    w.done()
    w.later(20)


@row(
    "pain 4: a failing clean-up overwrites the outcome",
    events=f"{RUNS} done succeeded exited:stuck_terminating",
    **SUCCESS,
)
def a_pod_that_does_not_end_takes_no_success_back(w: World) -> None:
    runs(w)
    w.done()
    w.later(600)


@row(
    "pain 5: out of reach is taken for dead",
    events=f"{RUNS} health_changed:unreachable health_changed:healthy done succeeded exited:0",
    **SUCCESS,
    attempts=(1, 0, 0),
)
def a_training_out_of_reach_goes_on(w: World) -> None:
    runs(w)
    w.unreachable()
    for epoch in range(2, 9):
        w.later(250)
        w.heartbeat(epoch=epoch)
    w.reachable()
    w.later(15)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "pain 6: alive, and not training",
    events=f"{RUNS} health_changed:stalled",
    **{**TRAINS, "health": "stalled"},
)
def heartbeats_without_progress_are_a_stall(w: World) -> None:
    runs(w)
    for _ in range(20):
        w.later(100)
        w.heartbeat(epoch=1)


@row(
    "pain 7: a cancel that does not stop the pod",
    events=f"{RUNS} cancel_requested:enough stop_requested:cancel_requested"
    " terminating:deletion_sent exited:node_lost cancelled:cancelled",
    **CANCELLED,
)
def a_cancel_on_a_dead_node_ends_when_the_pod_is_given_up(w: World) -> None:
    runs(w)
    w.lose_node("node-1")
    w.cancel()
    w.later(300)


@row(
    "pain 8: marked failed, and then it starts",
    events=f"{MADE} queued:image_pull_backoff stop_requested:image_pull_backoff"
    " terminating:deletion_sent exited:None attempt_failed:image_pull_backoff:retryable"
    " failed:image_pull_backoff",
    status="failed",
    reason="image_pull_backoff",
    rule="retries_spent",
    because="stop_requested exited attempt_failed failed",
    says="could not start for 180 s: ImagePullBackOff",
    retries=0,
)
def what_is_given_up_while_it_waits_is_deleted_first(w: World) -> None:
    w.pull_fails()
    w.pull_fails("ImagePullBackOff")
    w.later(300)


@row(
    "pain 9: the request to cancel is lost",
    events=f"{LAUNCHED} queued:unschedulable cancel_requested:enough"
    " stop_requested:cancel_requested terminating:deletion_sent exited:None cancelled:cancelled",
    **CANCELLED,
)
def a_cancel_outlives_every_restart(w: World) -> None:
    w.unschedulable()
    w.restarted()
    w.cancel()
    w.restarted()
    w.later(60)


@row(
    "pain 10: finished work recorded as an error, since its pod was deleted",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_pod_deleted_after_its_end_takes_no_success_back(w: World) -> None:
    runs(w)
    w.done()
    w.exit(0)
    w.delete_pod()
    w.delete_job("Background")
    w.later(60)


@row(
    "pain 11: the pod has finished and the run is Running: its last word was lost",
    events=f"{RUNS} exited:0 attempt_failed:exited_without_result:retryable retry_scheduled",
    says="never reported a result",
    **RETRY,
)
def an_end_without_a_word_is_a_failure_after_the_grace(w: World) -> None:
    runs(w)
    w.exit(0)
    w.later(60)
    assert w.log.status == "running"
    w.later(70)


@row(
    "pain 12: a restart of the control plane loses what runs",
    events=f"{RUNS} adopted done succeeded exited:0",
    **SUCCESS,
)
def a_restart_takes_the_running_over(w: World) -> None:
    runs(w)
    w.restarted()
    w.later(30)
    w.heartbeat(epoch=2)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "pain 13: the reason is in Events only, which are gone in an hour",
    events="created queued:submitted launched queued:pod_create_blocked",
    reason="pod_create_blocked",
    says="exceeded quota",
    **WAITS,
)
def a_reason_that_the_cluster_forgets_is_kept(w: World) -> None:
    w.quota_blocks()
    w.later(30)
    w.cluster.forget_events()
    w.later(4000)


@row(
    "pain 14: an image that is not there never shows and never fails",
    events=f"{MADE} queued:invalid_image_name stop_requested:invalid_image_name"
    " terminating:deletion_sent exited:None attempt_failed:invalid_image_name:fatal"
    " failed:invalid_image_name",
    status="failed",
    reason="invalid_image_name",
    rule="not_retryable",
    because="stop_requested exited attempt_failed failed",
    says="invalid reference format",
)
def an_invalid_image_name_fails_at_once(w: World) -> None:
    w.pull_fails("InvalidImageName")
    w.later(20)


@row(
    "pain 15: no exit code on the job",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    says="exit code 3 (node node-1): CUDA error",
    **RETRY,
)
def the_exit_code_and_the_last_words_are_told(w: World) -> None:
    runs(w)
    w.exit(3, message="CUDA error")
    w.later(20)


@row(
    "pain 16: Running, while it is really queued",
    events=f"{LAUNCHED} queued:unschedulable queued:container_creating",
    reason="container_creating",
    **WAITS,
)
def a_pod_that_waits_is_queued_with_its_reason(w: World) -> None:
    w.unschedulable()
    w.later(300)
    w.creating()
    w.later(300)


@row(
    "pain 17: a preemption shows in no counter",
    events=f"{RUNS} terminating:preempted exited:preempted attempt_failed:preempted:interruption"
    " retry_scheduled",
    **RETRY,
    attempts=(2, 0, 1),
    differs={"away": UNSEEN},
)
def a_preemption_is_counted_as_an_interruption(w: World) -> None:
    runs(w)
    w.preempt()
    w.later(20)


@row(
    "pain 18: the cluster makes another pod behind our back",
    events=f"{RUNS} queued:scheduling queued:container_creating running"
    " exited:0 attempt_failed:exited_without_result:retryable retry_scheduled",
    **RETRY,
    body={"spec": {"backoffLimit": 1}},
)
def a_second_pod_of_the_same_job_is_the_same_attempt(w: World) -> None:
    runs(w)
    w.exit(1)
    w.later(15)
    runs(w)
    w.exit(0)
    w.later(130)


@row(
    "pain 19: the log and the cluster disagree for days",
    events=f"{RUNS} health_changed:silent stop_requested:heartbeat_lost"
    " terminating:deletion_sent exited:pod_deleted attempt_failed:heartbeat_lost:retryable"
    f" retry_scheduled {AGAIN}",
    reason="scheduling",
    **WAITS,
)
def a_silent_training_is_stopped_before_another_starts(w: World) -> None:
    runs(w)
    w.later(601)
    w.exit(143)
    w.later(60)


@row(
    "pain 20: the log grows without bound",
    events=f"{LAUNCHED} queued:unschedulable",
    reason="unschedulable",
    **WAITS,
)
def a_reason_in_ever_other_words_is_told_once(w: World) -> None:
    for nodes in range(3, 30):
        w.unschedulable(f"0/{nodes} nodes are available: {nodes} Insufficient nvidia.com/gpu.")
        w.later(30)


@row(
    "pain 21: what happened in an outage is lost, or does harm",
    events=f"{RUNS} health_changed:unreachable done succeeded exited:0",
    **SUCCESS,
)
def what_a_trainer_says_after_an_outage_counts(w: World) -> None:
    runs(w)
    w.unreachable()
    w.later(290)
    for epoch in range(2, 6):
        w.epoch(epoch)
    w.done()
    w.exit(0)
    w.reachable()
    w.later(30)


@row(
    "pain 22: who stopped my job?",
    events=f"{RUNS} terminating:pod_deleting done exited:pod_deleted"
    f" attempt_failed:pod_deleted:retryable retry_scheduled {AGAIN}",
    reason="scheduling",
    **WAITS,
    differs={"away": UNSEEN},
)
def a_pod_deleted_by_hand_is_told_as_such(w: World) -> None:
    runs(w)
    w.delete_pod()
    w.gave_up("terminated")
    w.exit(143)
    w.later(60)


@row(
    "pain 23: ended by a signal, and the tracker says it runs, or that it has finished",
    events=f"{RUNS} exited:killed attempt_failed:killed:retryable retry_scheduled",
    says="The container was killed (node node-1): exit code 143",
    **RETRY,
)
def a_container_killed_from_inside_its_node_was_killed(w: World) -> None:
    runs(w)
    w.exit(143)
    w.later(20)


@row(
    "pain 24: disconnected, and no way to go on",
    events=f"{RUNS} exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled",
    says="Attempt 2 follows, from s3://bucket/last.pt",
    **RETRY,
)
def the_next_attempt_resumes_from_the_checkpoint(w: World) -> None:
    runs(w)
    w.checkpoint("s3://bucket/last.pt")
    w.out_of_memory()
    w.later(20)


@row(
    "pain 25: the wrong reason, and attempts that nobody sees",
    events=f"{RUNS} exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled {AGAIN}"
    " queued:container_creating running exited:exit_nonzero"
    " attempt_failed:exit_nonzero:retryable failed:exit_nonzero",
    status="failed",
    reason="exit_nonzero",
    rule="retries_spent",
    because="exited attempt_failed failed",
    says="exit code 2",
    retries=1,
    attempts=(2, 1, 0),
    policy=replace(POLICY, retry_backoff=10),
)
def each_attempt_has_its_own_reason(w: World) -> None:
    runs(w)
    w.out_of_memory()
    w.later(40)
    runs(w)
    w.exit(2)
    w.later(20)
