"""What an attempt's end means: its reason, and whether another attempt makes sense."""

from __future__ import annotations

from typing import Any

from projections.causes import INTERRUPTIONS, Cause, class_of
from projections.events import AttemptFailed, FailureClass
from projections.job import Exit, JobState, Result, Stop
from projections.rules import Rule

SIGKILL, SIGTERM = 9, 15

_FROM_OUTSIDE = INTERRUPTIONS | {
    Cause.DEADLINE_EXCEEDED,
    Cause.JOB_VANISHED,
    Cause.POD_DELETED,
    Cause.STUCK_TERMINATING,
}
"""What ends a trainer by a signal, and is the reason for its end."""

# A process ended by signal N may also be reported as exit code 128 + N, as shells and pods do.
_BY_SIGNAL = {128 + SIGKILL: SIGKILL, 128 + SIGTERM: SIGTERM}


def failure_from_result(state: JobState, result: Result) -> AttemptFailed:
    """Return what a `done` that says `failed` means."""
    code = _text(result.error.get("code")) or "trainer_failed"
    message = _text(result.error.get("message")) or "The trainer reported a failure."
    if state.stop is not None and code == "terminated":
        return failure_from_stop(state.stop, None, also=(result.position,))
    if state.exit is not None and code == "terminated" and state.exit.cause in _FROM_OUTSIDE:
        return _ended_from_outside(state.exit, result)
    return AttemptFailed(
        reason=code,
        message=message,
        failure_class=_class_of(code, retryable=result.error.get("retryable") is not False),
        because=(result.position,),
    )


def _ended_from_outside(seen: Exit, result: Result) -> AttemptFailed:
    """Return what `terminated` means where the cluster says who did that."""
    reason = str(seen.cause)
    return AttemptFailed(
        reason=reason,
        message=seen.message,
        failure_class=class_of(reason),
        exit_code=seen.exit_code,
        signal=seen.signal,
        because=(result.position, seen.position),
    )


def failure_from_stop(
    stop: Stop, seen: Exit | None, *, also: tuple[int, ...] = ()
) -> AttemptFailed:
    """Return what the end of an attempt means that we stopped: the reason for which we did.

    One that was silent because its node is lost is an attempt that was lost with its node.
    """
    gone = () if seen is None else (seen.position,)
    reason, message = stop.reason, stop.message
    if seen is not None and seen.cause in INTERRUPTIONS and stop.reason == "heartbeat_lost":
        reason, message = str(seen.cause), f"{stop.message} {seen.message}".strip()
    fatal = stop.reason == Rule.QUEUE_TIMEOUT
    return AttemptFailed(
        reason=reason,
        message=message,
        failure_class=FailureClass.FATAL if fatal else class_of(reason),
        exit_code=seen.exit_code if seen else None,
        signal=seen.signal if seen else None,
        because=(stop.position, *gone, *also),
    )


def failure_from_exit(seen: Exit, *, silent: bool, epoch: int = 0) -> AttemptFailed:
    """Return what an exit without a `done` means; `silent`: after the heartbeat timeout."""
    reason, message, failure_class = _meaning(seen, silent=silent)
    if seen.cause is not None and epoch:
        message = f"{message.rstrip('.')}, in epoch {epoch}."
    return AttemptFailed(
        reason=reason,
        message=message,
        failure_class=failure_class,
        exit_code=seen.exit_code,
        signal=seen.signal,
        because=(seen.position,),
    )


def _meaning(seen: Exit, *, silent: bool) -> tuple[str, str, FailureClass]:
    signal = seen.signal or _BY_SIGNAL.get(seen.exit_code or 0)
    if seen.cause is not None and seen.exit_code != 0:
        return seen.cause, seen.message, class_of(seen.cause)
    if seen.refused:
        return "launch_refused", seen.message, FailureClass.FATAL
    if seen.machine_lost:
        message = seen.message or "The machine went away under the training."
        return "machine_lost", message, FailureClass.INTERRUPTION
    if seen.exit_code == 0:
        message = "The process ended with exit code 0 and never reported a result."
        if seen.cause is None:
            return "exited_without_result", message, FailureClass.RETRYABLE
        return "exited_without_result", f"{message} {seen.message}".strip(), class_of(seen.cause)
    if silent and (signal or seen.exit_code is None):
        message = "The process is gone after a silence longer than the heartbeat timeout."
        return "heartbeat_lost", message, FailureClass.RETRYABLE
    if signal == SIGTERM:
        return "terminated", "The process was ended by SIGTERM.", FailureClass.INTERRUPTION
    if signal is not None:
        return "killed", f"The process was killed by signal {signal}.", FailureClass.RETRYABLE
    if seen.exit_code is None:
        message = seen.message or "The process is gone and nobody saw its end."
        return "vanished", message, FailureClass.RETRYABLE
    words = f": {seen.message}" if seen.message else "."
    message = f"The process ended with exit code {seen.exit_code}{words}"
    return "exit_nonzero", message, FailureClass.RETRYABLE


def _class_of(code: str, *, retryable: bool) -> FailureClass:
    if not retryable:
        return FailureClass.FATAL
    # Somebody outside ended the process by SIGTERM: a drained node, a restart of the machine.
    return FailureClass.INTERRUPTION if code == "terminated" else FailureClass.RETRYABLE


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
