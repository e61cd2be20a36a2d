"""What a cluster shows of an attempt: one pure function of its Job, its pods, the log and the time.

The Job's own terminal condition says that an attempt is over, and the last that was seen of its pod
says why. Success never comes from here: only from the trainer's `done`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from math import inf

from projections.causes import ENDS_OF_CONTAINERS, INTERRUPTIONS, TRAINER_ENDED, Cause
from projections.job import JobState
from projections.look import Look, refusal_since, wants_no_pod
from projections.objects import (
    Object,
    condition,
    is_deleting,
    is_orphan,
    is_orphaning,
    name_of,
    newest,
    text,
    uid_of,
    version_of,
)
from projections.pods import (
    End,
    described,
    disruption_of,
    end_of,
    end_of_trainer,
    grace_seconds,
    has_ended,
    is_out_of_sight,
    node_of,
    phase_of,
    running_since,
    waits_for,
)
from projections.policy import Policy
from projections.sighting import Alive, Ending, Gone, Identity, Sighting, Unseen, Waiting

_Seen = Unseen | Waiting | Alive | Ending | Gone
LAG_SECONDS = 5.0
"""How far what is heard of pods may be behind what is heard of Jobs."""
DEADLINE = "DeadlineExceeded"
FAILURE_POLICY = "PodFailurePolicy"
_NOTED = {
    **{
        cause.value: cause
        for cause in (*INTERRUPTIONS, *ENDS_OF_CONTAINERS, Cause.DEADLINE_EXCEEDED)
    },
    "pod_deleting": Cause.POD_DELETED,
    "job_deleted": Cause.JOB_VANISHED,
}
"""What the log's word for a pod's ending means once the pod is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What the log knows of the attempt."""

    uid: str | None
    pod: str | None = None
    """The uid of its pod that was last told of."""
    waits_for: str = ""
    ours: bool = False
    """Its deletion was decided here."""
    ending: End | None = None
    """How it ends, as far as that was noted before its end."""
    ending_for: float | None = None
    """For how many seconds it has been ending, if it has."""
    quiet_for: float = inf
    """For how many seconds its trainer has not called back."""

    @property
    def named_ending(self) -> End | None:
        """What ends the attempt, where that is more than that somebody deleted it."""
        by_hand = self.ending is None or self.ending.cause in {
            Cause.POD_DELETED,
            Cause.JOB_VANISHED,
        }
        return None if by_hand else self.ending


def sight(look: Look, state: JobState, now: datetime, policy: Policy) -> Sighting:
    """Return what the look says of the job's current attempt; the first row that fits wins."""
    quiet_for = _seconds(state.alive_at, now)
    past = _Past(
        uid=state.uid,
        pod=state.pod,
        waits_for=state.reason.code,
        ours=state.stop is not None or state.status.is_final,
        ending=_noted_end(state),
        ending_for=_seconds(_ending_since(state), now),
        quiet_for=inf if quiet_for is None else quiet_for,
    )
    return _sight(look, past, policy)


def sight_of_released(look: Look, state: JobState, now: datetime, policy: Policy) -> Sighting:
    """Return what the look says of the attempt before, which may hold its place for a while yet."""
    ending_for = _seconds(state.attempt_queued_at, now)
    return _sight(look, _Past(uid=state.releasing_uid, ours=True, ending_for=ending_for), policy)


def _ending_since(state: JobState) -> datetime | None:
    """Return since when it has been ending: from our own order on, it has its grace once more."""
    if state.ending is None:
        return state.completed_at
    return max(state.ending.at, state.stop.at) if state.stop is not None else state.ending.at


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else (now - since).total_seconds()


def _noted_end(state: JobState) -> End | None:
    ending = state.ending
    cause = _NOTED.get(ending.reason) if ending is not None else None
    if ending is None or cause is None:
        return None
    return End(cause=cause, message=f"Nobody saw its end. Before that: {ending.message}")


