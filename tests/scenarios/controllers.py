"""What the controllers of a cluster do seldom, and what whoever is on call would say of it."""

from __future__ import annotations

from dataclasses import replace

from tests.given import POLICY
from tests.scenarios.row import (
    AGAIN,
    CANCELLED,
    LAUNCHED,
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

CONTROLLERS = Table()
row = CONTROLLERS.row
NEXT = {**WAITS, "reason": "scheduling"}
"""The next attempt waits for its node."""

# Several pods of one Job


@row(
    "a Job that may fail once more makes a second pod",
    events=f"{RUNS} queued:scheduling queued:unschedulable queued:container_creating running"
    " done succeeded exited:0",
    **SUCCESS,
    attempts=(1, 0, 0),
)
def a_second_pod_waits_and_runs_within_the_attempt(w: World) -> None:
    runs(w)
    w.allow_failures(1)
    w.exit(1)
    w.later(15)
    w.unschedulable()
    w.later(900)
    runs(w)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "a second pod, and it fails by another cause",
    events=f"{RUNS} queued:scheduling queued:container_creating running"
    " exited:oom_killed attempt_failed:oom_killed:retryable retry_scheduled",
    says="OOMKilled",
    **RETRY,
    attempts=(2, 1, 0),
)
def the_last_pod_of_an_attempt_says_how_it_ended(w: World) -> None:
    runs(w)
    w.allow_failures(1)
    w.exit(1)
    w.later(15)
    runs(w)
    w.out_of_memory()
    w.later(20)


@row(
    "a second pod that was seen only when it ran, and falls silent",
    events=f"{RUNS} terminating:pod_deleting running health_changed:silent"
    " stop_requested:heartbeat_lost terminating:deletion_sent exited:pod_deleted"
    f" attempt_failed:heartbeat_lost:retryable retry_scheduled {AGAIN}",
    **NEXT,
    differs={"order": UNSEEN, "away": UNSEEN, "restart": UNSEEN},
)
def what_ended_the_first_pod_does_not_protect_the_second(w: World) -> None:
    runs(w)
    w.allow_failures(1)
    with w.cluster.held():
        w.delete_pod()
        w.then()
        w.cut()
        w.exit(143)
    w.schedule()
    w.start()
    w.relisted()
    w.later(700)
    w.exit(143)
    w.later(60)


@row(
    "a second pod, and it is drained",
    events=f"{RUNS} queued:scheduling queued:container_creating running terminating:drained"
    " exited:drained attempt_failed:drained:interruption retry_scheduled",
    **RETRY,
    attempts=(2, 0, 1),
    differs={"away": UNSEEN},
)
def a_pod_that_is_gone_counts_more_than_one_before_it(w: World) -> None:
    runs(w)
    w.allow_failures(1)
    w.exit(1)
    w.later(15)
    runs(w)
    w.drain()
    w.later(20)


@row(
    "somebody scales the Job to none, and to one again",
    events=f"{RUNS} queued:suspended queued:scheduling queued:container_creating running"
    " done succeeded exited:0",
    **SUCCESS,
    attempts=(1, 0, 0),
)
def a_job_scaled_to_none_waits(w: World) -> None:
    runs(w)
    w.scale(0)
    w.later(3)
    w.exit(143)
    w.later(3600)
    w.scale(1)
    w.later(15)
    runs(w)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "resumed while the suspended pod still stops",
    events=f"{RUNS} queued:suspended queued:scheduling queued:container_creating running"
    " done succeeded exited:0",
    **SUCCESS,
    attempts=(1, 0, 0),
)
def a_job_is_resumed_before_its_first_pod_is_gone(w: World) -> None:
    runs(w)
    first = w.cluster.pod(w.name)["metadata"]["name"]
    w.suspend()
    w.later(2)
    w.resume()
    w.later(10)
    runs(w)
    w.later(10)
    w.cluster.exit(first, 143)
    w.later(20)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "resumed, and the quota lets no second pod be made",
    events=f"{RUNS} queued:suspended queued:pod_create_blocked",
    reason="pod_create_blocked",
    says="exceeded quota",
    **WAITS,
    attempts=(1, 0, 0),
)
def a_resumed_job_is_blocked_by_the_quota(w: World) -> None:
    runs(w)
    w.suspend()
    w.exit(143)
    w.later(600)
    w.quota_blocks()
    w.resume()
    w.later(60)


@row(
    "blocked by a quota at first, and its pod ends badly later",
    events="created queued:submitted launched queued:pod_create_blocked queued:scheduling"
    " queued:container_creating running exited:exit_nonzero attempt_failed:exit_nonzero:retryable"
    " retry_scheduled",
    **RETRY,
)
def an_old_refusal_says_nothing_about_a_pod_that_was_made(w: World) -> None:
    w.quota_blocks()
    w.later(300)
    w.quota_frees()
    w.later(15)
    runs(w)
    w.exit(1)
    w.later(20)


