"""What people and queues do to Jobs and pods: delete, suspend, cancel."""

from __future__ import annotations

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

BY_HAND = Table()
row = BY_HAND.row
NEXT = {**WAITS, "reason": "scheduling"}
"""The next attempt waits for its node."""


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