def _sight(look: Look, past: _Past, policy: Policy) -> Sighting:
    pod = _pod_that_counts(look, past)
    identity = _identity(look, past, pod)
    limit = LAG_SECONDS if pod is None else grace_seconds(pod) + policy.ending_grace
    late = past.ending_for is not None and past.ending_for >= limit
    if look.job is None:
        seen = _absent(look, past, pod, late=late)
    else:
        seen = _present(look, look.job, past, pod, late=late)
    over_time = late and (past.quiet_for >= 2 * policy.heartbeat_timeout or _is_told_to_end(pod))
    if isinstance(seen, Ending) and pod is not None and over_time and seen.reason is not None:
        end = end_of(pod) if has_ended(pod) else None
        seen = _given_up(pod, limit) if end is None else _gone(end, pod)
    if isinstance(seen, Unseen) or identity is None:
        return seen
    return _identified(seen, identity)


def _pod_that_counts(look: Look, past: _Past) -> Object | None:
    """Return the newest pod that lives; where none does, that still stops; of all, where all ended.

    One that is gone says more than one before it that is kept, also where only the log knows of it.
    """
    running = [pod for pod in look.pods if uid_of(pod) not in look.gone and not has_ended(pod)]
    living = [pod for pod in running if not is_deleting(pod)]
    known = past.pod is None or any(uid_of(pod) == past.pod for pod in look.pods)
    if not running and past.ending is not None and not known:
        return None
    return newest(living or running or look.pods)


def _is_told_to_end(pod: Object | None) -> bool:
    """Return whether the pod is on its way out, and not only its Job."""
    return pod is None or has_ended(pod) or is_deleting(pod) or is_out_of_sight(pod)


def _present(look: Look, job: Object, past: _Past, pod: Object | None, *, late: bool) -> _Seen:
    lives = pod is not None and uid_of(pod) not in look.gone and not has_ended(pod)
    if over := condition(job, "Failed", "Complete"):
        unseen = pod is None and past.ending is None and text(over, "reason") != DEADLINE
        if not late and (lives or unseen):
            return _over(job, over, past, pod)
        return (
            _completed(past, pod) if over["type"] == "Complete" else _failed(job, over, past, pod)
        )
    if (target := condition(job, "FailureTarget")) or (is_deleting(job) and not is_orphaning(job)):
        return _ending(job, target, past, pod) if pod is not None and lives else _ended(pod)
    if condition(job, "Suspended") or wants_no_pod(job):
        message = "The Job is suspended: it waits to be admitted, or was sent back to the queue."
        return Waiting(reason="suspended", message=message, sent_back=True)
    if pod is None or not lives:
        blocked = _blocked(look, pod)
        if blocked is not None or pod is None or not has_ended(pod):
            return blocked or Waiting(reason=None)
        return _ended(pod)
    if is_deleting(pod):  # a threat alone may pass: the condition is cleared again
        return _ending(job, target, past, pod)
    return _living(pod, past, follows=len(look.pods) > 1)


def _living(pod: Object, past: _Past, *, follows: bool) -> _Seen:
    if (end := end_of_trainer(pod)) is not None:
        return _outlived(pod, end)
    if phase_of(pod) == "Running":
        return Alive(handle=described(pod), since=running_since(pod))
    reason, message = waits_for(pod, past.waits_for)
    # One that follows another may wait although there was a callback: it was the other's.
    sent_back = follows and past.quiet_for >= LAG_SECONDS
    return Waiting(reason=reason, message=message, sent_back=sent_back)


def _outlived(pod: Object, end: End) -> Ending:
    """Hold: the trainer's container has ended, and others keep its pod running."""
    handle = described(pod)
    said = end.message or f"The trainer's container ended with exit code 0 in {handle}."
    message = f"{said} Other containers of the pod run on."
    return Ending(reason=end.cause or TRAINER_ENDED, message=message, handle=handle)


