"""A bundle's lines hold events whole, and its chain refuses what does not follow."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, given

from projections.chain import GENESIS, canonical, link
from projections.events import Heartbeat, Heartbeats, Record
from projections.rollup import Roller
from service.bundle import BundleError, Chain, line_of, record_in
from tests.generated import records
from tests.given import a_running_job

TRACE = str(uuid4())


def _storable(record: Record) -> bool:
    """Whether the log's own constraints would let it in."""
    names = [record.type, record.rule or "a"]
    return all(name[0] != "_" for name in names) and record.seq != 0


@given(records)
def test_a_line_holds_its_event_whole(record: Record) -> None:
    assume(_storable(record))
    record = replace(record, trace_id=TRACE)
    record = replace(record, hash=link(record, GENESIS))

    line = line_of(record)
    read = record_in(line)

    assert line == canonical(record)[:-1] + f',"hash":"{record.hash}"}}\n'.encode()
    assert canonical(read) == canonical(record)
    assert line_of(read) == line


def _log() -> list[bytes]:
    job = a_running_job().hears(Heartbeat(epoch=1), at=1).hears(Heartbeat(epoch=2), at=2)
    return _chained([replace(record, event_id=str(uuid4())) for record in job.records])


def _chained(log: list[Record]) -> list[bytes]:
    lines, previous = [], GENESIS
    for record in log:
        record = replace(record, trace_id=TRACE)  # noqa: PLW2901
        previous = link(record, previous)
        lines.append(line_of(replace(record, hash=previous)))
    return lines


def _followed(lines: list[bytes]) -> Chain:
    chain = Chain()
    for line in lines:
        chain.follow(line)
    return chain


def test_a_whole_log_is_followed_to_its_end() -> None:
    lines = _log()

    chain = _followed(lines)

    assert chain.last is not None
    assert chain.last.version == len(lines)
    assert chain.hash == record_in(lines[-1]).hash


@pytest.mark.parametrize("place", range(5))
def test_a_changed_event_is_named(place: int) -> None:
    lines = _log()
    lines[place] = lines[place].replace(b'"attempt":1', b'"attempt":2')

    with pytest.raises(
        BundleError, match=rf"event {place + 1} in events\.ndjson does not have the hash"
    ):
        _followed(lines)


def test_a_missing_event_is_named() -> None:
    lines = _log()

    with pytest.raises(BundleError, match=r"event 2 in events\.ndjson is missing: version 3"):
        _followed([lines[0], *lines[2:]])


def test_what_is_no_event_is_named() -> None:
    lines = _log()

    for wrong in (b"", b"{}", b"[]", b"\xff", lines[1][:-5], lines[1].replace(b'"seq"', b'"sep"')):
        with pytest.raises(BundleError, match=r"event 2 in events\.ndjson is not an event"):
            _followed([lines[0], wrong, *lines[2:]])


def test_a_log_of_two_jobs_or_with_time_going_back_is_refused() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1), at=1)
    log = [replace(record, event_id=str(uuid4())) for record in job.records]
    last = log[-1]

    for changed in (
        replace(last, job_id=8),
        replace(last, position=last.position - 3),
        replace(last, recorded_at=log[0].recorded_at.replace(year=2000)),
    ):
        with pytest.raises(BundleError, match="does not belong behind the event before it"):
            _followed(_chained([*log[:-1], changed]))


def _compacted() -> list[bytes]:
    """A log in which one event stands for most of its heartbeats, as compaction leaves it."""
    job = a_running_job()
    for second in range(1, 21):
        job.hears(Heartbeat(epoch=1, batch=second, batches=20), at=second)
    job.hears(Heartbeat(epoch=1, metrics={"loss": 1.0}), at=30).done(at=31)
    lines = _chained([replace(record, event_id=str(uuid4())) for record in job.records])
    log = [record_in(line) for line in lines]
    roller = Roller()
    rolled = [one for record in log for one in roller.add(record)] + roller.finish()
    gone = {
        version
        for one in rolled
        if isinstance(one.event, Heartbeats)
        for version in range(one.event.from_version, one.version + 1)
    }
    assert len(gone) > 10
    kept = [record for record in log if record.version not in gone]
    return [line_of(one) for one in sorted([*kept, *rolled], key=lambda one: one.version)]


def test_a_compacted_log_is_followed_too() -> None:
    lines = _compacted()

    chain = _followed(lines)

    assert chain.hash == record_in(lines[-1]).hash
    with pytest.raises(BundleError, match="is missing"):
        _followed([line for line in lines if b'"type":"heartbeats"' not in line])
    with pytest.raises(BundleError, match="does not have the hash"):
        _followed([*lines[:-1], lines[-1].replace(b'"attempt":1', b'"attempt":2')])


def test_an_event_of_no_trace_is_refused() -> None:
    line = _log()[0].replace(TRACE.encode(), str(UUID(int=0)).encode())

    with pytest.raises(ValueError, match="all zeros"):
        record_in(line)
