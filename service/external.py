"""The executor that launches nothing: Slurm, a notebook or a test starts the trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from projections.events import Evidence
from projections.job import JobState
from projections.sighting import Sighting, Unseen
from service.executor import Contact, Found, Launch, News


class ExternalExecutor:
    """Leaves every attempt to somebody else, and can see none of them."""

    name = "external"
    at_once = 32

    def __init__(self) -> None:
        """Have nothing to tell."""
        self.news = News()
        self.log_id = ""

    def check(self) -> None:
        """Nothing here can be missing."""

    async def free_slots(self) -> int | None:
        """No limit: whoever launches has its own."""
        return None

    async def launch(self, launch: Launch) -> None:
        """Do nothing: the callback token goes to whoever starts the trainer."""

    def place_for(self, job: JobState) -> str:
        """Wherever somebody else starts it."""
        return "external"

    def sees(self, place: str) -> bool:
        """Only what nobody can see."""
        return place == "external"

    def problems(self) -> Mapping[str, str]:
        """None: it never looks."""
        return {}

    def contacts(self) -> Mapping[str, Contact]:
        """There is no cluster."""
        return {}

    def finds(self) -> Mapping[str, Sequence[Found]]:
        """Nothing: it never looks."""
        return {}

    def launched_as(self, job_id: int, attempt: int) -> str:
        """Return a name for people: nothing is found by it."""
        return f"job-{job_id}/attempt-{attempt}"

    async def remove(self, found: Found) -> None:
        """Nothing was found."""

    async def clear(self, found: Found, attempt: int) -> bool:
        """Nothing was found."""
        return True

    async def follow(self) -> None:
        """There is nothing to follow."""

    async def observe(
        self,
        job: JobState,
        attempt: int,
        now: datetime,
    ) -> Sighting:
        """Unseen, always; callbacks alone say that it lives."""
        return Unseen()

    async def examine(
        self,
        job: JobState,
        attempt: int,
        seen: Sighting,
    ) -> tuple[Sighting, Evidence | None]:
        """There is nothing to look at closer."""
        return seen, None

    async def stop(self, job: JobState, attempt: int, *, force: bool) -> None:
        """Do nothing: the trainer hears of it in the answer to its next callback."""

    async def logs(  # the port's arguments: there is nothing to look up by them
        self,
        job_id: int,
        attempt: int,
        tail: int | None,
    ) -> str | None:
        """None: the output is wherever the launcher keeps it."""
        return None

    def keep(self, jobs: Iterable[JobState]) -> None:
        """Nothing is known of any."""

    async def close(self) -> None:
        """Nothing is held."""
