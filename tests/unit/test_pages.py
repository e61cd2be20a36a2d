"""What a person reads of a job, as the command line prints it."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

import orjson
from rich.console import Console, RenderableType

from projections.events import Heartbeat, TrainerEvent
from service.answer_schemas import ExplainAnswer, TimelineAnswer
from service.explain_page import explain_page
from service.timeline_page import timeline_page
from service.views import timeline_view, to_json
from tests.given import POLICY, Given, a_running_job


def printed(page: Iterable[RenderableType]) -> str:
    console = Console(file=StringIO(), width=100)
    for part in page:
        console.print(part)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def story(job: Given) -> str:
    told = orjson.loads(to_json(timeline_view(job.told(), job.moment, POLICY)))
    return printed(timeline_page(TimelineAnswer.model_validate(told), 100))


def reasons(job: Given) -> str:
    told = orjson.loads(to_json(job.explained()))
    return printed(explain_page(7, ExplainAnswer.model_validate(told), 100))


def ends(epoch: int, **data: object) -> TrainerEvent:
    return TrainerEvent(type="epoch_end", data={"epoch": epoch, "metrics": {"loss": 0.5}, **data})


def test_epochs_that_were_trained_again_are_named_beside_the_table() -> None:
    job = a_running_job().hears(*map(ends, (1, 2, 3, 4, 6))).done("failed")
    job.hears(*(ends(epoch, redone=True) for epoch in (2, 3, 4, 6)))

    page = story(job)

    assert "epochs 2 to 4, 6, trained again by a later attempt" in page
    assert "Epoch 4 complete again\n" in page  # its metrics are in the table


def test_one_epoch_that_was_trained_again() -> None:
    job = a_running_job().hears(ends(1)).done("failed").hears(ends(1))

    assert "epoch 1, trained again by a later attempt" in story(job)


def test_an_explanation_ends_a_traceback_with_its_last_lines() -> None:
    lines = [f"line {number}" for number in range(1, 31)]
    said = {"exception": "E: x", "lines": [*lines, "E: [bold]x"]}
    job = a_running_job().hears(Heartbeat(epoch=2, batch=3, batches=9))
    job.hears(TrainerEvent(type="traceback", data=said)).done("failed", retryable=False)

    page = reasons(job)

    assert "Attempt 1 failed at epoch 2, batch 3 of 9: E: x" in page
    assert "line 30" in page
    assert "line 19" not in page
    assert "E: [bold]x" in page


def test_without_evidence_there_is_no_such_heading() -> None:
    assert "Evidence" not in reasons(a_running_job())