def _over(job: Object, over: Object, past: _Past, pod: Object | None) -> Ending:
    """Hold: what is heard of pods may be behind what is heard of Jobs."""
    if pod is not None:
        return _ending(job, over, past, pod)
    message = f"Job {name_of(job)} is over, and how its pod ended was not seen yet."
    return Ending(reason="job_over", message=message)


def _absent(look: Look, past: _Past, pod: Object | None, *, late: bool) -> _Seen:
    """There is no Job of the attempt's uid: whoever deleted it, it is not made again."""
    if pod is None:
        if past.uid is None:
            return Unseen()
        if past.ending is None and not late:
            message = "The Job is not there any more, and no pod of it was seen yet."
            return Ending(reason="deletion_sent" if past.ours else "job_absent", message=message)
        return _gone(_with_its_job(None, past, None), None)
    if uid_of(pod) not in look.gone and not has_ended(pod):
        if is_orphan(pod) and not is_deleting(pod):
            return _living(pod, past, follows=len(look.pods) > 1)
        if (noted := past.named_ending) is not None:
            return Ending(reason=noted.cause, message=noted.message, handle=described(pod))
        message = f"The Job was deleted, and {described(pod)} is on its way to its end."
        return Ending(reason=_deletion(past), message=message, handle=described(pod))
    return _gone(_with_its_job(end_of(pod), past, pod), pod)


def _with_its_job(end: End | None, past: _Past, pod: Object | None) -> End:
    """Return the end of a pod whose Job was deleted: by that, unless it has one of its own."""
    if past.ours:
        return end or End(cause=None, message="The Job and its pod are not there any more.")
    if (noted := past.named_ending) is not None:
        return replace(end, cause=noted.cause, message=noted.message) if end else noted
    if end is None:
        message = "The Job is not there any more, and nobody saw how its pod ended."
        return End(cause=Cause.JOB_VANISHED, message=message)
    deleted = pod is not None and is_deleting(pod)
    if deleted and end.cause is Cause.POD_DELETED:
        message = f"The Job was deleted, and not by us. {end.message}".strip()
        return replace(end, cause=Cause.JOB_VANISHED, message=message)
    return end


def _failed(job: Object, failed: Object, past: _Past, pod: Object | None) -> Gone:
    """Say why: the Job itself knows of deadlines and policies, of all else only its pod."""
    reason, message = text(failed, "reason"), text(failed, "message")
    end = end_of(pod) if pod is not None else None
    taken = end is not None and end.cause in INTERRUPTIONS
    if reason == DEADLINE or (reason == FAILURE_POLICY and not taken):
        deadline = reason == DEADLINE
        words = f"{message.rstrip('.')} (its time in the queue counts)." if deadline else message
        cause = Cause.DEADLINE_EXCEEDED if deadline else Cause.POD_FAILURE_POLICY
        end = End(
            cause=cause,
            message=words,
            exit_code=end.exit_code if end and end.exit_code else None,
            signal=end.signal if end else None,
        )
    if end is None:
        end = _unseen_end(pod, past, message or reason)
    if is_deleting(job) and reason == "BackoffLimitExceeded":
        end = _with_its_job(end, past, pod)
    return _gone(end, pod)


def _unseen_end(pod: Object | None, past: _Past, said: str) -> End:
    """Return what is known of a pod's end that nobody saw, as after a restart of the service."""
    if pod is not None and is_deleting(pod) and is_out_of_sight(pod):
        words = f"Its node was silent, and {described(pod)} was deleted without it."
        return End(cause=Cause.NODE_LOST, message=words)
    if pod is not None and is_deleting(pod):
        ran = phase_of(pod) == "Running"
        how = "and nobody saw how its container ended" if ran else "before its container had run"
        words = f"{described(pod).capitalize()} was deleted {how}."
        return End(cause=Cause.POD_DELETED, message=words)
    if past.ending is not None:
        return past.ending
    words = f"The Job failed and nothing was seen of how its pod ended: {said}"
    return End(cause=Cause.POD_FAILED, message=words)


