"""What the writer knows from its last batch: where the log ends, and how jobs stand there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.writing import Head, StoredJob, Writer

MOST_JOBS = 5_000
MOST_MISSED = 10_000
FRESH_SECONDS = 1.0


@dataclass(slots=True)
class Heads:
    """The end of the log and jobs that were written lately; an append finds out if it is true."""

    _head: Head | None = None
    _read_at: float = 0.0
    """When, by our monotonic clock, the database told its time."""
    _jobs: dict[int, StoredJob] = field(default_factory=dict)

    def head(self) -> Head | None:
        """Return where the log should end, unless that is too long ago to be worth trying.

        Its time is the database's, moved on by what has passed here since it was told.
        """
        passed = time.monotonic() - self._read_at
        if self._head is None or passed > FRESH_SECONDS:
            return None
        return replace(self._head, now=self._head.now + timedelta(seconds=passed))

    async def read(self, writer: Writer) -> tuple[Head, bool]:
        """Ask where the log ends; return it, and whether another process has written since."""
        head = await writer.head()
        known, self._head, self._read_at = self._head, head, time.monotonic()
        if known is None or known.generation != head.generation:
            self._jobs.clear()
            return head, False
        if known.position == head.position:
            return head, False
        if 0 < head.position - known.position <= MOST_MISSED:
            for job_id in await writer.changed_jobs(known.position):
                self._jobs.pop(job_id, None)
        else:
            self._jobs.clear()
        return head, True

    def advance(self, head: Head, now: datetime, changed: Mapping[int, StoredJob]) -> None:
        """Take over what was just written, up to this head, and what time it is now."""
        self._head, self._read_at = replace(head, now=max(now, head.now)), time.monotonic()
        for job_id, job in changed.items():
            self._jobs.pop(job_id, None)
            self._jobs[job_id] = job
        while len(self._jobs) > MOST_JOBS:
            self._jobs.pop(next(iter(self._jobs)))

    def forget(self) -> None:
        """Know nothing any more."""
        self._head = None
        self._jobs.clear()

    async def jobs(self, writer: Writer, job_ids: Iterable[int]) -> dict[int, StoredJob]:
        """Return these jobs as they stand, as far as they exist."""
        asked = set(job_ids)
        known = {job_id: self._jobs[job_id] for job_id in asked & self._jobs.keys()}
        missing = asked - known.keys()
        return {**known, **await writer.jobs(missing)} if missing else known
