"""The 31 hard cases of Kubernetes Jobs, each as what happens and what the log makes of it."""

from __future__ import annotations

from service.cluster_client import JOBS, PODS
from tests.cluster.objects import is_true
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

HARD_CASES = Table()
row = HARD_CASES.row


@row(
    "case 1: the watch's version is too old (410), so everything is listed anew",
    events=f"{RUNS} exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled",
    says="OOMKilled (node node-1): exit code 137",
    **RETRY,
)
def what_happened_behind_a_410_is_found_in_the_list(w: World) -> None:
    runs(w)
    w.cut()
    w.out_of_memory()
    w.relisted()
    w.later(20)


@row(
    "case 2: a version from the future, as after a restored backup",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_cluster_whose_versions_start_over_is_believed(w: World) -> None:
    runs(w)
    w.numbered_anew()
    w.heartbeat(epoch=2)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "case 3: a list from a server that is behind",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_list_from_the_past_takes_nothing_back(w: World) -> None:
    runs(w)
    w.listed_of_old()
    w.later(10)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "case 4: the stream stalls in silence",
    events=f"{RUNS} health_changed:unreachable",
    **{**TRAINS, "health": "unreachable"},
)
def a_stalled_watch_makes_a_training_unreachable_and_nothing_else(w: World) -> None:
    runs(w)
    w.unreachable()
    w.later(1300)


