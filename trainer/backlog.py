"""What MLflow is still to be told: small records in order, as many as fit. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# An epoch's metrics take some kilobytes: months of an outage fit.
MOST_RECORDS = 5000
# MLflow takes no more in one request.
MOST_VALUES = 1000


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters, as the texts that MLflow keeps."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one epoch; `at`, in milliseconds, makes telling them twice no new value."""

    step: int
    at: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to copy; it may first have to be drawn from a table."""

    file: Path
    drawn_from: Path | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the run ended, and when, in milliseconds."""

    status: str
    at: int


Record: TypeAlias = Params | Metrics | Artifact | Ended
Batch: TypeAlias = tuple[Record, ...]


class Backlog:
    """Records that wait, and those under way. Not for several threads at once without a lock."""

    def __init__(self, most: int = MOST_RECORDS) -> None:
        """Keep at most so many; beyond that the oldest metrics go."""
        self._most = most
        self._waiting: deque[Record] = deque()
        self._under_way: Batch = ()
        self.dropped = 0

    def __len__(self) -> int:
        """How many are not told yet."""
        return len(self._waiting) + len(self._under_way)

    def put(self, record: Record) -> None:
        """Add one behind the others; of several ends only the latest counts."""
        if isinstance(record, Ended):
            self._waiting = deque(one for one in self._waiting if not isinstance(one, Ended))
        self._waiting.append(record)
        while len(self._waiting) > self._most:
            self._drop_oldest()

    def take(self) -> Batch:
        """Return what is next: metrics that follow each other together, all else alone."""
        batch: list[Record] = []
        values = 0
        while self._waiting:
            record = self._waiting[0]
            if batch and not (isinstance(record, Metrics) and isinstance(batch[0], Metrics)):
                break
            values += len(record.values) if isinstance(record, Metrics) else 0
            if batch and values > MOST_VALUES:
                break
            batch.append(self._waiting.popleft())
        self._under_way = tuple(batch)
        return self._under_way

    def settle(self) -> None:
        """What was under way has been told, or never will be."""
        self._under_way = ()

    def give_back(self) -> None:
        """What was under way waits again, behind the others: one that fails blocks none."""
        batch, self._under_way = self._under_way, ()
        superseded = any(isinstance(one, Ended) for one in self._waiting)
        for record in batch:
            if not (superseded and isinstance(record, Ended)):
                self.put(record)

    def _drop_oldest(self) -> None:
        oldest = next((one for one in self._waiting if isinstance(one, Metrics)), self._waiting[0])
        self._waiting.remove(oldest)
        self.dropped += 1


def smaller(batch: Batch) -> list[Batch]:
    """Return the parts of a batch, of which perhaps only one is refused; none of a single value."""
    if len(batch) > 1:
        return [(record,) for record in batch]
    match batch[0]:
        case Params(values) if len(values) > 1:
            return [(Params({name: value}),) for name, value in values.items()]
        case Metrics(step, at, values) if len(values) > 1:
            return [(Metrics(step, at, {name: value}),) for name, value in values.items()]
        case _:
            return []


def spoken(record: Record) -> str:
    """Return what a record holds, in words."""
    match record:
        case Params(values):
            return f"the parameter {', '.join(values)}"
        case Metrics(step, _, values):
            return f"the metric {', '.join(values)} of epoch {step}"
        case Artifact(file):
            return f"the file {file.name}"
        case Ended(status):
            return f"the status {status}"
