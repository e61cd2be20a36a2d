"""The executor that launches nothing: Slurm, a notebook or a test starts the trainer."""

from __future__ import annotations

from projections.sighting import Sighting, Unseen
from service.executor import Launch


class ExternalExecutor:
    """Leaves every attempt to somebody else, and can see none of them."""

    name = "external"
    place = "external"

    def check(self) -> None:
        """Nothing here can be missing."""

    async def free_slots(self) -> int | None:
        """No limit: whoever launches has its own."""
        return None

    async def launch(self, launch: Launch) -> None:
        """Do nothing: the callback token goes to whoever starts the trainer."""

    async def observe(self, job_id: int, attempt: int) -> Sighting:  # noqa: ARG002 - the port's
        """Unseen, always; callbacks alone say that it lives."""
        return Unseen()

    async def stop(self, job_id: int, attempt: int, *, force: bool) -> None:
        """Do nothing: the trainer hears of it in the answer to its next callback."""

    async def logs(  # the port's arguments: there is nothing to look up by them
        self,
        job_id: int,  # noqa: ARG002
        attempt: int,  # noqa: ARG002
        tail: int | None,  # noqa: ARG002
    ) -> str | None:
        """None: the output is wherever the launcher keeps it."""
        return None

    async def close(self) -> None:
        """Nothing is held."""
