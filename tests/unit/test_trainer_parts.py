from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint import Standing, read_standing
from trainer.errors import Interrupted, ObjectMissingError, ResumeError
from trainer.local_storage import LocalStorage
from trainer.metrics import tidy, tidy_name
from trainer.mlflow_run import artifact_location, default_uri
from trainer.progress import Heart, Progress, heartbeat
from trainer.stop import GRACE_SECONDS, Stop


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("metrics/mAP50(B)", "mAP50"),
        ("metrics/mAP50-95(B)", "mAP50-95"),
        ("metrics/mAP50(M)", "mAP50_mask"),
        ("metrics/recall(P)", "recall_pose"),
        ("train/box_loss", "train_box_loss"),
        ("val/cls_loss", "val_cls_loss"),
        ("lr/pg0", "lr_pg0"),
    ],
)
def test_metric_names_are_tidy(raw: str, name: str) -> None:
    assert tidy_name(raw) == name


def test_numbers_that_json_cannot_say_are_named_instead() -> None:
    raw = {"train/box_loss": float("nan"), "val/box_loss": float("inf"), "metrics/recall(B)": 1}

    assert tidy(raw) == ({"recall": 1.0}, ["train_box_loss", "val_box_loss"])


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_progress_is_a_fraction_of_the_whole_training(
    epoch: int, batch: int, batches: int, epochs: int
) -> None:
    assert 0 <= Progress("train", epochs, epoch, batch, batches).fraction <= 1


def test_a_timed_heartbeat_says_the_epoch_that_is_running() -> None:
    assert heartbeat(Progress("train", 4, 2, 5, 10)) == {
        "phase": "train",
        "epoch": 2,
        "epochs": 4,
        "batch": 5,
        "batches": 10,
        "progress": 0.375,
    }


def test_outside_of_training_a_heartbeat_has_no_epoch() -> None:
    assert heartbeat(Progress("upload"), {"gpu": {"memory_used": 1}}) == {
        "phase": "upload",
        "gpu": {"memory_used": 1},
    }


def test_a_heart_with_no_interval_never_beats_on_its_own() -> None:
    beats: list[object] = []
    heart = Heart(0, beats.append)
    heart.start()
    heart.reach(phase="train", epoch=1)

    assert heart.progress == Progress("train", 0, 1)
    assert beats == []


