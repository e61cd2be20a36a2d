from __future__ import annotations

import errno
import hashlib
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trainer.results
from trainer.errors import Interrupted, StorageDeniedError, StorageUnreachableError
from trainer.local_storage import LocalStorage
from trainer.plan import Plan
from trainer.results import Results
from trainer.storage import Owner, Stored
from trainer.uploads import Best, OutOfTimeError, Uploads, patiently, until

FOREVER = 30.0


class Gate(LocalStorage):
    """A bucket whose writes wait until they are let through, or fail as they are told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.failures: list[Exception] = []
        self.refused = ""  # how a key ends that cannot be written
        self.keys: list[str] = []

    def store(self, source: Path, key: str, *, owner: Owner | None = None) -> Stored:
        self.entered.set()
        assert self.open.wait(FOREVER)
        if self.refused and key.endswith(self.refused):
            raise StorageDeniedError
        if self.failures:
            raise self.failures.pop(0)
        self.keys.append(key)
        return super().store(source, key, owner=owner)


def weights(epoch: int) -> str:
    return f"epoch {epoch}" + "!" * epoch


class Training:
    """Writes its weights in place, as ultralytics does, and hands them over."""

    def __init__(self, folder: Path) -> None:
        self.storage = Gate(folder / "bucket")
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.last, self.best = folder / "last.pt", folder / "best.pt"
        self.aside = folder / "aside"
        self.uploads = Uploads(
            storage=self.storage,
            folder="job/attempt-2",
            say=lambda kind, **data: self.said.append((kind, data)),
            aside=self.aside,
        )

    def epoch(self, number: int, *, better: bool = False, settle: bool = True) -> None:
        self.last.write_text(weights(number))
        if better:
            self.best.write_text(weights(number))
        self.uploads.offer(number, self.last, self.best)
        if settle:
            self.settle()

    def settle(self) -> None:
        assert self.uploads.settle(until(FOREVER, lambda: FOREVER))

    def saved(self) -> list[dict[str, Any]]:
        return [data for kind, data in self.said if kind == "checkpoint_saved"]

    def content(self, uri: str) -> str:
        return Path(uri.removeprefix("file://")).read_text()


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def test_each_checkpoint_is_named_with_its_hash_and_the_best_so_far(training: Training) -> None:
    training.epoch(1, better=True)
    training.epoch(2)

    first, second = training.saved()
    assert (first["epoch"], first["best"]["epoch"]) == (1, 1)
    assert second["sha256"] == hashlib.sha256(weights(2).encode()).hexdigest()
    assert second["best"] == first["best"]
    assert training.storage.keys == [
        "job/attempt-2/best.pt",
        "job/attempt-2/checkpoint-1.pt",
        "job/attempt-2/checkpoint-0.pt",
    ]
    assert list(training.aside.iterdir()) == []


def test_what_the_log_named_last_outlives_the_writing_of_the_next(training: Training) -> None:
    for number in range(1, 6):
        training.epoch(number, better=number != 3)
        saved = training.saved()
        for one in saved[-2:]:
            assert training.content(one["uri"]) == weights(one["epoch"])
            best = one["best"]
            assert training.content(best["uri"]) == weights(best["epoch"])


def test_the_training_never_waits_and_only_the_newest_waiting_checkpoint_is_sent(
    training: Training,
) -> None:
    training.storage.open.clear()
    training.epoch(1, better=True, settle=False)
    training.epoch(2, better=True, settle=False)
    for number in range(3, 10):
        training.epoch(number, settle=False)
    assert not training.uploads.settle(lambda: 0)
    training.storage.open.set()
    training.settle()

    assert [data["epoch"] for data in training.saved()][-1] == 9
    assert len(training.saved()) <= 2
    newest = training.saved()[-1]
    assert training.content(newest["uri"]) == weights(9)
    assert newest["best"]["epoch"] == 2, "the best weights of one that was not sent come along"
    assert list(training.aside.iterdir()) == []


def test_what_is_being_written_over_is_not_sent_but_what_comes_next(training: Training) -> None:
    training.storage.open.clear()
    training.epoch(1, settle=False)
    assert training.storage.entered.wait(FOREVER)
    training.epoch(2, better=True, settle=False)
    training.last.write_text(weights(3))
    training.storage.open.set()
    training.settle()
    assert 2 not in [data["epoch"] for data in training.saved()]

    training.epoch(3)
    assert training.saved()[-1]["sha256"] == hashlib.sha256(weights(3).encode()).hexdigest()
    assert training.saved()[-1]["best"]["epoch"] == 2


def test_the_last_checkpoint_is_copied_before_the_training_goes_on(training: Training) -> None:
    training.storage.open.clear()
    training.epoch(1, settle=False)
    training.last.write_text(weights(2))
    training.best.write_text(weights(2))
    training.uploads.offer(2, training.last, training.best, at_once=True)
    training.last.write_text("stripped")
    training.best.write_text("stripped too")
    training.storage.open.set()
    training.settle()

    newest = training.saved()[-1]
    assert training.content(newest["uri"]) == weights(2)
    assert training.content(newest["best"]["uri"]) == weights(2)
    assert list(training.aside.iterdir()) == []


def test_a_copy_that_is_written_over_does_not_push_out_what_waits(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.storage.open.clear()
    training.epoch(1, settle=False)
    assert training.storage.entered.wait(FOREVER)
    training.last.write_text(weights(2))
    training.uploads.offer(2, training.last, training.best, at_once=True)
    training.last.write_text(weights(3))
    copyfile = shutil.copyfile

    def interrupted(source: Path, target: Path) -> None:
        copyfile(source, target)
        source.write_text("written over while it was copied")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", interrupted)
        training.uploads.offer(3, training.last, training.best, at_once=True)
    training.storage.open.set()
    training.settle()

    assert [data["epoch"] for data in training.saved()] == [1, 2]
    assert training.content(training.saved()[-1]["uri"]) == weights(2)
    assert list(training.aside.iterdir()) == []


def test_an_unfinished_epochs_weights_are_never_taken_for_the_best(training: Training) -> None:
    training.storage.open.clear()
    training.epoch(1, settle=False)
    assert training.storage.entered.wait(FOREVER)
    training.epoch(2, better=True, settle=False)
    training.last.write_text("within epoch 3")
    training.uploads.offer(2, training.last, training.best, partial=True)
    training.storage.open.set()
    training.settle()

    newest = training.saved()[-1]
    assert newest["partial"]
    assert training.content(newest["uri"]) == "within epoch 3"
    assert training.content(newest["best"]["uri"]) == weights(2)


def test_an_attempt_that_is_launched_again_spares_what_it_goes_on_from(training: Training) -> None:
    training.epoch(1, better=True)
    training.epoch(2)
    training.epoch(4)
    ground = training.saved()[-1]
    again = Training(training.last.parent)
    again.uploads.know_ground(ground["uri"])
    again.uploads.know_best(Best(**ground["best"]), again.best, 4)
    again.epoch(5, better=True)

    assert training.content(ground["uri"]) == weights(4)
    assert training.content(ground["best"]["uri"]) == weights(1)


def test_a_failed_upload_is_said_and_its_best_weights_go_with_the_next(training: Training) -> None:
    training.storage.failures = [OSError(errno.ENOSPC, "No space left on device")]
    training.epoch(1, better=True)
    training.epoch(2)

    (kind, data), *_ = training.said
    assert (kind, data["epoch"], data["code"]) == ("checkpoint_failed", 1, "disk_full")
    (saved,) = training.saved()
    assert (saved["epoch"], saved["best"]["epoch"]) == (2, 1)


def test_best_weights_that_the_log_still_names_are_not_written_over(training: Training) -> None:
    training.epoch(1, better=True)
    named = training.saved()[-1]["best"]
    training.storage.refused = "checkpoint-0.pt"  # where the next one goes
    for number in (2, 3, 4):
        training.epoch(number, better=True)

    assert [data["epoch"] for data in training.saved()] == [1]
    assert training.content(named["uri"]) == weights(1)


def test_a_checkpoint_that_cannot_be_copied_is_said_and_harms_nothing(training: Training) -> None:
    training.aside.write_text("a file is in the way")
    training.epoch(1)

    assert [kind for kind, _ in training.said] == ["checkpoint_failed"]


def test_a_resumed_training_names_the_best_weights_where_they_lie(training: Training) -> None:
    training.best.write_text("brought back")
    known = Best(uri="file:///attempt-1/best.pt", sha256="ab", bytes=12, epoch=3)
    training.uploads.know_best(known, training.best, 4)
    training.epoch(5)

    assert training.saved()[0]["best"] == known.named()
    assert training.storage.keys == ["job/attempt-2/checkpoint-1.pt"]


def test_best_weights_that_are_nowhere_yet_are_sent_under_their_own_epoch(
    training: Training,
) -> None:
    training.best.write_text("the checkpoint itself")
    training.uploads.know_best(None, training.best, 4)
    training.epoch(5)

    assert training.saved()[0]["best"]["epoch"] == 4


def test_what_takes_too_long_is_left_alone() -> None:
    hold = threading.Event()

    with pytest.raises(OutOfTimeError):
        patiently(lambda: hold.wait(FOREVER), until(0.05, lambda: FOREVER))
    hold.set()


def test_what_fails_in_another_thread_fails_here() -> None:
    def fail() -> None:
        raise StorageDeniedError

    with pytest.raises(StorageDeniedError):
        patiently(fail, lambda: FOREVER)
    assert patiently(lambda: 7, lambda: FOREVER) == 7


@pytest.fixture
def results(training: Training, tmp_path: Path) -> Results:
    plan = Plan(
        model="m", data=tmp_path, epochs=1, imgsz=32, batch=1, params={}, folder=tmp_path / "run"
    )
    plan.last.parent.mkdir(parents=True)
    for file in (plan.last, plan.best):
        with zipfile.ZipFile(file, "w") as archive:  # as torch writes them
            archive.writestr("data.pkl", file.name * 100)
    results = Results("job")
    results.begin(training.storage, training.uploads, plan)
    return results


def left(seconds: float) -> Callable[[], float]:
    return until(seconds, lambda: FOREVER)


def test_the_results_lie_under_the_jobs_own_names(training: Training, results: Results) -> None:
    stored = results.store(left(FOREVER))

    assert [one["name"] for one in stored] == ["best.pt", "last.pt"]
    assert training.storage.keys == ["job/best.pt", "job/last.pt"]


def test_storage_that_is_denied_at_the_end_fails_the_training(
    training: Training, results: Results
) -> None:
    training.storage.failures = [StorageDeniedError()]
    with pytest.raises(StorageDeniedError):
        results.store(left(FOREVER))

    training.storage.failures = [StorageDeniedError()]
    assert results.rescue(left(FOREVER)) == []


def test_a_complete_training_waits_for_storage_that_is_away(
    training: Training, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.storage.failures = [StorageUnreachableError(), StorageUnreachableError()]

    assert [one["name"] for one in results.store(left(FOREVER))] == ["best.pt", "last.pt"]

    monkeypatch.setattr(trainer.results, "PATIENCE", 0.0)
    training.storage.failures = [StorageUnreachableError()]
    with pytest.raises(StorageUnreachableError):
        results.store(left(FOREVER))


def test_an_attempt_that_is_given_up_writes_no_more_under_the_jobs_names(
    training: Training, results: Results
) -> None:
    results._given_up = lambda: "job/best.pt" in training.storage.keys

    with pytest.raises(Interrupted):
        results.store(left(FOREVER))
    assert results.rescue(left(FOREVER)) == []

    assert training.storage.keys == ["job/best.pt"]


def test_weights_that_were_only_half_written_are_not_rescued(
    training: Training, results: Results, tmp_path: Path
) -> None:
    last = tmp_path / "run" / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:-40])  # where the disk was full

    assert [one["name"] for one in results.rescue(left(FOREVER))] == ["best.pt"]


def test_results_wait_no_longer_than_there_is_time(training: Training, results: Results) -> None:
    training.storage.open.clear()
    began = time.monotonic()

    with pytest.raises(Interrupted):
        results.store(left(0.05))
    assert results.rescue(left(0.05)) == []
    assert time.monotonic() - began < FOREVER / 2
    training.storage.open.set()


def test_before_a_training_there_is_nothing_to_rescue() -> None:
    assert Results("job").rescue(left(1)) == []
