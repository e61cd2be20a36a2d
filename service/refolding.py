"""The projections folded anew in memory, from the first event on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from projections.events import Record
from projections.job import JobState, counted, stands_alike
from projections.status import evolve
from service.writing import Span, StoredJob

_NOTHING = StoredJob(JobState(), "")


@dataclass(slots=True)
class Refold:
    """Every job as the events so far leave it; the least lately touched ones may be put away."""

    jobs: dict[int, StoredJob] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    """The jobs that are not saved as they stand."""
    spans: list[Span] = field(default_factory=list)
    """Those that are not saved yet."""
    events: int = 0

    def add(self, records: Iterable[Record]) -> None:
        """Take the next events of the log, in its order."""
        for record in records:
            before = self.jobs.pop(record.job_id, _NOTHING).state
            after = evolve(before, record)
            self.jobs[record.job_id] = StoredJob(after, record.hash)
            self.changed.add(record.job_id)
            self.events += 1
            if not stands_alike(before, after):
                self.counts = counted(self.counts, before, after)
                self.spans.append(Span(record.position, record.recorded_at, after, self.counts))

    def saved(self, job_ids: Iterable[int]) -> None:
        """Note that these jobs are stored as they stand."""
        self.changed.difference_update(job_ids)

    def put_away(self, most: int) -> None:
        """Forget stored jobs until no more than so many are known, the least touched first."""
        for job_id in list(self.jobs)[: max(len(self.jobs) - most, 0)]:
            if job_id not in self.changed:
                del self.jobs[job_id]
