"""Adds to the golden log what `stories` tells and the log does not hold yet.

    python -m tests.golden.generate [--accept]

It never changes what the log holds. What the folds are expected to make of it is written only with
`--accept`, and of jobs that were in the log before only when PROJECTIONS_VERSION was raised: then
`epochlog migrate` makes the stored projections again, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from projections.chain import GENESIS, link
from projections.job import JobState
from projections.status import evolve, ruling
from projections.version import PROJECTIONS_VERSION
from tests.golden import reading
from tests.golden.stories import STORIES, RolledUp, Told

START = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)


@dataclass(slots=True)
class _Job:
    id: int
    state: JobState = field(default_factory=JobState)
    hash: str = GENESIS


class _Log:
    """A log in the making, as a service would write it."""

    def __init__(self) -> None:
        self.position = 0
        self.now = START

    def tell(self, job: _Job, told: Told) -> dict[str, Any]:
        """Return the event as it is recorded."""
        self.position += 1
        self.now += timedelta(seconds=told.after)
        line: dict[str, Any] = {
            "position": self.position,
            "job_id": job.id,
            "version": job.state.version + 1,
            "attempt": told.attempt,
            "event_id": str(uuid5(NAMESPACE_URL, f"event {self.position}")),
            "type": told.type,
            "source": told.source,
            "trace_id": str(uuid5(NAMESPACE_URL, f"job {job.id}")),
            "seq": told.seq,
            "occurred_at": _text(self.now - timedelta(seconds=told.early)),
            "recorded_at": _text(self.now),
            "data": told.data,
            "hash": "",
            "rule": None,
        }
        record = reading.record_of(line)
        record.rule = line["rule"] = ruling(job.state, record)
        job.hash = line["hash"] = link(record, job.hash)
        job.state = evolve(job.state, record)
        return line


def _story(log: _Log, job: _Job, story: tuple[Told | RolledUp, ...]) -> Iterator[dict[str, Any]]:
    for told in story:
        if isinstance(told, Told):
            yield log.tell(job, told)
        else:
            last = [log.tell(job, beat) for beat in told.beats][-1]
            yield {**last, "type": "heartbeats", "data": told.data}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def generated() -> list[bytes]:
    """Return the whole log, as the stories tell it."""
    log = _Log()
    return [
        orjson.dumps(line)
        for number, story in enumerate(STORIES, start=1)
        for line in _story(log, _Job(number), story)
    ]


def main(words: list[str]) -> int:
    """Add to the log, and write what is expected of it where that is accepted."""
    made = generated()
    held = reading.LOG.read_bytes().splitlines() if reading.LOG.exists() else []
    for number, (old, new) in enumerate(zip(held, made, strict=False), start=1):
        if old != new:
            return _refused(f"line {number} would change, and the log is only added to")
    if len(made) < len(held):
        return _refused("the stories tell less than the log holds")
    reading.LOG.write_bytes(b"".join(line + b"\n" for line in made))
    said = {str(job.id): reading.folded(job.records) for job in reading.jobs()}
    return _accept(said, accepts="--accept" in words)


def _accept(said: dict[str, Any], *, accepts: bool) -> int:
    before: dict[str, Any] = {"version": 0, "jobs": {}}
    if reading.EXPECTED.exists():
        before = reading.expected()
    changed = [name for name, old in before["jobs"].items() if said[name] != old]
    if changed and before["version"] >= PROJECTIONS_VERSION:
        return _refused(f"the folds of jobs {changed} changed: raise PROJECTIONS_VERSION first")
    if not accepts:
        return _refused("the log is complete; --accept writes what the folds make of it")
    told = {"version": PROJECTIONS_VERSION, "jobs": said}
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    reading.EXPECTED.write_bytes(orjson.dumps(told, option=options) + b"\n")
    return 0


def _refused(why: str) -> int:
    sys.stderr.write(f"Nothing was accepted: {why}.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
