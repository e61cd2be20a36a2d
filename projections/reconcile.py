"""What a cluster shows of an attempt: one pure function of its Job, its pods, the log and the time.

The Job's own terminal condition says that an attempt is over, and the last that was seen of its pod
says why. Success never comes from here: only from the trainer's `done`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from projections.causes import Cause
from projections.job import JobState
from projections.objects import (
    Object,
    condition,
    is_deleting,
    name_of,
    newest,
    part,
    text,
    uid_of,
    version_of,
)
from projections.pods import (
    End,
    described,
    disruption_of,
    end_of,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that a cluster shows of one attempt."""

    job: Object | None
    """None where it was confirmed that there is none of the attempt's uid."""
    pods: Sequence[Object] = ()
    """The pods of that Job, in the last version that was seen of each."""
    gone: frozenset[str] = frozenset()
    """The uids of those among them that are not there any more."""
    warnings: Sequence[Object] = ()
    """Core Events about the Job, the newest last."""


def sight(look: Look, state: JobState, now: datetime, policy: Policy) -> Sighting:
    """Return what the look says of the job's current attempt; the first row that fits wins."""
    return _sight(look, state, _ending_since(state), now, policy)


def sight_of_released(look: Look, state: JobState, now: datetime, policy: Policy) -> Sighting:
    """Return what the look says of the attempt before, which may hold its place for a while yet."""
    return _sight(look, state, state.attempt_queued_at, now, policy)


def _sight(
    look: Look, state: JobState, ending_since: datetime | None, now: datetime, policy: Policy
) -> Sighting:
    pod = newest(look.pods)
    identity = _identity(look, state, pod)
    seen = _absent(look, state, pod) if look.job is None else _present(look, look.job, state, pod)
    if isinstance(seen, Ending) and pod is not None and ending_since is not None:
        limit = grace_seconds(pod) + policy.ending_grace
        if seen.reason is not None and (now - ending_since).total_seconds() >= limit:
            seen = _given_up(pod, limit)
    if isinstance(seen, Unseen) or identity is None:
        return seen
    return _identified(seen, identity)


def _present(look: Look, job: Object, state: JobState, pod: Object | None) -> _Seen:
    if failed := condition(job, "Failed"):
        return _failed(failed, pod)
    if condition(job, "Complete"):
        return _completed(pod)
    lives = pod is not None and uid_of(pod) not in look.gone and not has_ended(pod)
    if (target := condition(job, "FailureTarget")) or is_deleting(job):
        return _ending(job, target, state, pod if lives else None)
    if condition(job, "Suspended") or part(job, "spec").get("suspend") is True:
        message = "The Job is suspended: it waits to be admitted, or was sent back to the queue."
        return Waiting(reason="suspended", message=message, suspended=True)
    if pod is None or not lives:
        return _without_pod(look, pod)
    if is_deleting(pod) or disruption_of(pod):
        return _ending(job, target, state, pod)
    if phase_of(pod) == "Running":
        return Alive(handle=described(pod), since=running_since(pod))
    reason, message = waits_for(pod, state.reason.code)
    return Waiting(reason=reason, message=message)


def _absent(look: Look, state: JobState, pod: Object | None) -> _Seen:
    """There is no Job of the attempt's uid: whoever deleted it, it is not made again."""
    if pod is None:
        return Unseen() if state.uid is None else _vanished()
    if uid_of(pod) not in look.gone and not has_ended(pod):
        message = f"The Job was deleted, and {described(pod)} is on its way to its end."
        return Ending(reason=_deletion(state), message=message, handle=described(pod))
    end = end_of(pod)
    return _vanished(pod) if end is None else _gone(end, pod)


def _vanished(pod: Object | None = None) -> Gone:
    message = "The Job is not there any more, and nobody saw how its pod ended."
    node = node_of(pod) if pod is not None else None
    return Gone(cause=Cause.JOB_VANISHED, message=message, node=node)


