"""Versions that are gone from their jobs' chains, and the empty positions where they stood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from projections.findings import Fault, Finding, span
from projections.gaps import Gaps

MOST_SETTLED = 1000


@dataclass(slots=True)
class Loss:
    """Neighbouring versions of a job that are gone; they stood between two positions."""

    fault: Fault
    job_id: int
    versions: range
    after: int
    before: int
    places: list[range] = field(default_factory=list)
    """Where they stood, as far as it is known."""

    @property
    def unplaced(self) -> int:
        """Of how many of the versions it is not known where they stood."""
        return len(self.versions) - sum(map(len, self.places))

    def finding(self, holes: tuple[range, ...]) -> Finding:
        """Tell of it; where the places are not known, of the holes that come into question."""
        exact = not self.unplaced
        places = sorted(self.places, key=lambda place: place.start) if exact else holes
        where = ", ".join(span("position", place[0], place[-1]) for place in places[:5])
        how = "" if not where else f" (at {where})" if exact else f" (somewhere at {where})"
        named = span("version", self.versions[0], self.versions[-1])
        message = f"Of job {self.job_id}, {named}{how} is missing"
        row = ": its row in jobs goes on to there" if self.fault is Fault.TAIL_MISSING else ""
        return Finding(
            fault=self.fault,
            message=f"{message}{row}.",
            job_id=self.job_id,
            version=self.versions[0],
            position=places[0][0] if places else None,
        )


@dataclass(slots=True)
class Losses:
    """Collects losses and empty positions, and finds out which belong together."""

    gaps: Gaps = field(default_factory=Gaps)
    _of_jobs: dict[int, list[Loss]] = field(default_factory=dict)

    def add(self, loss: Loss) -> None:
        """Take one more."""
        self._of_jobs.setdefault(loss.job_id, []).append(loss)

    def knows(self, job_id: int, version: int) -> bool:
        """Return whether it is known that this version is gone."""
        return self._loss(job_id, version) is not None

    def place(self, job_id: int, version: int, position: int) -> bool:
        """Note where a version stood; False where neither it nor anything there is missing."""
        where, loss = range(position, position + 1), self._loss(job_id, version)
        is_empty = bool(self.gaps.between(position - 1, position + 1))
        if loss is None and is_empty:
            one = range(version, version + 1)
            loss = Loss(Fault.VERSION_MISSING, job_id, one, position - 1, position + 1)
            self.add(loss)
        if loss is None:
            return False
        if loss.unplaced and where not in loss.places:
            loss.places.append(where)
            self.gaps.fill([where])
        return True

    def findings(self) -> Iterator[Finding]:
        """Tell of each loss, with the places that follow from there being just as many holes."""
        losses = [loss for of_job in self._of_jobs.values() for loss in of_job]
        if len(losses) <= MOST_SETTLED:
            while any(self._settled(loss) for loss in losses):
                pass  # a hole that is explained may leave just enough of them for another loss
        for loss in losses:
            yield loss.finding(self.gaps.between(loss.after, loss.before))

    def _settled(self, loss: Loss) -> bool:
        """Return whether it was found out now where the versions stood."""
        if not loss.unplaced:
            return False
        holes = self.gaps.between(loss.after, loss.before)
        if sum(map(len, holes)) != loss.unplaced:
            return False
        loss.places.extend(holes)
        self.gaps.fill(holes)
        return True

    def _loss(self, job_id: int, version: int) -> Loss | None:
        for loss in self._of_jobs.get(job_id, ()):
            if version in loss.versions:
                return loss
        return None
