from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.anchored import Anchored
from projections.anchors import NO_ANCHOR, Anchor, JobHead
from projections.audit import Audit, JobRow, OtherLog, StrayId
from projections.chain import GENESIS, link
from projections.events import Record, Source, Unrecognised
from projections.findings import Finding
from tests.given import START

Place = tuple[str, int | None, int | None, int | None]


def event(position: int, job_id: int, version: int, previous: str) -> Record:
    data = {"at": position}
    record = Record(
        position=position,
        job_id=job_id,
        version=version,
        attempt=1,
        event_id=f"01990000-0000-7000-8000-{position:012}",
        source=Source.TRAINER,
        trace_id="01990000-0000-7000-8000-000000000000",
        seq=None,
        occurred_at=START,
        recorded_at=START + timedelta(seconds=position),
        event=Unrecognised(type="heartbeat", data=data),
        stored=data,
    )
    return replace(record, hash=link(record, previous))


def log_of(*jobs: int) -> list[Record]:
    """A log in which each place has an event of the job that is named for it."""
    heads: dict[int, tuple[int, str]] = {}
    records = []
    for position, job_id in enumerate(jobs, start=1):
        version, previous = heads.get(job_id, (0, GENESIS))
        records.append(event(position, job_id, version + 1, previous))
        heads[job_id] = (version + 1, records[-1].hash)
    return records


def rolled_up(records: list[Record], first: int, last: int) -> list[Record]:
    """The log with a roll-up in place of a job's events, named by their places in the log."""
    run = [one for one in records[first - 1 : last] if one.job_id == records[last - 1].job_id]
    said = {"from_version": run[0].version, "from_position": first, "count": len(run)}
    kind = Unrecognised(type="heartbeats", data=said)
    gone = {one.position for one in run[:-1]}
    return [
        replace(one, event=kind, stored=said) if one is run[-1] else one
        for one in records
        if one.position not in gone
    ]


def rows_of(records: Iterable[Record]) -> Iterator[JobRow]:
    first: dict[int, Record] = {}
    last: dict[int, Record] = {}
    for record in records:
        first.setdefault(record.job_id, record)
        last[record.job_id] = record
    for job_id, end in last.items():
        yield JobRow(
            job_id=job_id,
            version=end.version,
            position=end.position,
            hash=end.hash,
            first_position=first[job_id].position,
        )


def audited(
    records: Iterable[Record],
    *,
    of: list[Record] | None = None,
    brought: OtherLog | None = None,
    then: Callable[[Audit], None] = lambda _: None,
) -> list[Finding]:
    """Audit events; what is kept beside them is as it was `of` the log that it once was."""
    events = list(records)
    once = of if of is not None else events
    audit = Audit(brought=brought)
    for record in events:
        audit.take(record, has_id=True)
    audit.end_at(once[-1].position)
    for row in rows_of(once):
        audit.take_row(row)
    then(audit)
    audit.finish()
    return audit.findings.in_order()


def places(findings: list[Finding]) -> list[Place]:
    return [(one.fault.value, one.job_id, one.version, one.position) for one in findings]


LOG = log_of(1, 2, 1, 1, 2, 3, 1, 2, 1)


def test_a_whole_log_has_no_fault() -> None:
    assert audited(LOG) == []


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_any_whole_log_has_no_fault(jobs: list[int]) -> None:
    assert audited(log_of(*jobs)) == []


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), st.data())
def test_any_deleted_event_is_named_with_its_place(jobs: list[int], data: Any) -> None:
    log = log_of(*jobs)
    gone = data.draw(st.sampled_from(log))

    found = places(audited([one for one in log if one is not gone], of=log))

    assert len(found) == 1
    assert found[0][1:] == (gone.job_id, gone.version, gone.position)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), st.data())
def test_any_changed_event_is_named_first(jobs: list[int], data: Any) -> None:
    log = log_of(*jobs)
    number = data.draw(st.integers(0, len(log) - 1))
    forged = [*log[:number], replace(log[number], attempt=2), *log[number + 1 :]]

    assert places(audited(forged)) == [
        ("hash_differs", log[number].job_id, log[number].version, number + 1)
    ]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), st.data())
def test_any_event_that_was_changed_with_its_hash_shows_in_the_next(
    jobs: list[int], data: Any
) -> None:
    log = log_of(*jobs)
    number = data.draw(st.integers(0, len(log) - 1))
    changed = replace(log[number], attempt=2)
    before = [one for one in log[:number] if one.job_id == changed.job_id]
    changed = replace(changed, hash=link(changed, before[-1].hash if before else GENESIS))
    forged = [*log[:number], changed, *log[number + 1 :]]
    after = [one for one in log[number + 1 :] if one.job_id == changed.job_id]

    found = places(audited(forged, of=log))

    if after:
        assert found == [("hash_differs", changed.job_id, after[0].version, after[0].position)]
    else:
        assert found == [("job_row_differs", changed.job_id, changed.version, changed.position)]


def test_two_losses_side_by_side_are_told_apart_by_what_the_ids_say() -> None:
    gone = {3, 4, 5}

    def as_the_ids_say(audit: Audit) -> None:
        audit.take_stray(StrayId(job_id=2, version=2, position=5, event_id="x"))

    left = [one for one in LOG if one.position not in gone]

    found = audited(left, of=LOG, then=as_the_ids_say)

    assert places(found) == [("version_missing", 1, 2, 3), ("version_missing", 2, 2, 5)]
    assert "versions 2 to 3 (at positions 3 to 4)" in found[0].message