def _failed(failed: Object, pod: Object | None) -> Gone:
    """Say why: the Job itself knows of deadlines and policies, of all else only its pod."""
    reason, message = text(failed, "reason"), text(failed, "message")
    end = end_of(pod) if pod is not None else None
    if reason in {"DeadlineExceeded", "PodFailurePolicy"}:
        deadline = reason == "DeadlineExceeded"
        words = f"{message.rstrip('.')} (its time in the queue counts)." if deadline else message
        cause = Cause.DEADLINE_EXCEEDED if deadline else Cause.POD_FAILURE_POLICY
        end = End(
            cause=cause,
            message=words,
            exit_code=end.exit_code if end and end.exit_code else None,
            signal=end.signal if end else None,
        )
    if end is None:
        end = _unseen_end(pod, message or reason)
    return _gone(end, pod)


def _unseen_end(pod: Object | None, said: str) -> End:
    if pod is not None and is_deleting(pod):
        words = f"{described(pod).capitalize()} was deleted before its container had run."
        return End(cause=Cause.POD_DELETED, message=words)
    words = f"The Job failed and nothing was seen of how its pod ended: {said}"
    return End(cause=Cause.POD_FAILED, message=words)


def _completed(pod: Object | None) -> Gone:
    """Its container said 0, which is no `done`; what had come over the pod is told."""
    end = end_of(pod) if pod is not None else None
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


def _ending(job: Object, target: Object, state: JobState, pod: Object | None) -> Ending:
    """Hold: a container that is told to end may still report `done`, and the Job has the word."""
    if pod is None:  # nothing runs any more, and the Job will say so in a moment
        return Ending(reason=None)
    handle = described(pod)
    if (disruption := disruption_of(pod)) is not None:
        return Ending(reason=disruption[0], message=disruption[1], handle=handle)
    if target:
        deadline = text(target, "reason") == "DeadlineExceeded"
        code = Cause.DEADLINE_EXCEEDED if deadline else "job_failing"
        message = f"{text(target, 'message') or 'The Job is failing'}; {handle} is being ended."
        return Ending(reason=code, message=message, handle=handle)
    what = f"Job {name_of(job)}" if is_deleting(job) else handle
    message = f"{what} is being deleted; the pod has {grace_seconds(pod)} s to end."
    reason = _deletion(state) if is_deleting(job) else "pod_deleting"
    return Ending(reason=reason, message=message, handle=handle)


def _deletion(state: JobState) -> str:
    """Return whose deletion it is: the log knows of ours."""
    ours = state.stop is not None or state.status.is_final
    return "deletion_sent" if ours else "job_deleted"


def _without_pod(look: Look, pod: Object | None) -> _Seen:
    """No pod runs: it has ended and the Job has not said so, or it was not made yet."""
    if pod is not None and has_ended(pod):
        return Ending(reason=None)
    for warning in reversed(look.warnings):
        if text(warning, "reason") == "FailedCreate":
            said = text(warning, "message") or "The cluster refuses to make the pod."
            return Waiting(reason="pod_create_blocked", message=said)
    return Waiting(reason=None)


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


def _ending_since(state: JobState) -> datetime | None:
    return state.ending.at if state.ending is not None else None


def _identity(look: Look, state: JobState, pod: Object | None) -> Identity | None:
    uid = uid_of(look.job) if look.job is not None else state.uid
    if not uid:
        return None
    handle = f"Job {name_of(look.job)}" if look.job is not None else "The Job"
    seen = [version_of(look.job) if look.job is not None else "gone"]
    if pod is not None:
        seen += [uid_of(pod), "gone" if uid_of(pod) in look.gone else version_of(pod)]
    return Identity(uid=uid, handle=handle, version="/".join(seen))


def _identified(seen: Waiting | Alive | Ending | Gone, identity: Identity) -> Sighting:
    return replace(seen, identity=identity)
