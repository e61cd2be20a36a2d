"""A job that was brought in from another log: here it can be looked at, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from projections.job import JobState
from projections.policy import Moment


@dataclass(frozen=True, slots=True)
class Imported:
    """The job that `epochlog import` brought into this log."""

    job_id: int
    log_id: str
    """The log that it comes from."""
    last_position: int
    """Up to here this log holds that job and nothing else."""
    moment: Moment
    """When it was exported: its clock stands there, for what it did since is not known here."""

    def is_it(self, state: JobState) -> bool:
        """Return whether this is the job that was brought in."""
        return state.id == self.job_id