@row("case 5: bookmarks", events=RUNS, **TRAINS)
def a_bookmark_is_no_news(w: World) -> None:
    runs(w)
    w.delivered(PODS, {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9999"}}})
    w.delivered(JOBS, {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9999"}}})
    w.later(10)


@row(
    "case 6: a deletion while we were disconnected",
    events=f"{RUNS} exited:job_vanished attempt_failed:job_vanished:retryable retry_scheduled",
    says="The Job is not there any more",
    **RETRY,
)
def a_job_deleted_while_nobody_looked_is_missed_after_the_list(w: World) -> None:
    runs(w)
    w.cut()
    w.cluster.exits_on_sigterm = 143
    w.delete_job("Background")
    w.relisted()
    w.later(20)


@row(
    "case 7: the Job's time to live was over before it was seen",
    events=f"{RUNS} health_changed:unreachable done succeeded exited:None",
    **SUCCESS,
)
def a_finished_job_that_was_cleared_away_unseen_stays_a_success(w: World) -> None:
    runs(w)
    w.unreachable()
    w.done()
    w.exit(0)
    w.expire_ttl()
    w.later(4000)
    w.reachable()
    w.later(20)


@row(
    "case 8: no node has room",
    events=f"{LAUNCHED} queued:unschedulable",
    reason="unschedulable",
    says="3 Insufficient nvidia.com/gpu",
    **WAITS,
)
def an_unschedulable_pod_waits_with_the_reason_and_is_told_once(w: World) -> None:
    w.unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    w.later(600)
    w.unschedulable("0/4 nodes are available: 4 Insufficient nvidia.com/gpu.")
    w.later(40_000)


@row(
    "case 9: the quota lets no pod be made",
    events="created queued:submitted launched queued:pod_create_blocked queued:scheduling"
    " queued:container_creating running",
    **TRAINS,
)
def a_pod_that_the_quota_forbids_is_told_until_it_frees(w: World) -> None:
    w.quota_blocks()
    w.later(300)
    w.quota_frees()
    w.later(15)
    runs(w)


@row(
    "case 10: the node's kubelet refuses the pod, which has no container statuses",
    events=f"{MADE} exited:admission_refused attempt_failed:admission_refused:interruption"
    " retry_scheduled",
    says="Allocate failed",
    **RETRY,
)
def a_pod_refused_by_its_node_is_an_interruption(w: World) -> None:
    w.admission_error()
    w.later(20)


@row(
    "case 11: evicted for its node's memory",
    events=f"{RUNS} terminating:evicted exited:evicted attempt_failed:evicted:interruption"
    " retry_scheduled",
    says="The node was low on resource: memory",
    **RETRY,
)
def an_evicted_pod_is_an_interruption(w: World) -> None:
    runs(w)
    w.evict()
    w.later(20)


@row(
    "case 12: drained, and the trainer ends by SIGTERM",
    events=f"{RUNS} terminating:drained done exited:drained"
    f" attempt_failed:drained:interruption retry_scheduled {AGAIN}",
    reason="scheduling",
    **WAITS,
    differs={"away": UNSEEN},
)
def a_drained_trainer_that_says_terminated_was_drained(w: World) -> None:
    runs(w)
    w.drain(code=None)
    w.gave_up("terminated")
    w.exit(143)
    w.later(60)


@row(
    "case 13: a node is lost; the pod says Running for ever and the Job never Failed",
    events=f"{RUNS} terminating:node_lost exited:node_lost attempt_failed:node_lost:interruption"
    f" retry_scheduled {AGAIN}",
    reason="scheduling",
    **WAITS,
)
def a_pod_on_a_dead_node_is_given_up_after_a_while(w: World) -> None:
    runs(w)
    w.lose_node("node-1")
    w.later(120)
    w.taint_node("node-1")
    w.later(200)


@row(
    "case 14: the Job is failing while the container still ends well",
    events=f"{RUNS} terminating:pod_deleting done succeeded exited:pod_deleted",
    **SUCCESS,
)
def done_after_the_job_began_to_fail_is_success(w: World) -> None:
    runs(w)
    w.delete_pod()
    w.later(10)
    w.done()
    w.exit(0)
    w.later(200)


@row(
    "case 15: out of memory",
    events=f"{RUNS} exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled",
    says="OOMKilled (node node-1): exit code 137, in epoch 7",
    **RETRY,
)
def out_of_memory_is_told_with_node_and_epoch(w: World) -> None:
    runs(w)
    w.heartbeat(epoch=7)
    w.out_of_memory()
    w.later(20)


@row(
    "case 16: the deadline, its time in the queue counted",
    events=f"{LAUNCHED} queued:unschedulable terminating:pod_deleting"
    " terminating:deadline_exceeded exited:deadline_exceeded"
    " attempt_failed:deadline_exceeded:retryable failed:deadline_exceeded",
    status="failed",
    reason="deadline_exceeded",
    rule="retries_spent",
    because="exited attempt_failed failed",
    says="its time in the queue counts",
    retries=0,
)
def a_deadline_in_the_queue_fails_the_attempt(w: World) -> None:
    w.unschedulable()
    w.expire_deadline()
    w.later(30)


@row(
    "case 17: the counters are not to be believed, only the conditions",
    events=f"{RUNS} done succeeded exited:exit_nonzero",
    **SUCCESS,
)
def a_failed_count_before_the_condition_decides_nothing(w: World) -> None:
    runs(w)
    w.cluster.paused = True
    w.exit(1)
    while not is_true(w.cluster.job(w.name), "FailureTarget"):
        assert w.cluster.step()
        w.flush()
    w.done()
    w.cluster.paused = False
    w.cluster.settle()
    w.later(20)


@row(
    "case 18: a pod failure policy names the reason",
    events=f"{RUNS} exited:pod_failure_policy attempt_failed:pod_failure_policy:retryable"
    " retry_scheduled",
    says="matching FailJob rule at index 0",
    **RETRY,
)
def the_reason_of_a_pod_failure_policy_is_passed_on(w: World) -> None:
    runs(w)
    w.fails_by_policy("Container trainer failed with exit code 42 matching FailJob rule at index 0")
    w.later(20)


@row(
    "case 19: suspended by a queue while it runs, and resumed",
    events=f"{RUNS} queued:suspended queued:scheduling queued:container_creating running"
    " done succeeded exited:0",
    **SUCCESS,
)
def a_suspended_training_waits_and_runs_again(w: World) -> None:
    runs(w)
    w.suspend()
    w.later(3)
    w.exit(143)
    w.later(3600)
    w.resume()
    w.later(15)
    runs(w)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "case 20: another Job takes the name",
    events=f"{RUNS} terminating:job_deleted exited:job_vanished"
    " attempt_failed:job_vanished:retryable retry_scheduled",
    says="not by us",
    **RETRY,
)
def another_job_under_our_name_is_not_ours(w: World) -> None:
    runs(w)
    w.cluster.exits_on_sigterm = 143
    w.delete_job("Background")
    w.another_job_of_the_name()
    w.schedule()
    w.start()
    w.later(20)


@row(
    "case 21: the answer to the create was lost, and it had worked",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_job_launched_twice_is_one_job(w: World) -> None:
    w.launched_again()
    runs(w)
    w.launched_again()
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "case 22: `done`, and then the cluster says failed",
    events=f"{RUNS} done succeeded exited:exit_nonzero",
    **SUCCESS,
)
def done_wins_over_what_the_cluster_says_later(w: World) -> None:
    runs(w)
    w.done()
    w.exit(1)
    w.later(60)


@row(
    "case 23: a cancel is over when the pod is gone, not when the Job is",
    events=f"{RUNS} cancel_requested:enough cancel_delivered stop_requested:cancel_requested"
    " terminating:deletion_sent exited:pod_deleted cancelled:cancelled",
    **CANCELLED,
)
def a_cancel_is_confirmed_by_the_end_of_the_pod(w: World) -> None:
    runs(w)
    w.then()
    w.cancel()
    w.then()
    w.heartbeat(epoch=2)
    w.later(40)
    assert w.log.status == "running"  # the Job is being deleted, its pod still stops
    w.exit(143)
    w.later(20)


@row(
    "case 24: two watchers see the same",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    says="exit code 3 (node node-1): no such dataset",
    **RETRY,
)
def what_two_watchers_see_is_recorded_once(w: World) -> None:
    runs(w)
    w.exit(3, message="Traceback (most recent call last):\n  …\nno such dataset\n")
    w.later(20)


@row(
    "case 25: another leader takes over at every moment",
    events=f"{LAUNCHED} queued:unschedulable queued:container_creating"
    " running adopted done succeeded exited:0",
    **SUCCESS,
)
def a_new_leader_goes_on_where_the_old_one_stopped(w: World) -> None:
    w.unschedulable()
    w.restarted()
    w.schedule()
    w.restarted()
    w.start()
    w.heartbeat()
    w.restarted()
    w.done()
    w.restarted()
    w.exit(0)
    w.restarted()
    w.later(60)


@row(
    "case 26: at the start everything old is listed",
    events=f"{RUNS} adopted exited:exit_nonzero attempt_failed:exit_nonzero:retryable"
    " retry_scheduled",
    **RETRY,
)
def old_jobs_in_the_list_say_nothing_about_ours(w: World) -> None:
    for number in (1, 2, 3):
        w.old_job(f"train-{number}")
    runs(w)
    w.restarted()
    w.exit(1)
    w.later(20)


@row(
    "case 27: an object that cannot be read",
    events=f"{RUNS} done succeeded exited:0",
    **SUCCESS,
)
def a_malformed_object_stops_nothing(w: World) -> None:
    runs(w)
    broken = {"metadata": {"uid": "u", "ownerReferences": 7, "labels": [1]}, "status": "Running"}
    for line in ({}, {"type": "ADDED"}, {"type": "MODIFIED", "object": broken}, {"type": 3}):
        w.delivered(PODS, line)
        w.delivered(JOBS, line)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "case 28: the cluster's clock is an hour ahead",
    events=f"{RUNS} exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled",
    **RETRY,
    skew=3600.0,
)
def a_clock_that_is_ahead_changes_no_order(w: World) -> None:
    runs(w)
    w.out_of_memory()
    w.later(20)


@row(
    "case 29: the Secret comes after the Job, or goes with it",
    events=f"{MADE} queued:config_error running",
    **TRAINS,
)
def a_secret_that_is_late_only_delays_the_start(w: World) -> None:
    w.config_error()
    w.later(60)
    w.start()
    w.heartbeat(epoch=1)


@row(
    "case 30: the API server initialises anew (429)",
    events=f"{RUNS} health_changed:unreachable health_changed:healthy done succeeded exited:0",
    **SUCCESS,
)
def a_server_that_starts_anew_is_out_of_reach_and_no_more(w: World) -> None:
    runs(w)
    w.unreachable()
    w.later(60)
    w.reachable()
    w.heartbeat(epoch=2)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "case 31: a finished pod is kept by a finalizer",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    **RETRY,
)
def a_pod_that_is_kept_delays_no_failure(w: World) -> None:
    runs(w)
    w.keep_pod()
    w.exit(1)
    w.later(20)
