"""docs/trainer.md names the trainer's variables and codes, all of them and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainer import backoff, configuration, errors, outbox
from trainer.outcomes import LEFT

PAGE = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text(encoding="utf-8")
SOURCE = Path(configuration.__file__).read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
KNOWN = [
    known
    for known in vars(errors).values()
    if isinstance(known, type) and issubclass(known, errors.TrainerError)
]


def test_the_page_names_every_variable_and_no_other() -> None:
    rows = [re.findall(r"`([A-Z][A-Z0-9_]*)`", row[0]) for row in ROW.findall(PAGE)]

    assert {name for row in rows for name in row} == set(re.findall(r'"([A-Z][A-Z0-9_]+)"', SOURCE))


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.__name__)
def test_a_code_is_told_with_whether_it_is_tried_again(known: type[errors.TrainerError]) -> None:
    (again,) = (row[2] for row in ROW.findall(PAGE) if f"`{known.code}`" in row[0])

    assert again == ("yes" if known.retryable else "no")


def test_who_was_told_to_end_has_a_code_on_the_page() -> None:
    (row,) = (row for row in ROW.findall(PAGE) if "`terminated`" in row[0])

    told = dict(zip(re.findall(r"`(\w+)`", row[0]), row[2].split(", "), strict=True))
    assert told == {code: "yes" if said["retryable"] else "no" for code, said in LEFT.items()}


def test_the_journals_size_and_the_longest_pause_are_those_that_are_told() -> None:
    assert f"at most {backoff.HIGHEST_CEILING:g} seconds" in PAGE
    assert f"{outbox.CAPACITY:,} callbacks" in PAGE
    assert f"{outbox.CAPACITY_BYTES // 1024**2} MiB" in PAGE
