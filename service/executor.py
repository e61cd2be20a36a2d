"""The port to whatever runs the trainer: a local process, Kubernetes, or somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from projections.sighting import Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One attempt to start: which one, and the trainer's environment."""

    job_id: int
    attempt: int
    environment: Mapping[str, str] = field(repr=False)
    """JOB_ID, CALLBACK_TOKEN and the rest; it holds secrets, so it is never printed."""


class ExecutorUnavailableError(Exception):
    """The executor cannot be asked now; the same call may work later."""


class LaunchRefusedError(Exception):
    """The executor will never start this attempt; its message says why."""


class Executor(Protocol):
    """Starts, watches and stops attempts. Every method may be called again after a crash."""

    name: str
    place: str
    """Names what it can see of the world; an attempt of another place is none of its business."""

    def check(self) -> None:
        """Raise SettingsError, in one sentence, where no attempt could ever start."""

    async def free_slots(self) -> int | None:
        """Return how many more attempts may start now; None where there is no limit."""

    async def launch(self, launch: Launch) -> None:
        """Start the attempt, at most once however often this is called.

        Raises LaunchRefusedError or ExecutorUnavailableError.
        """

    async def observe(self, job_id: int, attempt: int) -> Sighting:
        """Return what can be seen of the attempt now; it never raises for an absent one."""

    async def stop(self, job_id: int, attempt: int, *, force: bool) -> None:
        """Ask the attempt to end (SIGTERM), or end it (`force`: SIGKILL). Absent: do nothing."""

    async def logs(self, job_id: int, attempt: int, tail: int | None) -> str | None:
        """Return the attempt's output (its last `tail` lines); None where there is none."""

    async def close(self) -> None:
        """Let go of what this process holds; running attempts go on."""
