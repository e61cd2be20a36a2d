"""The golden log and what the folds make of it, for the generator and for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from projections.events import Record, Source, decode
from projections.explain import explain
from projections.policy import Moment, Policy
from projections.status import fold
from projections.timeline import timeline

FOLDER = Path(__file__).parent
LOG = FOLDER / "log.ndjson"
EXPECTED = FOLDER / "expected.json"
NOW = datetime(2026, 2, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Golden:
    """A job of the golden log."""

    id: int
    records: tuple[Record, ...]


def lines() -> list[dict[str, Any]]:
    """Return the events of the log, in the API's form."""
    return [orjson.loads(line) for line in LOG.read_bytes().splitlines()]


def jobs() -> list[Golden]:
    """Return the jobs of the log."""
    records: dict[int, list[Record]] = {}
    for line in lines():
        records.setdefault(line["job_id"], []).append(record_of(line))
    return [Golden(job_id, tuple(own)) for job_id, own in records.items()]


def record_of(line: dict[str, Any]) -> Record:
    """Return the record that a line of the log holds."""
    return Record(
        position=line["position"],
        job_id=line["job_id"],
        version=line["version"],
        attempt=line["attempt"],
        event_id=line["event_id"],
        source=Source(line["source"]),
        trace_id=line["trace_id"],
        seq=line["seq"],
        occurred_at=datetime.fromisoformat(line["occurred_at"]),
        recorded_at=datetime.fromisoformat(line["recorded_at"]),
        event=decode(line["type"], line["data"]),
        rule=line["rule"],
        hash=line["hash"],
        stored=line["data"],
    )


def folded(records: Iterable[Record]) -> Any:
    """Return everything that the folds say of a job, as JSON values."""
    records = tuple(records)
    told = timeline(records, NOW)
    said = {
        "state": fold(records),
        "timeline": {"attempts": told.attempts, "entries": told.entries},
        "explanation": explain(records, Moment(now=NOW), Policy()),
    }
    return orjson.loads(orjson.dumps(said))


def expected() -> Any:
    """Return what the folds made of each job when the log was last added to."""
    return orjson.loads(EXPECTED.read_bytes())
