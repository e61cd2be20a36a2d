"""Whether the roll-ups of compacted ranges are those that were registered when they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from projections.archives import RollUpDigest, Seal
from projections.audit import Audit
from projections.findings import Fault, Finding
from service.audit_reading import record_to_audit
from service.postgres import Session
from service.ranges import Range, ranges

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ArchiveAudit:
    """Holds what stands in archived ranges against their registrations."""

    session: Session
    seal: Seal
    audit: Audit
    registered: Sequence[Range]

    async def run(self) -> None:
        """Check every range, or those in which the one job that is looked at has roll-ups."""
        for part in self.registered:
            where = range(part.first_position, part.end_position)
            if self.audit.only_job is None or where in self.audit.bridged:
                await self._check(part)

    async def _check(self, part: Range) -> None:
        registered = part.registered
        if registered is None:
            return
        if not self.seal.is_on(registered, part.signature):
            message = f"The registration of the archived range {part.name} does not bear our seal."
            self._find(Fault.ARCHIVE_FORGED, part, message)
        digest = await self._digest(part)
        if digest is None or digest.value() != registered.digest:
            message = f"The roll-ups of the range {part.name} are not those that were registered."
            self._find(Fault.ROLL_UPS_CHANGED, part, message)

    async def _digest(self, part: Range) -> RollUpDigest | None:
        """Return the digest of what stands there now; None where a roll-up is no event at all."""
        digest, place = RollUpDigest(), (0, 0)
        span = (part.first_position, part.end_position)
        while rows := await self.session.rows("roll_ups_by_job", *span, *place, PAGE):
            for row in rows:
                record = record_to_audit(row)
                if record is None:
                    return None
                digest.add(record)
            place = (rows[-1]["job_id"], rows[-1]["version"])
        return digest

    def _find(self, fault: Fault, part: Range, message: str) -> None:
        finding = Finding(fault=fault, message=message, position=part.first_position)
        self.audit.findings.add(finding)


async def registered_ranges(session: Session) -> list[Range]:
    """Return the ranges that were ever archived."""
    return [part for part in await ranges(session) if part.registered is not None]
