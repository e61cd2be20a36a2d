from pathlib import Path

from projections.diagram import changes, document, mermaid, rules
from projections.job import JobStatus
from projections.rules import SENTENCES, Rule

PAGE = Path(__file__).parents[2] / "docs" / "states.md"
PUBLISHED = {
    ("pending", "queued"),
    ("pending", "running"),
    ("pending", "failed"),
    ("pending", "cancelled"),
    ("queued", "running"),
    ("queued", "failed"),
    ("queued", "cancelled"),
    ("running", "queued"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
}


def test_the_rules_make_the_published_changes_of_status_and_no_others() -> None:
    assert {(c.before, c.after) for c in changes() if c.before is not None} == PUBLISHED


def test_a_job_begins_as_pending() -> None:
    assert {(c.after, c.by) for c in changes() if c.before is None} == {("pending", "created")}


def test_nothing_leads_out_of_a_final_status() -> None:
    assert not [c for c in changes() if c.before is not None and c.before.is_final]


def test_the_end_is_always_an_event_of_that_name() -> None:
    ends = {(c.after.value, c.by) for c in changes() if c.after.is_final}

    assert ends == {(status.value, status.value) for status in JobStatus if status.is_final}


def test_only_a_job_seen_alive_or_calling_back_runs() -> None:
    assert {c.by for c in changes() if c.after is JobStatus.RUNNING} == {
        "running",
        "adopted",
        "heartbeat",
        "trainer_event",
        "done",
    }


def test_every_rule_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Rule)
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())


def test_the_page_shows_what_the_code_does() -> None:
    page = PAGE.read_text(encoding="utf-8")

    shown = page.partition("<!-- generated -->\n")[2].partition("<!-- end of generated -->")[0]

    assert shown == document(), "put the output of `python -m projections.diagram` there"


def test_the_diagram_is_one_that_mermaid_draws() -> None:
    first, *lines = mermaid().splitlines()

    assert first == "stateDiagram-v2"
    assert all(" --> " in line for line in lines)
    assert rules().count("\n") == len(SENTENCES) + 1
