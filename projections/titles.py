"""Each event in words: the title and the detail that a person reads."""

from __future__ import annotations

from typing import assert_never

from projections.events import (
    Adopted,
    AttemptFailed,
    CancelDelivered,
    Cancelled,
    CancelRequested,
    Created,
    Done,
    Evidence,
    Exited,
    Failed,
    HealthChanged,
    Heartbeat,
    Heartbeats,
    Launched,
    Queued,
    Record,
    RetryScheduled,
    Running,
    StopRequested,
    Succeeded,
    Terminating,
    TokenIssued,
    TrainerEvent,
    Unrecognised,
)
from projections.progress import completed_epoch
from projections.trainer_words import metrics_text, trainer_detail, trainer_title


def title_of(record: Record) -> str:
    """Return what happened, in a few words."""
    match record.event:
        case Created(model_name=model, dataset_id=dataset, epochs=epochs):
            return f"Created: {model} on {dataset}, {epochs} epoch{'s' * (epochs != 1)}"
        case Queued(reason=reason):
            return f"Queued ({reason})"
        case Launched(handle=handle):
            return f"{handle} was made for attempt {record.attempt}"
        case Terminating(reason=reason):
            return f"The pod is being ended ({reason})"
        case Running(handle=handle):
            return f"Attempt {record.attempt} runs" + (f" as {handle}" if handle else "")
        case Adopted(handle=handle):
            return f"Taken over after a restart of the service ({handle})"
        case Heartbeat() as event if completed_epoch(event):
            return f"Epoch {event.epoch} complete"
        case Heartbeat(epoch=epoch):
            return "Heartbeat" + (f" in epoch {epoch}" if epoch is not None else "")
        case Heartbeats(count=count, epoch=epoch):
            return f"{count} heartbeats" + (f" in epoch {epoch}" if epoch is not None else "")
        case TrainerEvent(type=name, data=data):
            return trainer_title(name, data)
        case Done(status=status):
            return f"The trainer reports: {status}"
        case Exited() as event:
            return _exit_title(event)
        case Evidence(kind=kind):
            return f"Evidence: {kind}"
        case TokenIssued():
            return f"A callback token for attempt {record.attempt} was issued"
        case CancelRequested():
            return "Cancel requested"
        case CancelDelivered():
            return "The trainer was told of the cancel"
        case StopRequested(reason=reason):
            return f"The executor was told to stop attempt {record.attempt} ({reason})"
        case HealthChanged(verdict=verdict, previous=previous):
            return f"Health: {previous} → {verdict}"
        case AttemptFailed(reason=reason):
            return f"Attempt {record.attempt} failed ({reason})"
        case RetryScheduled(next_attempt=number, delay_seconds=delay):
            return f"Attempt {number} is scheduled in {delay:g} s"
        case Succeeded():
            return "The job succeeded"
        case Failed(reason=reason):
            return f"The job failed ({reason})"
        case Cancelled():
            return "The job was cancelled"
        case Unrecognised(type=name):
            return f"An event of unknown type {name}"
        case _ as never:
            assert_never(never)


def detail_of(record: Record) -> str:
    """Return what else the event says, in one line; empty where that is nothing."""
    match record.event:
        case TrainerEvent(type=name, data=data):
            return trainer_detail(name, data)
        case Heartbeat(metrics=metrics) | Done(error=None, metrics=metrics):
            return metrics_text(metrics)
        case Done(error=dict(error)):
            return f"{error.get('code', 'error')}: {error.get('message', '')}"
        case RetryScheduled() as event:
            return (
                f"{event.message} Retries {event.retry_count_before} → {event.retry_count_after}"
                f" of {event.max_retries}, interruptions {event.interruptions_before} →"
                f" {event.interruptions_after} of {event.max_interruptions}."
            )
        case CancelRequested(reason=reason):
            return reason or ""
        case _:
            return str(getattr(record.event, "message", ""))


def _exit_title(event: Exited) -> str:
    if event.refused:
        return "The executor refused to start the attempt"
    if event.cause is not None:
        return f"The pod is gone ({event.cause})"
    if event.signal is not None:
        return f"The process was ended by signal {event.signal}"
    if event.exit_code is not None:
        return f"The process exited with code {event.exit_code}"
    return "The process is gone"
