"""Whether a log is what was once written: a check in one pass over its events.

Events are taken in the order of their positions (or, for a single job, of its versions), then what
is kept beside them. Memory grows with the number of jobs, not of events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from projections.chain import GENESIS, link
from projections.events import Heartbeats, Record
from projections.findings import Fault, Finding, Findings, span
from projections.losses import Loss, Losses

ROLL_UP = Heartbeats.TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """What the read model says of a job's chain."""

    job_id: int
    version: int
    position: int
    hash: str
    first_position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayId:
    """An event id that is kept, though no event of that id stands where it says."""

    job_id: int
    version: int
    position: int
    event_id: str


@dataclass(frozen=True, slots=True)
class OtherLog:
    """A job whose history was brought in from another log, where other jobs stood between."""

    job_id: int
    last_position: int
    """Up to here, this log holds that job and nothing else."""


@dataclass(slots=True)
class Chain:
    """How far one job's chain was followed."""

    version: int = 0
    position: int = 0
    hash: str = GENESIS
    first_position: int = 0
    events: int = 0
    """How many events stand in the log; a roll-up is one, however many it stands for."""
    has_row: bool = False


@dataclass(slots=True)
class Audit:
    """Follows every job's chain at once and collects what is wrong."""

    only_job: int | None = None
    """The one job that is looked at; empty positions mean nothing then."""
    brought: OtherLog | None = None
    findings: Findings = field(default_factory=Findings)
    chains: dict[int, Chain] = field(default_factory=dict)
    position: int = 0
    events: int = 0
    rolled_up: int = 0
    """How many further events the roll-ups stand for."""
    slim: Sequence[range] | None = None
    """The positions that were archived: only there may roll-ups stand. None where nobody knows."""
    bridged: set[range] = field(default_factory=set)
    """Those of them in which one was met."""
    losses: Losses = field(default_factory=Losses)

    def chain(self, job_id: int) -> Chain:
        """Return how far a job's chain was followed; not at all where nothing of it came."""
        chain = self.chains.get(job_id)
        if chain is None:
            chain = self.chains[job_id] = Chain()
        return chain

    # Events

    def take(self, record: Record, has_id: bool | None) -> None:
        """Follow a chain to its next event; `has_id`: whether its id is kept, and rightly."""
        self._stand_at(record.position, record.job_id, record.version)
        chain = self.chain(record.job_id)
        if record.version == 1:
            chain.first_position = record.position
        chain.events += 1
        if record.type == ROLL_UP:
            self._bridge(chain, record)
        elif record.version != chain.version + 1:
            self._misplaced(chain, record)
        elif link(record, chain.hash) != record.hash:
            self._find(
                Fault.HASH_DIFFERS,
                f"{_event(record)} is not what its hash says: it was changed, or its hash was,"
                f" or the hash of version {chain.version} before it.",
                record,
            )
        if has_id is not True:
            self._miss_id(record, has_id)
        if record.version > chain.version:
            chain.version, chain.position, chain.hash = record.version, record.position, record.hash

    def take_unreadable(self, position: int, job_id: int | None, version: int | None) -> None:
        """Take a row that no build can have written."""
        self._stand_at(position, job_id, version)
        self.findings.add(
            Finding(
                fault=Fault.UNREADABLE,
                message=f"The row at position {position} cannot be an event.",
                job_id=job_id,
                version=version,
                position=position,
            )
        )

    def _stand_at(self, position: int, job_id: int | None, version: int | None) -> None:
        self.events += 1
        if self.brought is not None:
            self._stand_after(self.brought, position, job_id, version)
        if position > self.position:
            if self.only_job is None and position > self.position + 1:
                self.losses.gaps.add(range(self.position + 1, position))
            self.position = position
        elif self.only_job is None:
            self.findings.add(
                Finding(
                    fault=Fault.POSITION_REPEATED,
                    message=f"Two events stand at position {position}.",
                    job_id=job_id,
                    version=version,
                    position=position,
                )
            )

    def _stand_after(
        self, brought: OtherLog, position: int, job_id: int | None, version: int | None
    ) -> None:
        """Let the positions be empty that another log had for its other jobs, and only those."""
        if position > brought.last_position:
            self.position = max(self.position, brought.last_position)
            return
        self.position = max(self.position, position - 1)
        if job_id != brought.job_id:
            message = (
                f"Position {position} is not of job {brought.job_id}, which alone was imported."
            )
            self.findings.add(
                Finding(
                    fault=Fault.NOT_IMPORTED,
                    message=message,
                    job_id=job_id,
                    version=version,
                    position=position,
                )
            )

    def _misplaced(self, chain: Chain, record: Record) -> None:
        expected = range(chain.version + 1, record.version)
        holes = self.losses.gaps.between(chain.position, record.position)
        if expected and (holes or self.only_job is not None):
            self.losses.add(
                Loss(
                    Fault.VERSION_MISSING, record.job_id, expected, chain.position, record.position
                )
            )
        else:
            message = f"{_event(record)} stands where version {chain.version + 1} belongs."
            self._find(Fault.VERSION_MISPLACED, message, record)

    def _bridge(self, chain: Chain, record: Record) -> None:
        """Take a roll-up's hash as given, for the events that it stands for are in the archive.

        It has to begin where the chain ends, and the next event's hash has to follow from its own.
        What it says is covered by the digest of its range, not by the chain.
        """
        said = record.stored or {}
        first, count = _whole(said, "from_version"), _whole(said, "count")
        fits = first == chain.version + 1 and count == record.version - first + 1
        starts = chain.position < _whole(said, "from_position") <= record.position
        if not self._was_archived(record.position):
            message = f"{_event(record)} is a roll-up, and nothing was archived there."
            self._find(Fault.ROLL_UP_WRONG, message, record)
        elif fits and starts and count > 0:
            if not self._was_brought(record.position):  # there, gaps mean nothing
                self.rolled_up += count - 1
        else:
            message = f"{_event(record)} is a roll-up that does not follow version {chain.version}."
            self._find(Fault.ROLL_UP_WRONG, message, record)

    def _was_brought(self, position: int) -> bool:
        """Return whether this part of the log comes from another one."""
        return self.brought is not None and position <= self.brought.last_position

    def _was_archived(self, position: int) -> bool:
        """Return whether a roll-up may stand there; note that one does."""
        if self.slim is None or self._was_brought(position):
            return True
        where = next((part for part in self.slim if position in part), None)
        if where is None:
            return False
        self.bridged.add(where)
        return True

    def _miss_id(self, record: Record, has_id: bool | None) -> None:
        if has_id is None:
            message = f"{_event(record)} has no row in event_ids."
            self._find(Fault.EVENT_ID_MISSING, message, record)
        else:
            message = f"{_event(record)} has a row in event_ids that says something else."
            self._find(Fault.EVENT_ID_DIFFERS, message, record)

    # What is kept beside the events

    def end_at(self, position: int) -> None:
        """Compare where the log ends with where its head says that it does."""
        if position > self.position:
            self.losses.gaps.add(range(self.position + 1, position + 1))
        elif position < self.position:
            message = f"The log goes on to position {self.position}; log_head says {position}."
            self.findings.add(
                Finding(fault=Fault.LOG_HEAD_DIFFERS, message=message, position=position + 1)
            )

    def take_row(self, row: JobRow) -> None:
        """Hold the read model's row of a job against the job's last event."""
        chain = self.chain(row.job_id)
        chain.has_row = True
        if row.version > chain.version:
            versions = range(chain.version + 1, row.version + 1)
            end = row.position + 1
            self.losses.add(Loss(Fault.TAIL_MISSING, row.job_id, versions, chain.position, end))
            return
        pairs = {
            "version": (row.version, chain.version),
            "position": (row.position, chain.position),
            "hash": (row.hash, chain.hash),
            "first_position": (row.first_position, chain.first_position or row.first_position),
        }
        wrong = ", ".join(name for name, (said, real) in pairs.items() if said != real)
        if wrong:
            self._disagree(Fault.JOB_ROW_DIFFERS, row.job_id, f"says another {wrong}")

    def take_stray(self, stray: StrayId) -> None:
        """Take an id whose event is gone, unless that is known, or never was."""
        self.chain(stray.job_id)
        if self.losses.place(stray.job_id, stray.version, stray.position):
            return
        message = (
            f"The table event_ids names version {stray.version} of job {stray.job_id} at position"
            f" {stray.position} (id {stray.event_id}), which does not stand there."
        )
        self.findings.add(
            Finding(
                fault=Fault.EVENT_ID_STRAY,
                message=message,
                job_id=stray.job_id,
                version=stray.version,
                position=stray.position,
            )
        )

    def finish(self) -> None:
        """Say what is wrong as a whole, when everything was taken."""
        for job_id, chain in self.chains.items():
            if chain.events and not chain.has_row:
                self._disagree(Fault.JOB_ROW_MISSING, job_id, "is missing")
        self.findings.add_all(self.losses.findings())
        if self.only_job is None and self.losses.gaps.empty != self.rolled_up:
            self._say_what_is_empty()

    def _say_what_is_empty(self) -> None:
        if not self.rolled_up:
            for hole in self.losses.gaps.holes():
                named = span("position", hole[0], hole[-1])
                message = f"Nothing stands at {named}."
                self.findings.add(
                    Finding(fault=Fault.POSITION_MISSING, message=message, position=hole[0])
                )
            return
        holes, empty = self.losses.gaps.holes(), self.losses.gaps.empty
        message = f"{empty} positions are empty, and the roll-ups stand for {self.rolled_up}."
        first = holes[0][0] if holes else None
        self.findings.add(Finding(fault=Fault.ROLL_UPS_DISAGREE, message=message, position=first))

    # How it is told

    def _disagree(self, fault: Fault, job_id: int, how: str) -> None:
        chain = self.chain(job_id)
        last = f"version {chain.version}, position {chain.position}"
        self.findings.add(
            Finding(
                fault=fault,
                message=f"The row of job {job_id} in jobs {how}; the job's last event is {last}.",
                job_id=job_id,
                version=chain.version,
                position=chain.position,
            )
        )

    def _find(self, fault: Fault, message: str, record: Record) -> None:
        self.findings.add(
            Finding(
                fault=fault,
                message=message,
                job_id=record.job_id,
                version=record.version,
                position=record.position,
            )
        )


def _event(record: Record) -> str:
    return f"Version {record.version} of job {record.job_id}, at position {record.position},"


def _whole(said: Any, name: str) -> int:
    """Return a whole number of a roll-up's data, or 0 where it is none."""
    value = said.get(name) if isinstance(said, dict) else None
    return value if type(value) is int else 0
