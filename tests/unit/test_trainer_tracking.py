"""What MLflow is told, in which order, and what is said of it: without MLflow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tests.mlflow import Heard
from trainer import backlog, tracking
from trainer.backlog import Artifact, Backlog, Ended, Metrics, Params, smaller, spoken
from trainer.checkpoint import results_table
from trainer.curves import draw, panels, read_table
from trainer.mlflow_run import tags_of
from trainer.outage import Outage, Over
from trainer.refusals import UnusableError, is_refusal, why
from trainer.untold import Untold
from trainer.uploads import OutOfTimeError, patiently

FOREVER = 30.0
BEST = Artifact(Path("best.pt"))


def epoch(number: int, **values: float) -> Metrics:
    return Metrics(number, 1000 * number, values or {"loss": 1.0})


def filled(*records: backlog.Record, most: int = 100) -> Backlog:
    made = Backlog(most)
    for record in records:
        made.put(record)
    return made


def taken_from(waiting: Backlog) -> list[backlog.Batch]:
    found = []
    while len(waiting):
        found.append(waiting.take())
        waiting.settle()
    return found


def test_metrics_that_follow_each_other_go_together_and_all_else_alone() -> None:
    params, ended = Params({"batch": "4"}), Ended("FINISHED", 9)

    waiting = filled(params, epoch(1), epoch(2), BEST, epoch(3), ended)

    assert taken_from(waiting) == [(params,), (epoch(1), epoch(2)), (BEST,), (epoch(3),), (ended,)]


def test_one_request_never_holds_more_values_than_mlflow_takes() -> None:
    large = {str(name): 0.0 for name in range(backlog.MOST_VALUES // 2)}

    waiting = filled(*(Metrics(number, 0, large) for number in range(5)))

    assert [len(batch) for batch in taken_from(waiting)] == [2, 2, 1]


def test_what_failed_waits_behind_the_others_and_blocks_none() -> None:
    waiting = filled(BEST, epoch(1))

    assert waiting.take() == (BEST,)
    waiting.give_back()

    assert len(waiting) == 2
    assert taken_from(waiting) == [(epoch(1),), (BEST,)]


def test_what_is_under_way_counts_until_it_is_settled() -> None:
    waiting = filled(epoch(1))
    waiting.take()
    assert len(waiting) == 1
    waiting.settle()
    assert len(waiting) == 0


def test_of_several_ends_only_the_latest_is_told() -> None:
    waiting = filled(Ended("FINISHED", 1))
    waiting.take()
    waiting.put(Ended("KILLED", 2))
    waiting.give_back()
    assert taken_from(waiting) == [(Ended("KILLED", 2),)]

    waiting = filled(Ended("FINISHED", 1), Ended("KILLED", 2))
    assert taken_from(waiting) == [(Ended("KILLED", 2),)]


def test_beyond_its_size_the_oldest_metrics_go_and_are_counted() -> None:
    params = Params({"batch": "4"})

    waiting = filled(params, epoch(1), epoch(2), epoch(3), most=3)

    assert waiting.dropped == 1
    assert taken_from(waiting) == [(params,), (epoch(2), epoch(3))]


@given(st.lists(st.sampled_from(["put", "take", "give_back", "settle"])))
def test_no_record_is_lost_and_none_is_told_twice(steps: list[str]) -> None:
    waiting, number = Backlog(), 0
    told: list[backlog.Record] = []
    under_way: backlog.Batch = ()
    for step in steps:
        if step == "put":
            number += 1
            waiting.put(epoch(number))
        elif step == "take" and not under_way:
            under_way = waiting.take()
        elif step == "give_back":
            waiting.give_back()
            under_way = ()
        elif step == "settle":
            told += under_way
            waiting.settle()
            under_way = ()
    waiting.give_back()
    told += [record for batch in taken_from(waiting) for record in batch]
    assert sorted(one.step for one in told if isinstance(one, Metrics)) == [*range(1, number + 1)]


def test_what_is_refused_is_narrowed_down_to_one_value() -> None:
    assert smaller((epoch(1), epoch(2))) == [(epoch(1),), (epoch(2),)]
    assert smaller((epoch(1, a=1.0, b=2.0),)) == [(epoch(1, a=1.0),), (epoch(1, b=2.0),)]
    assert smaller((Params({"a": "1", "b": "2"}),)) == [
        (Params({"a": "1"}),),
        (Params({"b": "2"}),),
    ]
    for single in (epoch(1, a=1.0), Params({"a": "1"}), BEST, Ended("FAILED", 0)):
        assert smaller((single,)) == []


def test_a_record_is_spoken_of_by_name() -> None:
    assert [spoken(one) for one in (epoch(2, a=1.0), Params({"a": "1"}), BEST)] == [
        "the metric a of epoch 2",
        "the parameter a",
        "the file best.pt",
    ]
    assert spoken(Ended("FAILED", 0)) == "the status FAILED"


def test_an_outage_is_told_at_its_begin_and_once_nothing_waits_any_more() -> None:
    outage = Outage()
    assert outage.told(3, 5.0, nothing_waits=True) is None

    assert outage.failed(10.0) is True
    assert outage.failed(11.0) is False
    assert outage.tries == 2
    assert outage.told(7, 12.0, nothing_waits=False) is None
    assert outage.is_on
    # Something else fails among what gets through: that is still the same outage.
    assert outage.failed(13.0) is False
    assert outage.tries == 1
    assert outage.told(2, 14.5, nothing_waits=True) == Over(missed=9, seconds=4.5)

    assert outage.failed(20.0) is True
    assert outage.told(1, 21.0, nothing_waits=True) == Over(missed=1, seconds=1.0)


def test_what_an_earlier_attempt_left_is_late_though_nobody_is_away() -> None:
    outage = Outage()
    outage.goes_on(5.0)
    assert outage.told(2, 9.0, nothing_waits=True) == Over(missed=2, seconds=4.0)

    outage.goes_on(5.0)
    assert outage.failed(10.0) is True, "this attempt has not said yet that somebody is away"
    assert outage.failed(11.0) is False
    assert outage.told(3, 12.0, nothing_waits=True) == Over(missed=3, seconds=7.0)


def test_what_was_not_told_is_there_for_the_next_attempt(tmp_path: Path) -> None:
    file = tmp_path / "outbox" / "job-7.mlflow"
    Untold(file).note(epoch(1, loss=1.5))
    with file.open("ab") as cut:
        cut.write(b'\n[2, 2000, {"loss": 1')
    Untold(file).note(epoch(3, loss=0.5, mAP50=1))

    assert Untold(file).read() == [epoch(1, loss=1.5), epoch(3, loss=0.5, mAP50=1)]

    Untold(file).forget()
    assert Untold(file).read() == []
    assert list(file.parent.iterdir()) == []


def test_without_a_file_metrics_wait_in_memory_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for untold in (Untold(None), Untold(tmp_path / "file" / "below"), Untold(tmp_path)):
        untold.note(epoch(1))
        untold.forget()
        assert untold.read() == []


@pytest.mark.parametrize("line", ["{}", "[1, 2]", '["1", 2, {}]', '[1, 2, {"loss": "x"}]', "\0"])
def test_a_line_that_holds_no_metrics_is_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "untold").write_text(line)
    assert Untold(tmp_path / "untold").read() == []


class FromMlflowError(Exception):
    """An error as MLflow's client raises it."""

    def __init__(self, error_code: str) -> None:
        super().__init__(error_code)
        self.error_code = error_code


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "is_for_good"),
    [
        (FromMlflowError("INVALID_PARAMETER_VALUE"), True),
        (FromMlflowError("RESOURCE_DOES_NOT_EXIST"), True),
        (FromMlflowError("INTERNAL_ERROR"), False),
        (FromMlflowError("TEMPORARILY_UNAVAILABLE"), False),
        (FromMlflowError("REQUEST_LIMIT_EXCEEDED"), False),
        (FromMlflowError("PERMISSION_DENIED"), False),
        (FromMlflowError("ENDPOINT_NOT_FOUND"), False),
        (answered(413), True),
        (answered(403), False),
        (answered(503), False),
        (requests.HTTPError(), False),
        (requests.ConnectionError(), False),
        (UnusableError("gone"), True),
        (OSError("no route"), False),
        (ImportError("no mlflow"), False),
    ],
    ids=repr,
)
def test_only_what_would_fail_again_is_left_out(error: Exception, is_for_good: bool) -> None:
    assert is_refusal(error) is is_for_good


