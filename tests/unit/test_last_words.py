from __future__ import annotations

import logging
from itertools import product

import pytest

from projections.sighting import Gone
from projections.spoken import unstamped
from service.last_words import LAST_WORDS_LINES, with_last_words
from trainer.log_lines import LogFormat, Origin
from trainer.stamper import RecordFormatter, Stamper

EPOCHS: tuple[int | None, ...] = (None, 3)


def printed(log_format: LogFormat, epoch: int | None) -> str:
    """What our trainer prints when it fails, within an epoch or before one."""
    stamper = Stamper(Origin(trace_id="abc-def", job_id=7, attempt=1), log_format)
    logger = logging.getLogger("trainer")
    begins = logger.makeRecord("trainer", 20, "", 0, "begins", (), None)
    begins.__dict__["epoch_begins"] = epoch
    try:
        int("no number, password=hunter2hunter2")
    except ValueError as error:
        caught = (ValueError, error, error.__traceback__)
    failed = logger.makeRecord("trainer", 40, "", 0, "the attempt failed", (), caught)
    written = "".join(f"{RecordFormatter().format(one)}\n" for one in (begins, failed))
    return "".join(f"{line}\n" for line in stamper.feed(written.encode()))


@pytest.mark.parametrize(("log_format", "epoch"), [*product(LogFormat, EPOCHS)])
def test_the_reason_is_the_last_line_without_what_stamps_it(
    log_format: LogFormat, epoch: int | None
) -> None:
    seen, evidence = with_last_words(Gone(exit_code=1), printed(log_format, epoch))

    assert seen.message is not None
    assert seen.message.startswith("ValueError: invalid literal for int()")
    assert "hunter2" not in seen.message
    assert evidence is not None
    first = evidence.data["lines"][1]
    assert first.endswith("the attempt failed")
    assert ("epoch=3" in first) == (epoch == 3)


@pytest.mark.parametrize(("log_format", "epoch"), [*product(LogFormat, EPOCHS)])
def test_the_message_of_a_pod_says_it_too(log_format: LogFormat, epoch: int | None) -> None:
    *_, last = printed(log_format, epoch).splitlines()

    assert unstamped(last).startswith("ValueError: invalid literal for int()")


@pytest.mark.parametrize("epoch", EPOCHS)
def test_evidence_is_the_same_in_both_formats(epoch: int | None) -> None:
    text, of_json = (
        with_last_words(Gone(exit_code=1), printed(log_format, epoch))[1]
        for log_format in LogFormat
    )

    assert text is not None
    assert of_json is not None
    # All but the moment, which each took for itself.
    assert [line.partition(" ")[2] for line in text.data["lines"]] == [
        line.partition(" ")[2] for line in of_json.data["lines"]
    ]


@pytest.mark.parametrize("line", ["{}", "{not json", '{"level": "info"}', "[1]", "plain"])
def test_what_another_wrote_stays_as_it_is(line: str) -> None:
    seen, _ = with_last_words(Gone(exit_code=1), f"{line}\n")

    assert seen.message == line


def test_only_the_last_lines_are_kept() -> None:
    said = "\n".join(map(str, range(100)))

    _, evidence = with_last_words(Gone(exit_code=1), said)

    assert evidence is not None
    assert evidence.data["lines"] == [str(number) for number in range(100 - LAST_WORDS_LINES, 100)]
