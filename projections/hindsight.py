"""A job's events at the moments at which they happened, whenever they were recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
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
    Positions,
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


def in_hindsight(records: Iterable[Record], until: datetime) -> list[Record]:
    """Return what had happened by a moment, in that order, each event recorded as it happened.

    Takes all that is known of a job today, in the log's order. What a fold makes of the answer is
    what was true then; what it makes of the log up to then is what was believed.
    """
    moments = _Moments()
    happened = [replace(record, recorded_at=moments.of(record)) for record in records]
    happened = [record for record in happened if record.recorded_at <= until]
    return sorted(happened, key=lambda record: (record.recorded_at, record.position))


class _Moments:
    """When each of a job's events happened; they are asked about in the log's order."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[datetime, datetime]] = {}  # position → happened, recorded
        self._began: dict[int, datetime] = {}  # attempt → since when it could say anything

    def of(self, record: Record) -> datetime:
        moment = self._moment(record)
        self._known[record.position] = moment, record.recorded_at
        return moment

    def _moment(self, record: Record) -> datetime:
        match record.event:
            case Created():
                return self._begin(1, record.recorded_at)
            case RetryScheduled(next_attempt=attempt):
                return self._begin(attempt, record.recorded_at)
            case AttemptFailed() | Succeeded() | Failed() | Cancelled() as conclusion:
                return self._concluded(record.recorded_at, conclusion.because)
            case Queued() | CancelRequested() | CancelDelivered() | StopRequested():
                return record.recorded_at
            case TokenIssued() | HealthChanged():
                return record.recorded_at
            case Heartbeat() | TrainerEvent() | Done() | Exited() | Running() | Adopted():
                return self._seen(record)
            case Heartbeats() | Evidence() | Launched() | Terminating() | Unrecognised():
                return self._seen(record)
            case _ as never:
                assert_never(never)

    def _begin(self, attempt: int, at: datetime) -> datetime:
        return self._began.setdefault(attempt, at)

    def _seen(self, record: Record) -> datetime:
        """Believe the producer's clock, between its attempt's beginning and the recording."""
        began = self._began.get(record.attempt, record.occurred_at)
        return min(max(record.occurred_at, began), record.recorded_at)

    def _concluded(self, recorded: datetime, because: Positions) -> datetime:
        """What was concluded as soon as its last fact was known was so when that fact was."""
        grounds = [self._known[position] for position in because if position in self._known]
        at_once = any(known_at == recorded for _, known_at in grounds)
        return max(happened for happened, _ in grounds) if at_once else recorded