def _completed(past: _Past, pod: Object | None) -> Gone:
    """Its container said 0, which is no `done`; what had come over the pod is told."""
    end = (end_of(pod) if pod is not None else None) or past.ending
    at = end.at if end else None
    if end is None or end.cause is None or end.exit_code not in (0, None):
        return Gone(exit_code=0, at=at, node=node_of(pod) if pod is not None else None)
    return _gone(End(cause=end.cause, message=end.message, exit_code=0, at=at), pod)


def _gone(end: End, pod: Object | None) -> Gone:
    return Gone(
        exit_code=end.exit_code,
        signal=end.signal,
        machine_lost=end.cause in {Cause.NODE_LOST, Cause.NODE_SHUTDOWN},
        message=end.message,
        at=end.at,
        cause=end.cause,
        node=node_of(pod) if pod is not None else None,
    )


def _ended(pod: Object | None) -> Ending:
    """Hold: nothing runs any more, and the Job will say so in a moment.

    What took the pod away is noted at once: the pod itself may be gone before the Job has spoken.
    """
    disruption = disruption_of(pod) if pod is not None else None
    if pod is None or disruption is None:
        return Ending(reason=None)
    return Ending(reason=disruption[0], message=disruption[1], handle=described(pod))


def _ending(job: Object, target: Object, past: _Past, pod: Object) -> Ending:
    """Hold: a container that is told to end may still report `done`, and the Job has the word."""
    handle = described(pod)
    if (noted := past.named_ending) is not None:  # the first cause stays
        return Ending(reason=noted.cause, message=noted.message, handle=handle)
    if (disruption := disruption_of(pod)) is not None:
        return Ending(reason=disruption[0], message=disruption[1], handle=handle)
    if text(target, "reason") == DEADLINE:
        message = f"{text(target, 'message')}; {handle} is being ended."
        return Ending(reason=Cause.DEADLINE_EXCEEDED, message=message, handle=handle)
    if not is_deleting(job) and not is_deleting(pod):  # it has ended, as we are about to hear
        return Ending(reason=None)
    what = f"Job {name_of(job)}" if is_deleting(job) else handle
    message = f"{what} is being deleted; the pod has {grace_seconds(pod)} s to end."
    reason = _deletion(past) if is_deleting(job) else "pod_deleting"
    return Ending(reason=reason, message=message, handle=handle)


def _deletion(past: _Past) -> str:
    """Return whose deletion it is: the log knows of ours."""
    return "deletion_sent" if past.ours else "job_deleted"


def _blocked(look: Look, last: Object | None) -> Waiting | None:
    said = refusal_since(look, last)
    if said is None:
        return None
    return Waiting(reason="pod_create_blocked", message=said, sent_back=last is not None)


def _given_up(pod: Object, limit: float) -> Gone:
    if is_out_of_sight(pod):
        cause, words = Cause.NODE_LOST, "Its node does not answer"
    else:
        cause, words = Cause.STUCK_TERMINATING, "It does not end"
    message = f"{words}: {described(pod)} was to be gone within {limit:g} s and is given up."
    return Gone(
        cause=cause,
        message=message,
        machine_lost=cause is Cause.NODE_LOST,
        node=node_of(pod),
    )


def _identity(look: Look, past: _Past, pod: Object | None) -> Identity | None:
    uid = uid_of(look.job) if look.job is not None else past.uid
    if not uid:
        return None
    handle = f"Job {name_of(look.job)}" if look.job is not None else "The Job"
    seen = [version_of(look.job) if look.job is not None else "gone"]
    if pod is not None:
        seen += [uid_of(pod), "gone" if uid_of(pod) in look.gone else version_of(pod)]
    pod_uid = uid_of(pod) if pod is not None else None
    return Identity(uid=uid, handle=handle, pod=pod_uid or None, version="/".join(seen))


def _identified(seen: Waiting | Alive | Ending | Gone, identity: Identity) -> Sighting:
    return replace(seen, identity=identity)
