"""What can end an attempt besides its own word, and what each of it means for the next attempt."""

from __future__ import annotations

from enum import StrEnum

from projections.events import FailureClass


class Cause(StrEnum):
    """A named cause; the names are the reason codes of the API."""

    # The infrastructure was lost or taken away
    PREEMPTED = "preempted"
    DRAINED = "drained"
    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    NODE_SHUTDOWN = "node_shutdown"
    ADMISSION_REFUSED = "admission_refused"
    # The training, its limits or somebody else
    OOM_KILLED = "oom_killed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    KILLED = "killed"
    EXIT_NONZERO = "exit_nonzero"
    START_ERROR = "start_error"
    POD_FAILURE_POLICY = "pod_failure_policy"
    JOB_VANISHED = "job_vanished"
    STUCK_TERMINATING = "stuck_terminating"
    POD_DELETED = "pod_deleted"
    POD_FAILED = "pod_failed"
    # It never starts like this
    IMAGE_PULL_BACKOFF = "image_pull_backoff"
    INVALID_IMAGE_NAME = "invalid_image_name"
    CONFIG_ERROR = "config_error"
    CONTAINER_ERROR = "container_error"
    START_TIMEOUT = "start_timeout"
    LAUNCH_REFUSED = "launch_refused"


INTERRUPTIONS = frozenset(
    {
        Cause.PREEMPTED,
        Cause.DRAINED,
        Cause.EVICTED,
        Cause.NODE_LOST,
        Cause.NODE_SHUTDOWN,
        Cause.ADMISSION_REFUSED,
    }
)
ENDS_OF_CONTAINERS = frozenset(
    {Cause.OOM_KILLED, Cause.EXIT_NONZERO, Cause.KILLED, Cause.START_ERROR}
)
"""How the trainer's own container may end badly, whatever becomes of its pod."""
TRAINER_ENDED = "trainer_ended"
"""The log's word for a trainer that ended with 0 in a pod in which others run on."""
_FINAL = frozenset({Cause.INVALID_IMAGE_NAME, Cause.CONFIG_ERROR, Cause.LAUNCH_REFUSED})


def class_of(cause: str) -> FailureClass:
    """Return what a cause means for the next attempt; one that only a newer build knows may pass.

    Losing a node, or the place on it, is no fault of the training. A name or a configuration that
    cannot work would fail again. Everything else may go better the next time.
    """
    if cause in INTERRUPTIONS:
        return FailureClass.INTERRUPTION
    return FailureClass.FATAL if cause in _FINAL else FailureClass.RETRYABLE
