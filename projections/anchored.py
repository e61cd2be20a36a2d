"""Whether a log is still what its anchors saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from projections.anchors import (
    NO_ANCHOR,
    Anchor,
    AnchorError,
    AnchorKeys,
    JobHead,
    digest,
)
from projections.audit import ROLL_UP, Audit, Chain
from projections.events import Record
from projections.findings import Fault, Finding, Findings, span


@dataclass(slots=True)
class AnchorChain:
    """Reads the anchors in the order of their numbers, as the table and a copy have them."""

    keys: AnchorKeys
    log_id: str
    findings: Findings
    number: int = 0
    """The number of the last one."""
    _digests: frozenset[str] = frozenset({NO_ANCHOR})
    """What the next one may say of it."""
    _position: int = 0

    def take(self, number: int, kept: str | None, copied: str | None) -> list[Anchor]:
        """Return what the table and a copy say as the anchor of that number, if it is ours."""
        if kept is None:
            message = f"Anchor {number} is in the copy and not in the database."
            self._find(Fault.ANCHOR_MISSING, number, message)
        elif copied not in (None, kept):
            message = f"Anchor {number} is another in the copy than in the database."
            self._find(Fault.ANCHOR_DIFFERS, number, message)
        return self._take(number, [line for line in (kept, copied) if line is not None])

    def _take(self, number: int, lines: Sequence[str]) -> list[Anchor]:
        if number > self.number + 1:
            gone = span("anchor", self.number + 1, number - 1)
            self._find(Fault.ANCHOR_MISSING, self.number + 1, f"There is no {gone}.")
            self._digests = frozenset()
        self.number = number
        read = [self._read(number, line) for line in dict.fromkeys(lines)]
        self._digests = frozenset(map(digest, lines))
        return [anchor for anchor in read if anchor is not None]

    def _read(self, number: int, line: str) -> Anchor | None:
        try:
            anchor = self.keys.read(line)
        except AnchorError as error:
            self._find(error.fault, number, f"Anchor {number} {error}.")
            return None
        if anchor.log_id != self.log_id:
            message = f"Anchor {number} is of the log {anchor.log_id}; this is {self.log_id}."
            self._find(Fault.ANCHOR_OF_ANOTHER_LOG, number, message)
            return None
        follows = not self._digests or anchor.previous in self._digests
        if anchor.number != number or not follows or anchor.position < self._position:
            message = f"Anchor {number} does not follow the one before it."
            self._find(Fault.ANCHOR_DIFFERS, number, message)
        self._position = max(self._position, anchor.position)
        return anchor

    def _find(self, fault: Fault, number: int, message: str) -> None:
        self.findings.add(Finding(fault=fault, message=message, anchor=number))


@dataclass(slots=True)
class Anchored:
    """Holds anchors against the chains of an audit, each when the audit has come so far."""

    audit: Audit
    awaited: dict[int, list[tuple[JobHead, Anchor]]] = field(default_factory=dict)
    """Versions that an anchor saw and the log had not by then; a roll-up may stand for them."""
    last: Anchor | None = None
    _agreed: dict[int, int] = field(default_factory=dict)
    """The last version of each job with which an anchor agrees."""
    _told: set[int] = field(default_factory=set)
    """The jobs of which it was told that they are not what an anchor saw."""

    def take(self, anchor: Anchor) -> None:
        """Compare, now that all events up to the anchor's position were taken."""
        if self.last is None or anchor.position >= self.last.position:
            self.last = anchor
        for head in anchor.heads:
            if self.audit.only_job in (None, head.job_id):
                self._compare(head, anchor, self.audit.chain(head.job_id))

    def _compare(self, head: JobHead, anchor: Anchor, chain: Chain) -> None:
        if chain.version < head.version:
            self.awaited.setdefault(head.job_id, []).append((head, anchor))
        elif (chain.version, chain.hash) != (head.version, head.hash):
            self._differ(head, anchor)
        else:
            self._agreed[head.job_id] = head.version

    def meet(self, record: Record) -> None:
        """Settle what was awaited of a job by its next event, when the audit has taken that."""
        said = record.stored if record.type == ROLL_UP else None
        first = said.get("from_version") if said else None
        for head, anchor in self.awaited.pop(record.job_id):
            bridged = type(first) is int and first <= head.version < record.version
            bridged = bridged or self.audit.losses.knows(head.job_id, head.version)
            if not bridged and (head.version, head.hash) != (record.version, record.hash):
                self._differ(head, anchor)

    def _differ(self, head: JobHead, anchor: Anchor) -> None:
        if head.job_id in self._told:
            return
        self._told.add(head.job_id)
        first = self._agreed.get(head.job_id, 0) + 1
        named = span("version", first, head.version)
        message = (
            f"Of job {head.job_id}, {named} is not what anchor {anchor.number} saw"
            f" (position {anchor.position}), though the hashes may follow from each other."
        )
        self._find(Fault.ANCHORED_HEAD_DIFFERS, message, head, first, anchor)

    def finish(self) -> None:
        """Say what the anchors saw and the log does not hold."""
        for job_id, heads in self.awaited.items():
            head, anchor = max(heads, key=lambda one: one[0].version)
            chain = self.audit.chain(job_id)
            if self.audit.losses.knows(job_id, head.version):
                continue
            named = span("version", chain.version + 1, head.version)
            message = f"Of job {job_id}, {named} is missing: anchor {anchor.number} saw it."
            self._find(Fault.ANCHORED_TAIL_MISSING, message, head, chain.version + 1, anchor)
        last = self.last
        if last and self.audit.only_job is None and last.position > self.audit.position:
            first = self.audit.position + 1
            message = f"The log is cut off: anchor {last.number} saw it reach {last.position}."
            self.audit.findings.add(
                Finding(
                    fault=Fault.ANCHORED_TAIL_MISSING,
                    message=message,
                    position=first,
                    anchor=last.number,
                )
            )

    def _find(
        self, fault: Fault, message: str, head: JobHead, version: int, anchor: Anchor
    ) -> None:
        """Tell of versions whose positions nobody knows, only that the anchor came after them."""
        self.audit.findings.add(
            Finding(
                fault=fault,
                message=message,
                job_id=head.job_id,
                version=version,
                position=None,
                anchor=anchor.number,
            )
        )
