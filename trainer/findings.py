"""What an inspection finds: counted in full, kept as far as anybody reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from trainer.names import escaped

Level: TypeAlias = Literal["error", "warning"]
# Of one kind; who has 50,000 wrong lines needs to see some and the number.
KEPT = 20
LONGEST_EXCERPT = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a data set, in words for whoever labelled it."""

    level: Level
    code: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Say where, and what."""
        if self.file is None:
            return self.message
        where = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{where}: {self.message}"


@dataclass(slots=True)
class Findings:
    """Findings by kind: the first of each are kept, all are counted."""

    counts: Counter[tuple[Level, str]] = field(default_factory=Counter)
    kept: dict[tuple[Level, str], list[Finding]] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count one, and keep it where there are few of its kind."""
        kind = (finding.level, finding.code)
        self.counts[kind] += 1
        kept = self.kept.setdefault(kind, [])
        if len(kept) < KEPT:
            kept.append(_shown(finding))

    def add_all(self, findings: Iterable[Finding]) -> None:
        """Count several."""
        for finding in findings:
            self.add(finding)

    def total(self, level: Level) -> int:
        """Return how many there are."""
        return sum(count for (of, _), count in self.counts.items() if of == level)

    def of(self, level: Level) -> Iterator[Finding]:
        """Return the kept ones of a level in turns, so that no kind hides another."""
        queues = [kept for (of, _), kept in self.kept.items() if of == level]
        for place in range(KEPT):
            yield from (kept[place] for kept in queues if place < len(kept))

    def sentence(self, level: Level, most: int) -> str:
        """Return the first ones and how many more there are, as one text."""
        shown = [str(finding) for finding in self.of(level)][:most]
        left = self.total(level) - len(shown)
        more = f"; and {left} more" if left else ""
        return "; ".join(shown) + more + "."

    def as_json(self) -> dict[str, Any]:
        """Return the counts and what is kept."""
        return {
            "errors": self.total("error"),
            "warnings": self.total("warning"),
            "counts": {code: count for (_, code), count in self.counts.items()},
            "findings": [asdict(one) for level in LEVELS for one in self.of(level)],
        }


def _shown(finding: Finding) -> Finding:
    file = None if finding.file is None else escaped(finding.file)
    return replace(finding, message=escaped(finding.message), file=file)


LEVELS: tuple[Level, ...] = ("error", "warning")


def excerpt(text: str) -> str:
    """Return a stranger's text, quoted and short."""
    return repr(text if len(text) <= LONGEST_EXCERPT else text[:LONGEST_EXCERPT] + "…")
