"""What the writer knows from its last batches: jobs as they stand at a position of the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.writing import Head, StoredJob, Writer

MOST_JOBS = 5_000
MOST_MISSED = 10_000


@dataclass(slots=True)
class Heads:
    """Jobs that were written lately; true for exactly one position of the log."""

    _position: int | None = None
    _generation: int = 0
    _jobs: dict[int, StoredJob] = field(default_factory=dict)

    def is_at(self, head: Head) -> bool:
        """Return whether nobody else has written, as far as a log that ends here tells."""
        mine = (head.position, head.generation) == (self._position, self._generation)
        return mine or self._position is None

    def forget(self) -> None:
        """Know nothing any more."""
        self._position = None
        self._jobs.clear()

    def advance(self, head: Head, changed: Mapping[int, StoredJob]) -> None:
        """Take over what was just written, up to this head."""
        self._position, self._generation = head.position, head.generation
        self._keep(changed)

    async def catch_up(self, writer: Writer, head: Head) -> None:
        """Forget the jobs that another process has written to since."""
        missed = head.position - (self._position or 0)
        rebuilt = head.generation != self._generation
        if self._position is None or rebuilt or not 0 < missed <= MOST_MISSED:
            self._jobs.clear()
        else:
            for job_id in await writer.changed_jobs(self._position):
                self._jobs.pop(job_id, None)
        self._position, self._generation = head.position, head.generation

    async def jobs(self, writer: Writer, job_ids: Iterable[int]) -> dict[int, StoredJob]:
        """Return these jobs as they stand, as far as they exist."""
        asked = set(job_ids)
        known = {job_id: self._jobs[job_id] for job_id in asked & self._jobs.keys()}
        missing = asked - known.keys()
        return {**known, **await writer.jobs(missing)} if missing else known

    def _keep(self, jobs: Mapping[int, StoredJob]) -> None:
        for job_id, job in jobs.items():
            self._jobs.pop(job_id, None)
            self._jobs[job_id] = job
        while len(self._jobs) > MOST_JOBS:
            self._jobs.pop(next(iter(self._jobs)))