def test_losses_that_nothing_tells_apart_are_named_with_where_they_may_have_stood() -> None:
    left = [one for one in LOG if one.position not in {3, 4, 5}]

    found = audited(left, of=LOG)

    assert {(one.job_id, one.version) for one in found if one.job_id} == {(1, 2), (2, 2)}
    assert all("somewhere at positions 3 to 5" in one.message for one in found if one.job_id)


def test_a_roll_up_bridges_its_versions_and_the_next_hash_follows_from_its_own() -> None:
    assert audited(rolled_up(LOG, 3, 7)) == []
    assert audited(rolled_up(LOG, 3, 9)) == []
    assert audited(rolled_up(LOG, 7, 7)) == []


@pytest.mark.parametrize(
    "said",
    [
        {"from_version": 3, "count": 3},
        {"from_version": 2, "count": 2},
        {"from_position": 8},
        {"from_position": 1},
        {"count": "3"},
        {"count": True},
    ],
    ids=str,
)
def test_a_roll_up_that_does_not_continue_the_chain_is_named(said: dict[str, Any]) -> None:
    log = rolled_up(LOG, 3, 7)
    [number] = [number for number, one in enumerate(log) if one.type == "heartbeats"]
    log[number] = replace(log[number], stored={**(log[number].stored or {}), **said})

    assert ("roll_up_wrong", 1, 4, 7) in places(audited(log))


def test_an_event_that_is_missing_beside_a_roll_up_is_still_named() -> None:
    left = [one for one in rolled_up(LOG, 3, 7) if one.position != 5]

    found = places(audited(left, of=LOG))

    assert ("version_missing", 2, 2, 3) in found  # where it stood, only its id could tell
    assert ("roll_ups_disagree", None, None, 3) in found


def test_a_job_that_is_missing_beside_a_roll_up_leaves_a_hole_too_many() -> None:
    left = [one for one in rolled_up(LOG, 3, 7) if one.job_id != 3]

    assert places(audited(left)) == [("roll_ups_disagree", None, None, 3)]


def test_positions_of_another_logs_other_jobs_are_no_holes() -> None:
    imported = [one for one in LOG if one.job_id == 2]

    assert audited(imported, brought=OtherLog(2, 8)) == []
    assert audited([*imported, event(9, 4, 1, GENESIS)], brought=OtherLog(2, 8)) == []
    assert places(audited([*imported, event(10, 4, 1, GENESIS)], brought=OtherLog(2, 8))) == [
        ("position_missing", None, None, 9)
    ]


def test_an_import_does_not_explain_the_events_of_other_jobs() -> None:
    left = [one for one in LOG if one.job_id != 1]

    assert places(audited(left, brought=OtherLog(2, 8))) == [("not_imported", 3, 1, 6)]


def anchor(position: int, *heads: Record) -> Anchor:
    return Anchor(
        log_id="x",
        number=position,
        position=position,
        recorded_at="",
        heads=tuple(JobHead(one.job_id, one.version, one.hash) for one in heads),
        previous=NO_ANCHOR,
    )


def anchored(records: list[Record], *anchors: Anchor) -> list[Finding]:
    """Audit events, and compare each anchor when the audit has come as far as it."""
    audit = Audit()
    held = Anchored(audit)
    waiting = list(anchors)
    for record in records:
        while waiting and waiting[0].position < record.position:
            held.take(waiting.pop(0))
        audit.take(record, has_id=True)
        if record.job_id in held.awaited:
            held.meet(record)
    audit.end_at(audit.position)
    for one in waiting:
        held.take(one)
    for row in rows_of(records):
        audit.take_row(row)
    audit.finish()
    held.finish()
    return audit.findings.in_order()


def test_anchors_that_agree_say_nothing() -> None:
    assert anchored(LOG, anchor(4, LOG[3], LOG[1]), anchor(9, LOG[8], LOG[7], LOG[5])) == []


def test_an_anchor_in_the_middle_of_a_roll_up_is_bridged() -> None:
    assert anchored(rolled_up(LOG, 3, 7), anchor(4, LOG[3], LOG[1])) == []


def test_an_anchor_at_the_end_of_a_roll_up_is_held_against_its_hash() -> None:
    log = rolled_up(LOG, 3, 7)
    forged = replace(LOG[6], hash="f" * 64)

    assert anchored(log, anchor(8, LOG[6])) == []
    assert places(anchored(log, anchor(8, forged))) == [("anchored_head_differs", 1, 1, None)]


def test_a_log_that_ends_before_its_anchor_is_cut_off() -> None:
    found = anchored(LOG[:6], anchor(4, LOG[3], LOG[1]), anchor(8, LOG[7], LOG[6]))

    assert places(found) == [
        ("anchored_tail_missing", None, None, 7),
        ("anchored_tail_missing", 2, 3, None),
        ("anchored_tail_missing", 1, 4, None),
    ]


def test_a_chain_computed_anew_differs_from_the_first_anchor_after_the_change() -> None:
    other = log_of(1, 1, 2, 1, 2, 3, 1, 2, 1)

    found = anchored(other, anchor(1, LOG[0]), anchor(4, LOG[3], LOG[1]), anchor(9, LOG[8]))

    assert [(one.fault, one.job_id, one.version, one.anchor) for one in found] == [
        ("anchored_head_differs", 1, 2, 4),
        ("anchored_head_differs", 2, 1, 4),
    ]