def test_why_mlflow_failed_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    error = OSError("no way to\n https://me:secret-word@mlflow with correct horse")

    assert why(error) == "OSError: no way to https://[redacted]@mlflow with [redacted]"


def test_a_run_leads_back_to_its_job() -> None:
    tags = tags_of(7, 2, "trace-7", "https://epochlog.example.org")

    url = "https://epochlog.example.org/v1/jobs/7/timeline"
    assert tags["epochlog.job_id"] == "7"
    assert tags["epochlog.attempt"] == "2"
    assert tags["epochlog.trace_id"] == "trace-7"
    assert tags["epochlog.url"] == url
    assert f"]({url})" in tags["mlflow.note.content"]


TABLE = """\
epoch, time, train/box_loss, val/box_loss, metrics/mAP50(B), lr/pg0, lr/pg1
1, 1.5, 3.1, 3.3, 0.1, 0.01, 0.02
2, 3, 2.1, nan, 0.2, 0.02, 0.04
"""


def test_a_loss_is_drawn_beside_itself_in_validation(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(TABLE)

    shown = panels(read_table(table))

    assert {title: list(series) for title, series in shown.items()} == {
        "box_loss": ["train", "val"],
        "mAP50": ["mAP50"],
        "learning rate": ["pg0", "pg1"],
    }
    assert shown["box_loss"]["train"] == [3.1, 2.1]


def test_the_curves_are_a_picture(tmp_path: Path) -> None:
    table, picture = tmp_path / "results.csv", tmp_path / "results.png"
    table.write_text(TABLE)

    draw(table, picture)

    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["", "epoch,loss\n", "epoch,loss\n1\n", "epoch,loss\n1,high\n"])
