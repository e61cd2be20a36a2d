"""A fleet with a random past, made by a real service, and how it stood at each position."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from projections.decide import (
    Command,
    CreateJob,
    IssueToken,
    Observe,
    Report,
    ReportCallbacks,
    RequestCancel,
)
from projections.events import Callback, Created, Done, Heartbeat, Record, TrainerEvent
from projections.job import JobState, stands_alike
from projections.sighting import Alive
from projections.status import evolve
from service.errors import JobIsFinalError
from service.event_log import EventLog

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Past:
    """Lets jobs do this and that; what follows from it the service decides itself."""

    dice: random.Random
    states: dict[int, JobState] = field(default_factory=dict)

    async def happens(self, log: EventLog, *, jobs: int, commands: int) -> None:
        for number in range(commands):
            is_new = number * jobs // commands >= len(self.states)
            job_id, command = (None, self._request()) if is_new else self._deed()
            try:
                outcome = await log.handle(job_id, command)
            except JobIsFinalError:
                continue
            self.states[outcome.state.id] = outcome.state

    def _request(self) -> CreateJob:
        labels = {"team": self.dice.choice(["red", "blue"])}
        return CreateJob(
            created=Created(dataset_id="d", model_name="m", epochs=90, max_retries=1, labels=labels)
        )

    def _deed(self) -> tuple[int, Command]:
        state = self.dice.choice(list(self.states.values()))
        attempt = max(1, state.attempt - self.dice.choice([0, 0, 1]))
        match self.dice.randint(0, 40):
            case 0:
                return state.id, RequestCancel()
            case 1:
                return state.id, IssueToken(attempt=attempt, jti="j", expires_at="never")
            case 2 | 3 | 4:
                alive = Alive(handle="pod a", since=SINCE)
                return state.id, Observe(attempt=attempt, sighting=alive)
            case 5 | 6:
                word = Done(status=self.dice.choice(["succeeded", "failed"]))
                return state.id, _says(attempt, word)
            case 7 | 8 | 9:
                note = TrainerEvent(type="note", data={"epoch": 99})
                return state.id, _says(attempt, note, Heartbeat())
            case _:
                return state.id, _says(attempt, *self._epoch(state.progress.epoch + 1))

    def _epoch(self, epoch: int) -> list[Callback]:
        metrics = {"loss": 1 / epoch}
        beat = Heartbeat(epoch=epoch, epochs=90, batch=self.dice.randint(1, 9), metrics=metrics)
        ended = TrainerEvent(type="epoch_end", data={"epoch": epoch, "metrics": metrics})
        return [beat, ended] if self.dice.random() < 0.5 else [beat]


def _says(attempt: int, *callbacks: Callback) -> ReportCallbacks:
    reports = tuple(Report(event=callback) for callback in callbacks)
    return ReportCallbacks(attempt=attempt, reports=reports)


@dataclass(frozen=True, slots=True)
class Stand:
    """A job at a position, and since when it stood like this."""

    state: JobState
    since: datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet after an event."""

    record: Record
    jobs: Mapping[int, Stand]


def moments(records: list[Record]) -> Iterator[Moment]:
    """Fold every job up to each position of the log, in its order."""
    jobs: dict[int, Stand] = {}
    for record in records:
        before = jobs.get(record.job_id, Stand(JobState(), record.recorded_at))
        state = evolve(before.state, record)
        same = before.state.exists and stands_alike(before.state, state)
        stand = Stand(state, before.since if same else record.recorded_at)
        jobs = {**jobs, record.job_id: stand}
        yield Moment(record, jobs)