class Leaving:
    """Where a trainer that leaves would be gone."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def __call__(self) -> NoReturn:
        self.left.set()
        while True:  # the process would be gone now
            threading.Event().wait()


@pytest.fixture
def leaving() -> Leaving:
    return Leaving()


@pytest.fixture
def stop(request: pytest.FixtureRequest, leaving: Leaving) -> Iterator[Stop]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    stop = Stop(getattr(request, "param", GRACE_SECONDS))
    stop.listen(leaving)
    yield stop
    stop.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nobody_asks_at_first(stop: Stop, leaving: Leaving) -> None:
    stop.hear("continue")
    stop.check()

    assert not stop.wanted
    assert not leaving.left.wait(0.05)


def test_with_nothing_to_keep_a_signal_ends_the_trainer_at_once(
    stop: Stop, leaving: Leaving
) -> None:
    signal.raise_signal(signal.SIGTERM)

    assert leaving.left.wait(5)
    assert (stop.code, stop.outranks_success) == ("terminated", False)
    assert not stop.claim()


def test_with_something_to_keep_the_end_of_the_batch_is_waited_for(
    stop: Stop, leaving: Leaving
) -> None:
    stop.hold()
    stop.hear("cancel")

    with pytest.raises(Interrupted):
        stop.check()
    assert (stop.code, stop.outranks_success) == ("cancelled", True)
    assert not leaving.left.wait(0.05)
    assert stop.claim()


def test_as_long_as_nobody_asks_there_is_all_the_time(stop: Stop) -> None:
    assert stop.left(5) == math.inf


def test_the_grace_begins_with_who_asks_first(stop: Stop) -> None:
    stop.hold()
    stop.hear("cancel")
    first = stop.left()
    signal.raise_signal(signal.SIGTERM)

    assert GRACE_SECONDS - 5 < stop.left() <= first <= GRACE_SECONDS
    assert stop.left(5) < stop.left() - 4


@pytest.mark.parametrize("stop", [0.2], indirect=True)
def test_a_main_thread_that_does_not_come_to_its_end_is_not_waited_for(
    stop: Stop, leaving: Leaving
) -> None:
    stop.hold()
    signal.raise_signal(signal.SIGTERM)

    assert leaving.left.wait(5)
    assert not stop.claim()


@pytest.mark.parametrize("stop", [0.2], indirect=True)
def test_a_main_thread_that_is_at_its_end_says_its_last_word_itself(
    stop: Stop, leaving: Leaving
) -> None:
    stop.hold()
    signal.raise_signal(signal.SIGTERM)
    assert stop.claim()

    assert not leaving.left.wait(0.5)


def test_a_directive_to_stop_waits_for_nothing(stop: Stop, leaving: Leaving) -> None:
    stop.hold()
    stop.hear("stop")

    assert leaving.left.wait(5)


def test_a_cancel_outranks_the_signal_that_came_with_it(stop: Stop) -> None:
    stop.hold()
    signal.raise_signal(signal.SIGTERM)
    stop.hear("cancel")

    assert stop.code == "cancelled"


def test_once_the_end_is_decided_nothing_is_heard(stop: Stop, leaving: Leaving) -> None:
    assert stop.claim()
    stop.hear("stop")

    assert not stop.wanted
    assert not leaving.left.wait(0.05)


@pytest.mark.parametrize(
    ("checkpoint", "standing"),
    [
        ({"epoch": 1, "optimizer": {}, "train_args": {"epochs": 5}}, Standing(2, complete=False)),
        ({"epoch": 4, "optimizer": {}, "train_args": {"epochs": 5}}, Standing(5, complete=True)),
        ({"epoch": -1, "optimizer": {}, "train_args": {"epochs": 5}}, Standing(0, complete=False)),
        ({"epoch": -1, "optimizer": None, "train_args": {"epochs": 5}}, Standing(5, complete=True)),
    ],
    ids=["midway", "last epoch done", "within the first epoch", "stripped"],
)
def test_a_checkpoint_says_how_far_it_is(checkpoint: dict[str, object], standing: Standing) -> None:
    assert read_standing(checkpoint, epochs=5) == standing


@pytest.mark.parametrize(
    "checkpoint",
    [
        {},
        {"epoch": 1},
        {"epoch": "x", "train_args": {"epochs": 5}},
        {"epoch": -1, "optimizer": None, "train_args": {"epochs": 3}},
    ],
    ids=["empty", "no arguments", "no number", "ended earlier than wanted"],
)
def test_a_checkpoint_that_cannot_be_continued_says_why(checkpoint: dict[str, object]) -> None:
    with pytest.raises(ResumeError):
        read_standing(checkpoint, epochs=5)


def test_what_is_stored_is_found_again_by_its_uri(tmp_path: Path) -> None:
    source = tmp_path / "last.pt"
    source.write_bytes(b"weights")
    storage = LocalStorage(tmp_path / "a bucket")

    stored = storage.store(source, "checkpoints/job-7/last.pt")
    fetched = storage.fetch_uri(stored.uri, tmp_path / "back.pt")

    assert fetched == stored
    assert stored.uri == f"file://{tmp_path}/a%20bucket/checkpoints/job-7/last.pt"
    assert (tmp_path / "back.pt").read_bytes() == b"weights"
    folder = tmp_path / "a bucket/checkpoints/job-7"
    assert [file.name for file in folder.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("uri", ["s3://bucket/last.pt", "file://elsewhere/x", "file:///none.pt"])
def test_an_address_with_nothing_behind_it_is_missing(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ObjectMissingError):
        LocalStorage(tmp_path).fetch_uri(uri, tmp_path / "x")


def test_mlflow_keeps_its_files_beside_its_data_base(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)

    assert uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_location(uri) == (tmp_path / "mlartifacts").as_uri()
    assert artifact_location("http://mlflow:5000") is None