def test_what_cannot_be_drawn_is_said_and_nothing_else(tmp_path: Path, text: str) -> None:
    table = tmp_path / "results.csv"
    table.write_text(text)

    with pytest.raises(UnusableError, match=r"results\.png cannot be drawn"):
        draw(table, tmp_path / "results.png")
    with pytest.raises(UnusableError):
        draw(tmp_path / "none.csv", tmp_path / "results.png")


class Hanging:
    """A run in an MLflow that takes a request and does not answer."""

    id = "run"
    params: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def write(self, _batch: backlog.Batch) -> None:
        self.asked.set()
        assert self.answers.wait(FOREVER)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    run = Hanging()
    monkeypatch.setattr(tracking, "open_run", lambda **_: (run, False))
    yield run
    run.answers.set()


def started(heard: Heard) -> tracking.Tracking:
    track = tracking.Tracking(uri="http://mlflow", run_name="job-1", tags={}, say=heard)
    track.start({"batch": 4})
    return track


def test_a_signal_that_cuts_the_wait_for_mlflow_says_what_is_lacking(hanging: Hanging) -> None:
    heard = Heard()
    track = started(heard)
    assert hanging.asked.wait(FOREVER)
    track.epoch(1, {"mAP50": 0.1})

    def left() -> float:
        return FOREVER if len(track._backlog) < 3 else 0.0  # a signal, once it is ending

    with pytest.raises(OutOfTimeError):
        patiently(lambda: track.finish("FINISHED", FOREVER), left)
    track.conclude()

    assert heard.of("mlflow_incomplete")[0]["missed"] == 3


@pytest.mark.parametrize(("after", "told"), [(0.0, 2), (FOREVER, 0)], ids=["long", "just now"])
def test_who_is_told_to_end_says_what_waits_for_an_mlflow_that_hangs(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, after: float, told: int
) -> None:
    monkeypatch.setattr(tracking, "HANGS_AFTER", after)
    heard = Heard()
    track = started(heard)
    assert hanging.asked.wait(FOREVER)
    track.epoch(1, {"mAP50": 0.1})

    track.conclude()

    assert sum(one["missed"] for one in heard.of("mlflow_incomplete")) == told


def test_an_mlflow_that_is_still_being_opened_is_not_taken_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opening, opened, run = threading.Event(), threading.Event(), Hanging()

    def slowly(**_: object) -> tuple[Hanging, bool]:
        opening.set()
        assert opened.wait(FOREVER)
        return run, False

    monkeypatch.setattr(tracking, "open_run", slowly)
    monkeypatch.setattr(tracking, "HANGS_AFTER", 0.0)
    heard = Heard()
    track = started(heard)
    assert opening.wait(FOREVER)

    track.conclude()

    assert heard.kinds == []
    run.answers.set()
    opened.set()


def test_an_mlflow_that_took_all_lacks_nothing(hanging: Hanging) -> None:
    heard = Heard()
    track = started(heard)
    hanging.answers.set()

    track.finish("FINISHED", FOREVER)
    track.conclude()

    assert heard.kinds == ["tracking_started"]


def test_a_checkpoint_brings_the_table_of_its_epochs_back() -> None:
    results = {"epoch": [1, 2], "time": [1.5, 3.0], "metrics/mAP50(B)": [0.125, 0.25]}

    table = results_table({"train_results": results})

    assert table == "epoch,time,metrics/mAP50(B)\n1,1.5,0.125\n2,3,0.25\n"
    for odd in ({}, None, {"epoch": [1, 2], "time": [1]}, {"epoch": ["x"]}, {"epoch": 1}):
        assert results_table({"train_results": odd}) is None
    assert results_table({}) is None
