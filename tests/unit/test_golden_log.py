"""The golden log: every event that was ever stored is read, and means, what it always did."""

from __future__ import annotations

from dataclasses import fields

import orjson
import pytest

from projections.chain import GENESIS, link
from projections.events import KINDS, Event, Heartbeats, decode
from projections.job import JobState
from projections.rules import Rule
from projections.status import evolve, ruling
from projections.version import PROJECTIONS_VERSION
from tests.golden import generate, reading
from tests.golden.reading import Golden

JOBS = reading.jobs()
SET_ASIDE = [
    Rule.JOB_IS_FINAL,
    Rule.STALE_ATTEMPT,
    Rule.UNKNOWN_ATTEMPT,
    Rule.ATTEMPT_IS_DONE,
    Rule.ATTEMPT_IS_GONE,
    Rule.ALREADY_REQUESTED,
    Rule.FIRST_CAUSE_STAYS,
    Rule.UNRECOGNISED_TYPE,
]
ADD = "add one to tests/golden/stories.py and run `python -m tests.golden.generate --accept`"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"job-{job.id}")
@pytest.mark.parametrize("view", ["state", "timeline", "explanation"])
def test_the_folds_make_of_it_what_they_always_did(job: Golden, view: str) -> None:
    said = reading.folded(job.records)[view]

    # Where the change is meant: raise PROJECTIONS_VERSION and accept it by tests.golden.generate.
    assert said == reading.expected()["jobs"][str(job.id)][view]


def test_what_is_expected_is_of_this_version_of_the_folds() -> None:
    assert reading.expected()["version"] == PROJECTIONS_VERSION
    assert set(reading.expected()["jobs"]) == {str(job.id) for job in JOBS}


@pytest.mark.parametrize("name", KINDS)
def test_it_holds_every_type_of_event(name: str) -> None:
    assert name in {line["type"] for line in reading.lines()}, f"no event of type {name}: {ADD}"


@pytest.mark.parametrize(("name", "kind"), KINDS.items(), ids=KINDS)
def test_it_holds_every_field_of_every_event(name: str, kind: type[Event]) -> None:
    told = {said for line in reading.lines() if line["type"] == name for said in line["data"]}
    missing = {field.name for field in fields(kind)} - {"extra"} - told
    assert not missing, f"no {name} that says {sorted(missing)}: {ADD}"


@pytest.mark.parametrize("rule", SET_ASIDE)
def test_it_holds_an_event_for_every_rule_that_sets_aside(rule: Rule) -> None:
    assert rule in {line["rule"] for line in reading.lines()}, f"nothing set aside by {rule}: {ADD}"


def test_it_holds_a_type_and_fields_that_no_build_of_ours_knows() -> None:
    unknown = [line for line in reading.lines() if line["type"] not in KINDS]
    assert unknown
    extra = [decode(line["type"], line["data"]) for line in reading.lines()]
    assert any(getattr(event, "extra", None) for event in extra)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"job-{job.id}")
def test_every_event_was_set_aside_then_by_the_rules_of_today(job: Golden) -> None:
    state = JobState()
    for record in job.records:
        assert ruling(state, record) == record.rule, record.position
        state = evolve(state, record)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"job-{job.id}")
def test_its_hashes_still_verify(job: Golden) -> None:
    previous = GENESIS
    for record in job.records:
        if not isinstance(record.event, Heartbeats):  # what it stands for is in an archive
            assert record.hash == link(record, previous)
        previous = record.hash


def test_its_stories_still_tell_what_it_holds() -> None:
    held = reading.LOG.read_bytes().splitlines()

    assert generate.generated()[: len(held)] == held
    assert len(generate.generated()) == len(held), "the log lacks a story: run the generator"


def test_its_lines_are_events_as_the_api_tells_them() -> None:
    for line in reading.LOG.read_bytes().splitlines():
        told = orjson.loads(line)
        assert list(told)[:4] == ["position", "job_id", "version", "attempt"]
        assert told["recorded_at"].endswith("Z")
