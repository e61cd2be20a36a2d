"""Histories of any size: what a fleet of training jobs would have made the service record.

Nothing is made up beside the rules: what trainers, pods and people did goes through the service's
own `Batch`, so that decisions, states, spans and hashes are those that it would have written. A
history is made of cohorts, jobs that run at the same time; a cohort knows beforehand at which
position it begins, and so cohorts can be made by several processes at once.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import merge
from typing import Literal

from projections.decide import (
    Command,
    CreateJob,
    Enqueue,
    Observe,
    Report,
    ReportCallbacks,
    RequestCancel,
    Tick,
)
from projections.events import Callback, Created, Done, Heartbeat, TrainerEvent
from projections.job import JobState
from projections.policy import Moment, Policy
from projections.sighting import Alive, Gone
from service.batch import Batch
from service.writing import Head

COHORT_JOBS = 100
JOB_SECONDS = 60.0  # from one job's creation to the next one's
BEAT_SECONDS = 30.0
CALLBACKS_AN_EPOCH = 10
BEATS_A_CHECKPOINT = 50

Step = tuple[float, int, Command]
"""When, of which job (0: a new one), and what."""


class Fate(StrEnum):
    """How a job's story goes."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"  # with an error that would come again
    RETRIED = "retried"  # after an error that may pass; then it succeeds
    EXHAUSTED = "exhausted"  # its one retry fails, too
    LOST = "lost"  # with its machine; then it succeeds
    CANCELLED = "cancelled"


FATES = (
    *[Fate.SUCCEEDS] * 14,
    *[Fate.RETRIED] * 2,
    Fate.LOST,
    Fate.FAILS,
    Fate.EXHAUSTED,
    Fate.CANCELLED,
)
ENDS = {Fate.FAILS: "failed", Fate.EXHAUSTED: "failed", Fate.CANCELLED: "cancelled"}
BESIDE = {
    Fate.SUCCEEDS: 6,
    Fate.FAILS: 7,
    Fate.RETRIED: 12,
    Fate.EXHAUSTED: 13,
    Fate.LOST: 11,
    Fate.CANCELLED: 7,
}
"""How many events a story has beside its callbacks: control events, decisions and last words."""
SHORTEST = 2 * max(BESIDE.values())


@dataclass(frozen=True, slots=True)
class Cohort:
    """Jobs that run at the same time, and where the log stands before them."""

    begins: datetime
    position: int
    job_id: int
    counts: dict[str, int]
    lengths: tuple[int, ...]
    """How many events each of its jobs has."""

    @property
    def events(self) -> int:
        """How many events it has in all."""
        return sum(self.lengths)

    @property
    def seconds(self) -> float:
        """How long it takes, with room to spare."""
        return len(self.lengths) * JOB_SECONDS + (max(self.lengths) + 50) * BEAT_SECONDS

    def after(self) -> dict[str, int]:
        """How many jobs have each status when it is over; 0 where some had it before."""
        numbers = range(self.job_id + 1, self.job_id + 1 + len(self.lengths))
        ended = Counter(ENDS.get(_fate(number), "succeeded") for number in numbers)
        return {"pending": 0, "queued": 0, "running": 0, **(Counter(self.counts) + ended)}


def plan(events: int, jobs: int, end: datetime) -> list[Cohort]:
    """Return the cohorts of a history of so many events of so many jobs, all over by `end`."""
    lengths = _lengths(events, jobs)
    cohorts: list[Cohort] = []
    begins, position, counts = end, 0, dict[str, int]()
    for first in range(0, jobs, COHORT_JOBS):
        cohort = Cohort(
            begins, position, first, counts, tuple(lengths[first : first + COHORT_JOBS])
        )
        cohorts.append(cohort)
        begins += timedelta(seconds=cohort.seconds)
        position, counts = position + cohort.events, cohort.after()
    return [replace(one, begins=one.begins - (begins - end)) for one in cohorts]