# Jobs that are held, or deleted by somebody else


@row(
    "the Job is deleted and held by a finalizer, and its pod trains on",
    events=f"{RUNS} terminating:job_deleted done succeeded exited:0",
    **SUCCESS,
)
def a_pod_whose_job_is_held_trains_on(w: World) -> None:
    runs(w)
    w.keep_job()
    w.delete_job("Background")
    for epoch in range(2, 9):
        w.later(100)
        w.heartbeat(epoch=epoch)
    w.done()
    w.exit(0)
    w.later(60)


@row(
    "the Job is deleted and held by a finalizer, and its pod fails",
    events=f"{RUNS} terminating:job_deleted exited:exit_nonzero"
    " attempt_failed:exit_nonzero:retryable retry_scheduled",
    **RETRY,
    differs={"away": UNSEEN},
)
def a_pod_whose_job_is_held_fails(w: World) -> None:
    runs(w)
    w.keep_job()
    w.delete_job("Background")
    w.later(60)
    w.exit(1)
    w.later(20)


@row(
    "the Job is deleted and held by a finalizer, and let go",
    events=f"{RUNS} terminating:job_deleted exited:job_vanished"
    f" attempt_failed:job_vanished:retryable retry_scheduled {AGAIN}",
    **NEXT,
)
def a_job_is_held_and_let_go(w: World) -> None:
    runs(w)
    w.keep_job()
    w.delete_job("Background")
    w.later(60)
    w.let_job_go()
    w.later(4)
    w.exit(143)
    w.later(60)


@row(
    "another Job under our name runs while ours is deleted, and ours fails first",
    events=f"{RUNS} exited:exit_nonzero attempt_failed:exit_nonzero:retryable retry_scheduled",
    **RETRY,
)
def a_failed_job_is_made_again_by_somebody_else(w: World) -> None:
    runs(w)
    w.exit(1)
    w.then()
    w.delete_job("Foreground")
    w.another_job_of_the_name()
    w.later(20)


@row(
    "the Job's time to live is over before its end was looked at, without a `done`",
    events=f"{RUNS} health_changed:unreachable exited:job_vanished health_changed:silent"
    f" attempt_failed:job_vanished:retryable retry_scheduled {AGAIN}",
    **NEXT,
    differs={"order": "who hears of the pod's end knows it", "restart": UNSEEN},
)
def a_failed_job_is_cleared_away_unseen(w: World) -> None:
    runs(w)
    w.unreachable()
    w.exit(1)
    w.expire_ttl()
    w.later(4000)
    w.reachable()
    w.later(60)


# Deadlines, policies, cancels


@row(
    "preempted, where the Job has a failure policy",
    events=f"{RUNS} terminating:preempted exited:preempted attempt_failed:preempted:interruption"
    " retry_scheduled",
    **RETRY,
    attempts=(2, 0, 1),
)
def a_failure_policy_does_not_hide_a_preemption(w: World) -> None:
    runs(w)
    w.threaten()
    w.fails_by_policy("Pod training/train-7-x has condition DisruptionTarget matching FailJob rule")
    w.later(20)


@row(
    "the cluster's clock is an hour behind",
    events=f"{RUNS} terminating:drained exited:drained attempt_failed:drained:interruption"
    f" retry_scheduled {AGAIN}",
    **NEXT,
    skew=-3600.0,
    differs={"away": UNSEEN},
)
def a_clock_that_is_behind_changes_nothing(w: World) -> None:
    runs(w)
    w.drain()
    w.later(60)


@row(
    "suspended, and cancelled while its pod still stops",
    events=f"{RUNS} queued:suspended cancel_requested:enough stop_requested:cancel_requested"
    " terminating:deletion_sent exited:pod_deleted cancelled:cancelled",
    **CANCELLED,
)
def a_job_is_cancelled_while_it_is_being_suspended(w: World) -> None:
    runs(w)
    w.suspend()
    w.later(2)
    w.cancel()
    w.later(20)
    w.exit(143)
    w.later(20)


@row(
    "a gate opens, and then no node has room",
    events=f"{LAUNCHED} queued:scheduling_gated queued:unschedulable queued:container_creating"
    " running",
    **TRAINS,
    policy=replace(POLICY, image_pull_grace=10),
)
def a_gate_opens_before_there_is_room(w: World) -> None:
    w.unschedulable(
        "Scheduling is blocked due to non-empty scheduling gates", reason="SchedulingGated"
    )
    w.later(600)
    w.unschedulable()
    w.later(600)
    runs(w)
