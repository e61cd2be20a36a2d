"""The port to whatever runs the trainer: a local process, Kubernetes, or somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from projections.events import Evidence
from projections.job import JobState
from projections.sighting import Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One attempt to start: which one, and the trainer's environment."""

    job_id: int
    attempt: int
    place: str = ""
    """Where: what `place_for` said when it was asked for."""
    environment: Mapping[str, str] = field(repr=False)
    """JOB_ID, CALLBACK_TOKEN and the rest; it holds secrets, so it is never printed."""


class ExecutorUnavailableError(Exception):
    """The executor cannot be asked now; the same call may work later."""


class LaunchRefusedError(Exception):
    """The executor will never start this attempt; its message says why."""


class LaunchHeldError(Exception):
    """The executor may not start this attempt now: it waits for what a code and a sentence say."""

    def __init__(self, code: str, message: str) -> None:
        """Take the reason for which it waits."""
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class News:
    """Jobs about which an executor has seen something new, for whoever waits for that."""

    _job_ids: set[int] = field(default_factory=set)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, job_ids: Iterable[int]) -> None:
        """Tell of news about these jobs."""
        self._job_ids.update(job_ids)
        if self._job_ids:
            self._came.set()

    async def take(self, seconds: float) -> set[int]:
        """Wait for news, and return the jobs concerned; none where no news came in this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return set()
        self._came.clear()
        taken, self._job_ids = self._job_ids, set()
        return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How an executor stands with one of its clusters."""

    heard_seconds_ago: float | None
    """None while it does not listen: another service leads."""
    problem: str | None
    malformed: int
    """How many objects could not be understood."""
    restarts: int
    """How often following it had to be begun anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something at a place that says of itself which attempt it was made for."""

    cluster: str
    place: str
    name: str
    uid: str
    job_name: str
    """What was launched, or by what this was made."""
    job_id: str
    trace_id: str
    log_id: str | None
    """The log that it names; None where such a thing names none."""
    lives: bool
    """Something of it runs, or may start yet."""
    ending: bool
    """Its deletion was asked for."""

    @property
    def is_job(self) -> bool:
        """Whether it was launched itself, and can be removed."""
        return self.name == self.job_name


class Executor(Protocol):
    """Starts, watches and stops attempts. Every method may be called again after a crash.

    An attempt is the job's current one, or the one before it that was not seen gone yet.
    """

    name: str
    news: News
    log_id: str
    """Which log its attempts belong to; set before it is used."""
    at_once: int
    """How many jobs it can be asked about at the same time."""

    def check(self) -> None:
        """Raise SettingsError, in one sentence, where no attempt could ever start."""

    def place_for(self, job: JobState) -> str:
        """Name where an attempt of the job would run. Raises LaunchHeldError where that is gone."""

    def sees(self, place: str) -> bool:
        """Whether it can see what runs there; all else is none of its business."""

    def problems(self) -> Mapping[str, str]:
        """Return what it cannot look at now, each with the reason."""

    def contacts(self) -> Mapping[str, Contact]:
        """Return how it stands with its clusters, by their names."""

    def finds(self) -> Mapping[str, Sequence[Found]]:
        """Return all that is at each place that it can look at now, of whatever log."""

    def launched_as(self, job_id: int, attempt: int) -> str:
        """Return the name under which it launches an attempt."""

    async def remove(self, found: Found) -> None:
        """Have something that was launched end and go, exactly this one."""

    async def clear(self, found: Found, attempt: int) -> bool:
        """Remove what may be left of something launched that is gone; False while it is there."""

    async def follow(self) -> None:
        """Keep its view of the attempts fresh, until cancelled; it may have nothing to do."""

    async def free_slots(self) -> int | None:
        """Return how many more attempts may start now; None where there is no limit."""

    async def launch(self, launch: Launch) -> None:
        """Start the attempt, at most once however often this is called.

        Raises LaunchRefusedError, LaunchHeldError or ExecutorUnavailableError.
        """

    async def observe(self, job: JobState, attempt: int, now: datetime) -> Sighting:
        """Return what can be seen of the attempt now; it never raises for an absent one."""

    async def examine(
        self, job: JobState, attempt: int, seen: Sighting
    ) -> tuple[Sighting, Evidence | None]:
        """Look closer at news: return it, perhaps with more words, and what to keep of it."""

    async def stop(self, job: JobState, attempt: int, *, force: bool) -> None:
        """Ask the attempt to end, or end it (`force`). Absent: do nothing."""

    async def logs(self, job_id: int, attempt: int, tail: int | None) -> str | None:
        """Return the attempt's output (its last `tail` lines); None where there is none."""

    def keep(self, jobs: Iterable[JobState]) -> None:
        """Forget whatever is known of others than these."""

    async def close(self) -> None:
        """Let go of what this process holds; running attempts go on."""