def _lengths(events: int, jobs: int) -> list[int]:
    """Return how many events each job has: half as many to half more than the mean."""
    mean, rest = divmod(events, jobs)
    if mean < 2 * SHORTEST:
        raise ValueError(f"a job needs {2 * SHORTEST} events on average")
    dice = random.Random(events)  # noqa: S311 - the same history every time
    lengths = [mean] * jobs
    for one in range(0, jobs - 1, 2):
        shift = dice.randint(0, mean // 2)
        lengths[one] += shift
        lengths[one + 1] -= shift
    lengths[-1] += rest
    return lengths


def _fate(job_id: int) -> Fate:
    return FATES[job_id * 7 % len(FATES)]


def make(cohort: Cohort) -> Batch:
    """Return the batch that holds everything the service records of the cohort."""
    batch = Batch(
        behind=Head(
            now=cohort.begins,
            position=cohort.position,
            job_id=cohort.job_id,
            counts=cohort.counts,
            generation=1,
            term=0,
            end_position=cohort.position + cohort.events + 1,
        ),
        policy=Policy(),
        moment_of=_moment,
        jobs={},
        jobs_by_key={},
        known={},
        known_by_seq={},
    )
    stories = [_story(number, cohort) for number in range(len(cohort.lengths))]
    for seconds, job_id, command in merge(*stories, key=lambda step: step[0]):
        batch.behind = replace(batch.behind, now=cohort.begins + timedelta(seconds=seconds))
        batch.apply(job_id or None, command)
    planned = (cohort.position + cohort.events, cohort.after())
    if (written := (batch.position, batch.counts)) != planned:
        raise RuntimeError(f"by the rules the cohort ends at {written}, not at {planned}")
    return batch


def _moment(_state: JobState, now: datetime) -> Moment:
    return Moment(now=now, listening_since=now, reachable_at=now)


def _story(number: int, cohort: Cohort) -> Iterator[Step]:
    """Yield the steps of one job of the cohort, by its fate."""
    job_id = cohort.job_id + number + 1
    fate = _fate(job_id)
    attempts = 2 if fate in {Fate.RETRIED, Fate.EXHAUSTED, Fate.LOST} else 1
    said = cohort.lengths[number] - BESIDE[fate]
    second = said // 2 if attempts == 2 else 0
    steps = _Steps(job_id, number * JOB_SECONDS, cohort.begins)
    yield steps.at(CreateJob(created=_created(job_id)), new=True)
    for attempt, callbacks in enumerate((said - second, second)[:attempts], start=1):
        yield from _attempt(steps, attempt, callbacks, fate, last=attempt == attempts)


def _attempt(
    steps: _Steps, attempt: int, callbacks: int, fate: Fate, *, last: bool
) -> Iterator[Step]:
    yield steps.at(
        Enqueue(
            attempt=attempt,
            reason="submitted",
            message="The cluster was asked to start a pod.",
            executor="kubernetes",
            place="bench",
        )
    )
    pod = f"train-{steps.job_id}-{attempt}"
    yield steps.at(Observe(attempt=attempt, sighting=Alive(handle=pod, since=steps.now)))
    for number in range(callbacks):
        yield steps.says(attempt, _callback(number, callbacks))
    yield from _ending(steps, attempt, fate, last=last)


def _ending(steps: _Steps, attempt: int, fate: Fate, *, last: bool) -> Iterator[Step]:
    """Yield how an attempt ends, and what is seen of its pod then."""
    gone = Gone(exit_code=1)
    match fate:
        case Fate.LOST if not last:
            gone = Gone(signal=9, machine_lost=True)
        case Fate.FAILS:
            yield steps.says(attempt, _done("failed", "bad_dataset", retryable=False))
        case Fate.EXHAUSTED:
            yield steps.says(attempt, _done("failed", "cuda_out_of_memory", retryable=True))
        case Fate.RETRIED if not last:
            yield steps.says(attempt, _done("failed", "cuda_out_of_memory", retryable=True))
        case Fate.CANCELLED:
            yield steps.at(RequestCancel(reason="The loss went up."))
            yield steps.says(attempt, _done("failed", "cancelled", retryable=False))
        case _:
            gone = Gone(exit_code=0)
            yield steps.says(attempt, _done("succeeded"))
    yield steps.at(Observe(attempt=attempt, sighting=gone))
    yield steps.at(Tick())


@dataclass(slots=True)
class _Steps:
    """The clock and the numbering of one job's story."""

    job_id: int
    seconds: float
    begins: datetime
    seq: int = 0

    @property
    def now(self) -> datetime:
        return self.begins + timedelta(seconds=self.seconds)

    def at(self, command: Command, *, new: bool = False) -> Step:
        """Let the next thing happen."""
        step = (self.seconds, 0 if new else self.job_id, command)
        self.seconds += BEAT_SECONDS if new else 7.0
        return step

    def says(self, attempt: int, callback: Callback) -> Step:
        """Let the trainer call back."""
        self.seq += 1
        report = Report(
            event=callback,
            event_id=str(uuid.UUID(int=0x019F << 112 | 0x7 << 76 | 0x2 << 62 | self._number())),
            seq=self.seq,
            occurred_at=self.now - timedelta(milliseconds=3),
        )
        step = (self.seconds, self.job_id, ReportCallbacks(attempt=attempt, reports=(report,)))
        self.seconds += BEAT_SECONDS
        return step

    def _number(self) -> int:
        return self.job_id << 24 | self.seq


def _created(job_id: int) -> Created:
    return Created(
        dataset_id=f"dataset-{job_id % 50}",
        model_name=("yolov8n", "yolov8s", "yolo11m")[job_id % 3],
        epochs=100,
        max_retries=1,
        labels={"team": f"team-{job_id % 7}", "purpose": "bench"},
        params={"optimizer": "AdamW", "lr0": 0.01},
    )


def _callback(number: int, of: int) -> Callback:
    """Return what the trainer says for the n-th time: its batches, and each epoch's end."""
    epoch, part = divmod(number, CALLBACKS_AN_EPOCH)
    metrics = {"loss": round(4 / (number + 1), 5), "mAP50": round(number / (number + 50), 5)}
    if number % BEATS_A_CHECKPOINT == BEATS_A_CHECKPOINT - 2:
        uri = f"s3://bench/checkpoints/epoch-{epoch + 1}.pt"
        return TrainerEvent(type="checkpoint_saved", data={"epoch": epoch + 1, "uri": uri})
    if part == CALLBACKS_AN_EPOCH - 1:
        data = {"epoch": epoch + 1, "epochs": 100, "metrics": metrics, "seconds": 300.0}
        return TrainerEvent(type="epoch_end", data=data)
    return Heartbeat(
        epoch=epoch + 1,
        epochs=100,
        progress=round(number / of, 6),
        batch=part * 10,
        batches=100,
        metrics=metrics,
        gpu={"utilization": 90 + number % 10, "memory_mb": 21_000},
    )


def _done(
    status: Literal["succeeded", "failed"], code: str = "", *, retryable: bool = False
) -> Done:
    if status == "succeeded":
        artifact = {"name": "best.pt", "uri": "s3://bench/checkpoints/best.pt"}
        return Done(status=status, artifacts=(artifact,), metrics={"mAP50": 0.9})
    error = {"code": code, "message": f"The training ended: {code}.", "retryable": retryable}
    return Done(status=status, error=error)
