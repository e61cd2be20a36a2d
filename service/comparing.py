"""What differs between the stored projections and those that the log makes now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.records import Row

SHOWN = 20
"""How many differing fields are shown."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one row that is stored otherwise than the log makes it."""

    table: str
    row: str
    """The row's key."""
    field: str
    """The field's name; empty where one side has no such row."""
    live: Any
    rebuilt: Any


@dataclass(slots=True)
class Comparison:
    """How many rows were compared and differ, by table, and the first differences by field."""

    rows: dict[str, int] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    first: list[Difference] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether the stored projections are what the log says."""
        return not any(self.differing.values())

    def note(self, table: str, rows: Sequence[Row]) -> None:
        """Take the rows of a comparison, each with its key, both sides and the number of all."""
        differing = rows[0]["differing"] if rows else 0
        self.differing[table] = self.differing.get(table, 0) + differing
        for row in rows:
            found = differences(table, row["key"], row["live"], row["rebuilt"])
            self.first.extend(list(found)[: SHOWN - len(self.first)])

    def note_counts(self, live: Mapping[str, int], rebuilt: Mapping[str, int]) -> None:
        """Compare how many jobs have each status."""
        found = [
            Difference("log_head", "counts", status, live.get(status, 0), rebuilt.get(status, 0))
            for status in sorted({*live, *rebuilt})
            if live.get(status, 0) != rebuilt.get(status, 0)
        ]
        self.differing["log_head"] = int(bool(found))
        self.first.extend(found[: SHOWN - len(self.first)])


def differences(
    table: str, key: str, live: Mapping[str, Any] | None, rebuilt: Mapping[str, Any] | None
) -> Iterator[Difference]:
    """Yield each field in which the two sides of a row differ, inner fields by their path."""
    if live is None or rebuilt is None:
        yield Difference(table, key, "", _sided(live), _sided(rebuilt))
        return
    for path, one, other in _fields("", live, rebuilt):
        yield Difference(table, key, path, one, other)


def _sided(row: Mapping[str, Any] | None) -> str:
    return "no such row" if row is None else "a row"


def _fields(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        if one != other:
            yield path, one, other
        return
    for name in sorted({*one, *other}):
        inner = f"{path}.{name}" if path else name
        yield from _fields(inner, one.get(name), other.get(name))
