"""What follows from a job's state as time passes: the supervisor's rules, one function each."""

from __future__ import annotations

from datetime import datetime

from projections.causes import ENDS_OF_CONTAINERS, TRAINER_ENDED
from projections.events import (
    AttemptFailed,
    Cancelled,
    Event,
    Failed,
    FailureClass,
    HealthChanged,
    RetryScheduled,
    StopRequested,
    Succeeded,
)
from projections.failures import failure_from_exit, failure_from_result, failure_from_stop
from projections.health import ALARMING, Verdict, assess, recorded_verdict, silent_seconds
from projections.job import Cancel, Exit, JobState, JobStatus, Result
from projections.policy import Moment, Policy
from projections.rules import Rule


def next_decision(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    """Return the one decision that is due now, or None; the first rule that speaks wins."""
    if not state.exists or state.status.is_final or _all_is_well(state, moment, policy):
        return None
    for rule in (
        _after_failure,
        _by_result,
        _by_exit,
        _by_cancel,
        _by_stop,
        _by_ended_trainer,
        _by_waiting,
        _by_queue_timeout,
        _by_silence,
        _by_verdict,
    ):
        decision = rule(state, moment, policy)
        if decision is not None:
            return decision
    return None


def _all_is_well(state: JobState, moment: Moment, policy: Policy) -> bool:
    """Return whether this is a training that has just called back: then no rule has to be asked."""
    if state.status is not JobStatus.RUNNING or state.alive_at != moment.now:
        return False
    if state.failure or state.result or state.exit or state.cancel or state.stop:
        return False
    if moment.unreachable or state.verdict in ALARMING or state.advanced_at is None:
        return False
    return (moment.now - state.advanced_at).total_seconds() < policy.stall_timeout


def retry_delay(tries: int, policy: Policy) -> float:
    """Return the seconds to wait before the next attempt, after so many tries before."""
    return float(min(policy.retry_backoff * 2.0 ** min(tries, 30), policy.retry_backoff_cap))


def _after_failure(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    failure = state.failure
    if failure is None:
        return None
    because = (*failure.because, state.failure_at)
    if state.cancel is not None:
        return _cancelled(state, (state.cancel.position, *because))
    rule = _refusal(state, failure, policy)
    if rule is not None:
        return Failed(reason=failure.reason, message=failure.message, why=rule, because=because)
    return _retry(state, failure, policy, because)


def _refusal(state: JobState, failure: AttemptFailed, policy: Policy) -> Rule | None:
    """Return the rule that forbids another attempt, if one does."""
    match failure.failure_class:
        case FailureClass.FATAL if failure.reason == Rule.QUEUE_TIMEOUT:
            return Rule.QUEUE_TIMEOUT
        case FailureClass.FATAL:
            return Rule.NOT_RETRYABLE
        case FailureClass.INTERRUPTION if state.interruptions >= policy.max_interruptions:
            return Rule.INTERRUPTIONS_SPENT
        case FailureClass.RETRYABLE if state.retry_count >= state.max_retries:
            return Rule.RETRIES_SPENT
        case _:
            return None


def _retry(
    state: JobState, failure: AttemptFailed, policy: Policy, because: tuple[int, ...]
) -> RetryScheduled:
    interrupted = failure.failure_class is FailureClass.INTERRUPTION
    delay = retry_delay(state.retry_count + state.interruptions, policy)
    resume = f"from {state.checkpoint}" if state.checkpoint else "from the beginning"
    return RetryScheduled(
        reason="retry_scheduled",
        message=f"Attempt {state.attempt + 1} follows, {resume}: {failure.message}",
        failure_class=failure.failure_class,
        next_attempt=state.attempt + 1,
        retry_count_before=state.retry_count,
        retry_count_after=state.retry_count + (not interrupted),
        max_retries=state.max_retries,
        interruptions_before=state.interruptions,
        interruptions_after=state.interruptions + interrupted,
        max_interruptions=policy.max_interruptions,
        delay_seconds=delay,
        checkpoint=state.checkpoint,
        because=because,
    )


def _by_result(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    result = state.result
    if result is None:
        return None
    if result.succeeded and not result.after_cancel:
        return Succeeded(because=(result.position,))
    if _awaits_its_cause(state, result, moment.now, policy):
        return None
    if state.cancel is None:
        return failure_from_result(state, result)
    # A cancelled job ends when its process is gone; nobody can see one that somebody else started.
    if state.executor is None:
        return _cancelled(state, (state.cancel.position, result.position))
    return None


def _awaits_its_cause(state: JobState, result: Result, now: datetime, policy: Policy) -> bool:
    """Return whether a trainer was ended from outside and its cluster has still to say by what."""
    told = result.error.get("code") == "terminated" and state.uid is not None
    if not told or state.exit is not None or state.stop is not None or state.cancel is not None:
        return False
    return state.alive_at is not None and (now - state.alive_at).total_seconds() < policy.done_grace


def _by_exit(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    seen = state.exit
    if seen is None or not _settled(state, seen, moment.now, policy):
        return None
    if state.cancel is not None:
        return _cancelled(state, (state.cancel.position, seen.position))
    if state.stop is not None:
        return failure_from_stop(state.stop, seen)
    at_its_end = Moment(now=seen.at, listening_since=moment.listening_since)
    silent = silent_seconds(state, at_its_end) >= policy.heartbeat_timeout
    return failure_from_exit(seen, silent=silent, epoch=state.attempt_progress.epoch)


def _settled(state: JobState, seen: Exit, now: datetime, policy: Policy) -> bool:
    """Return whether a `done` that the process sent before its end must have arrived by now."""
    heard_of_cancel = state.cancel is not None and state.cancel.delivered is not None
    if state.result is not None or heard_of_cancel:  # a `done` could not change the end any more
        return True
    by_itself = seen.exit_code == 0
    wait = policy.done_grace if by_itself else min(policy.done_grace, policy.exit_settle)
    return (now - seen.at).total_seconds() >= wait


def _by_cancel(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    cancel = state.cancel
    if cancel is None or state.exit is not None:
        return None
    if not state.may_live:
        return _cancelled_unlaunched(state, cancel)
    waited = (moment.now - cancel.at).total_seconds()
    if state.executor is None:
        quiet = min(waited, silent_seconds(state, moment))
        silent = quiet >= policy.heartbeat_timeout
        return _cancelled(state, (cancel.position,)) if silent else None
    if state.stop is not None:
        return None
    if state.status is JobStatus.QUEUED and state.uid is not None:
        message = "The attempt's pod waits: there is no trainer that could end it by itself."
    elif waited >= policy.cancel_grace:
        message = f"The trainer did not end within {policy.cancel_grace:g} s of the cancel."
    else:
        return None
    return StopRequested(reason="cancel_requested", message=message, because=(cancel.position,))


def _cancelled_unlaunched(state: JobState, cancel: Cancel) -> Cancelled | None:
    """Cancel at once, unless an earlier attempt may still hold a process or pod."""
    if state.releasing is not None:
        return None
    if state.attempt > 1:
        return _cancelled(state, (cancel.position,))
    return Cancelled(
        reason="cancelled_before_launch",
        message="The job was cancelled before it was launched.",
        because=(cancel.position,),
    )


def _by_stop(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    """Give up on an attempt that was told to stop and is not seen gone."""
    stop = state.stop
    if stop is None or state.cancel or state.exit or state.ending or moment.unreachable:
        return None
    if (moment.now - stop.at).total_seconds() < 2 * policy.stop_grace:
        return None
    return failure_from_stop(stop, None)


def _by_ended_trainer(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    """End a pod in which the trainer has ended and others run on: it holds its place for nothing.

    Those that follow the trainer have their time to do so, and a `done` to arrive.
    """
    ending = state.ending
    over = state.exit or state.result or state.stop or state.cancel or moment.unreachable
    if ending is None or over or ending.reason not in (*ENDS_OF_CONTAINERS, TRAINER_ENDED):
        return None
    if (moment.now - ending.at).total_seconds() < max(policy.done_grace, policy.ending_grace):
        return None
    without_result = ending.reason == TRAINER_ENDED
    reason = "exited_without_result" if without_result else ending.reason
    return StopRequested(reason=reason, message=ending.message, because=(ending.position,))


def _by_waiting(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    """Give up on an attempt that waits for what does not come: its image, its configuration."""
    ends = state.exit or state.stop or state.cancel or moment.unreachable
    if state.status is not JobStatus.QUEUED or not state.may_live or ends:
        return None
    given_up = policy.waiting_graces.get(state.reason.code)
    if given_up is None or state.waiting_since is None:
        return None
    waited = (moment.now - state.waiting_since).total_seconds()
    if waited < given_up.seconds:
        return None
    after = f" for {given_up.seconds:g} s" if given_up.seconds else ""
    message = f"The attempt could not start{after}: {state.reason.message}"
    return StopRequested(reason=given_up.cause, message=message, because=state.decided_by)


def _by_queue_timeout(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    waits = state.status in (JobStatus.PENDING, JobStatus.QUEUED)
    ends = state.exit or state.stop or state.cancel
    if not waits or ends or policy.queue_timeout <= 0 or state.attempt_queued_at is None:
        return None
    if state.may_live and moment.unreachable:  # it may run by now
        return None
    waited = (moment.now - state.attempt_queued_at).total_seconds() - state.retry_delay
    if waited < policy.queue_timeout:
        return None
    message = f"The attempt waited longer than {policy.queue_timeout:g} s: {state.reason.message}"
    if state.may_live:
        return StopRequested(reason=Rule.QUEUE_TIMEOUT, message=message, because=state.decided_by)
    return AttemptFailed(
        reason=Rule.QUEUE_TIMEOUT,
        message=message,
        failure_class=FailureClass.FATAL,
        because=state.decided_by,
    )


def _by_silence(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    """End an attempt that has been silent for twice the timeout; silence alone is not death."""
    ends = state.exit or state.result or state.stop or state.cancel or state.ending
    if state.status is not JobStatus.RUNNING or ends or moment.unreachable:
        return None
    quiet = silent_seconds(state, moment)
    if quiet < 2 * policy.heartbeat_timeout:
        return None
    message = f"The trainer has not called back for {quiet:.0f} s."
    if state.executor is not None:
        return StopRequested(reason="heartbeat_lost", message=message, because=state.decided_by)
    return AttemptFailed(
        reason="heartbeat_lost",
        message=message,
        failure_class=FailureClass.RETRYABLE,
        because=state.decided_by,
    )


def _by_verdict(state: JobState, moment: Moment, policy: Policy) -> Event | None:
    health = assess(state, moment, policy)
    alarming = health.verdict in ALARMING
    if health.verdict == state.verdict or not (alarming or state.verdict in ALARMING):
        return None
    if health.verdict is Verdict.UNKNOWN and state.alive_at is not None:
        return None  # we cannot hear for a while: no reason to call an alarm off
    timeout = {
        Verdict.SILENT: policy.heartbeat_timeout,
        Verdict.STALLED: policy.stall_timeout,
    }.get(health.verdict)
    return HealthChanged(
        verdict=health.verdict,
        previous=recorded_verdict(state),
        alive_at=_text(health.alive_at),
        advanced_at=_text(health.advanced_at),
        timeout_seconds=timeout,
    )


def _cancelled(state: JobState, because: tuple[int, ...]) -> Cancelled:
    asked = state.cancel.reason if state.cancel and state.cancel.reason else "no reason was given"
    return Cancelled(
        reason="cancelled",
        message=f"The job was cancelled on request ({asked}).",
        because=because,
    )


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
