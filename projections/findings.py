"""What is wrong with a log: each fault by its name, its place and a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

MOST_KEPT = 1000


class Fault(StrEnum):
    """Everything that a verification can find."""

    # An event
    HASH_DIFFERS = "hash_differs"  # not the hash of what it says behind the hash before it
    UNREADABLE = "unreadable"  # it holds what no build ever wrote
    VERSION_MISSING = "version_missing"  # the job's stream has a hole, and so has the log
    VERSION_MISPLACED = "version_misplaced"  # another version stands where it belongs
    TAIL_MISSING = "tail_missing"  # the job's row knows of later versions
    POSITION_MISSING = "position_missing"  # nothing tells what stood there
    POSITION_REPEATED = "position_repeated"
    NOT_IMPORTED = "not_imported"  # it stands where only the imported job's events belong
    ROLL_UP_WRONG = "roll_up_wrong"  # it does not stand for the versions that it says
    ROLL_UPS_DISAGREE = "roll_ups_disagree"  # with how many positions are empty
    ROLL_UPS_CHANGED = "roll_ups_changed"  # not those that were registered of an archived range
    ARCHIVE_FORGED = "archive_forged"  # what is registered of a range is not signed by us

    # What is kept beside the events
    EVENT_ID_MISSING = "event_id_missing"
    EVENT_ID_DIFFERS = "event_id_differs"
    EVENT_ID_STRAY = "event_id_stray"  # it names an event that is not there
    JOB_ROW_MISSING = "job_row_missing"
    JOB_ROW_DIFFERS = "job_row_differs"
    LOG_HEAD_DIFFERS = "log_head_differs"

    # An anchor
    ANCHOR_UNREADABLE = "anchor_unreadable"
    ANCHOR_KEY_UNKNOWN = "anchor_key_unknown"
    ANCHOR_FORGED = "anchor_forged"  # its signature is wrong
    ANCHOR_MISSING = "anchor_missing"
    ANCHOR_DIFFERS = "anchor_differs"  # from its copy, or from what the next one says of it
    ANCHOR_OF_ANOTHER_LOG = "anchor_of_another_log"
    ANCHORED_HEAD_DIFFERS = "anchored_head_differs"  # the log was another when it was anchored
    ANCHORED_TAIL_MISSING = "anchored_tail_missing"  # the log was longer when it was anchored


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault, and where it is as far as that can be known."""

    fault: Fault
    message: str
    job_id: int | None = None
    version: int | None = None
    position: int | None = None
    anchor: int | None = None


@dataclass(slots=True)
class Findings:
    """Collects what is found; a log that is wrong everywhere is not kept in memory for it."""

    total: int = 0
    _kept: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Take one more."""
        self.total += 1
        if len(self._kept) < MOST_KEPT:
            self._kept.append(finding)

    def add_all(self, findings: Iterable[Finding]) -> None:
        """Take several more."""
        for finding in findings:
            self.add(finding)

    def in_order(self) -> list[Finding]:
        """Return them from the first broken position on; those without a position come last."""
        return sorted(self._kept, key=lambda one: inf if one.position is None else one.position)


def span(one: str, first: int, last: int) -> str:
    """Return `version 3`, or `versions 3 to 5`."""
    return f"{one} {first}" if first == last else f"{one}s {first} to {last}"
