"""A trainer in its long phases: it advances for as long as it gets on, and stalls when it stops."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from projections.health import Verdict
from service.callbacks_api import reports_of
from service.request_schemas import HeartbeatBody
from service.routing import read_json
from tests.given import Given, a_running_job
from trainer import backoff, looking
from trainer.collecting import collect
from trainer.configuration import read_configuration
from trainer.dataset_cache import DatasetCache, sha256_of
from trainer.hooks import Hooks
from trainer.inspection import inspect
from trainer.limits import encoded
from trainer.manifest import Entry, Manifest
from trainer.progress import Heart, Progress, heartbeat
from trainer.stop import Stop
from trainer.storage import CHUNK, open_storage
from trainer.transfer import Opened, PassingError, download
from trainer.unpack import unpack

MINUTE = 60.0


class Counter:
    """How many pieces were told."""

    def __init__(self) -> None:
        self.pieces = 0

    def __call__(self) -> None:
        self.pieces += 1


@pytest.fixture
def step() -> Counter:
    return Counter()


def beat(job: Given, heart: Heart, *, at: float) -> Verdict:
    """Say how far the trainer is; the verdict on it then."""
    body = read_json(encoded(heartbeat(heart.progress)), HeartbeatBody)
    (report,) = reports_of(body)
    job.hears(report.event, at=at)
    return job.health.verdict


def beats(job: Given, heart: Heart, *, until: float) -> Verdict:
    verdict = job.health.verdict
    while job.now < until:
        verdict = beat(job, heart, at=job.now + MINUTE)
    return verdict


def a_heart() -> Heart:
    return Heart(0, lambda _body: None)


def test_a_long_preparation_that_gets_on_is_no_stall_and_one_that_stops_is() -> None:
    job, heart = a_running_job(), a_heart()
    heart.reach(phase="fetch_dataset")
    while job.now < 4000:
        heart.step()
        assert beat(job, heart, at=job.now + MINUTE) is Verdict.HEALTHY
    last = job.now

    assert beats(job, heart, until=last + 1800 - MINUTE) is Verdict.HEALTHY
    assert beats(job, heart, until=last + 1800) is Verdict.STALLED
    heart.step()
    assert beat(job, heart, at=job.now + MINUTE) is Verdict.HEALTHY
    assert (job.state.progress.epoch, job.state.progress.fraction) == (0, 0.0)


def test_the_first_epoch_goes_on_from_any_preparation() -> None:
    job, heart = a_running_job(), a_heart()
    for _ in range(5000):
        heart.step()
    beat(job, heart, at=MINUTE)
    heart.reach(phase="train", epochs=10, epoch=1, batch=1, batches=4)

    beat(job, heart, at=2 * MINUTE)

    assert job.health.advanced_at == job.health.alive_at
    assert (job.state.progress.epoch, job.state.progress.fraction) == (1, 0.025)


def test_a_further_attempt_that_prepares_advances_and_takes_nothing_back() -> None:
    job, heart = a_running_job(), a_heart()
    heart.reach(phase="train", epochs=10, epoch=5, batch=2, batches=4)
    beat(job, heart, at=MINUTE)
    job.done("failed", at=2 * MINUTE).tick(at=4 * MINUTE)
    again = a_heart()
    again.step()

    beat(job, again, at=5 * MINUTE)

    assert job.state.attempt == 2
    assert job.health.advanced_at == job.health.alive_at
    assert (job.state.progress.epoch, job.state.progress.fraction) == (5, 0.45)


def test_a_long_validation_that_gets_on_is_no_stall_and_one_that_stops_is() -> None:
    job, heart = a_running_job(), a_heart()
    heart.reach(phase="train", epochs=10, epoch=1, batch=100, batches=100)
    beat(job, heart, at=MINUTE)
    for number in range(1, 60):
        heart.reach(validated=number, validations=200)
        assert beat(job, heart, at=job.now + MINUTE) is Verdict.HEALTHY
    last = job.now

    assert beats(job, heart, until=last + 1800) is Verdict.STALLED
    assert job.state.progress.fraction == 0.1


def test_a_validation_goes_on_counting_where_the_epochs_training_ended() -> None:
    validating = Progress("train", 4, 2, 10, 10, validated=3, validations=5)

    said = heartbeat(validating)

    assert (said["batch"], said["batches"], said["progress"]) == (13, 15, 0.5)


def test_after_a_training_nothing_is_said_of_what_came_before_it() -> None:
    heart = a_heart()
    heart.step()
    assert heartbeat(heart.progress) == {"phase": "start", "epoch": 0, "batch": 1, "progress": 0.0}

    heart.reach(phase="upload", epochs=4, epoch=None)

    assert heartbeat(heart.progress) == {"phase": "upload"}


class Recorder:
    """What a training tells of its batches."""

    def __init__(self) -> None:
        self.validated: list[tuple[int, int]] = []

    def batch_validated(self, batch: int, batches: int) -> None:
        self.validated.append((batch, batches))

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


def test_each_batch_of_an_epochs_validation_is_told_and_none_of_the_last_one() -> None:
    recorder: Any = Recorder()
    plan: Any = SimpleNamespace(batch=4)
    hooks = Hooks(plan, recorder, Stop())
    loader = SimpleNamespace(dataset=range(8))
    training = SimpleNamespace(epoch=0, batch_size=4, train_loader=_Loader(2, loader.dataset))
    validator = SimpleNamespace(dataloader=range(3))
    for epoch in (0, 1):
        training.epoch = epoch
        hooks.on_train_epoch_start(training)
        for _ in validator.dataloader:
            hooks.on_val_batch_end(validator)
    hooks._epoch = None

    hooks.on_val_batch_end(validator)

    assert recorder.validated == [(1, 3), (2, 3), (3, 3)] * 2


class _Loader:
    def __init__(self, batches: int, dataset: range) -> None:
        self._batches, self.dataset = batches, dataset

    def __len__(self) -> int:
        return self._batches


def test_a_download_gets_on_with_each_piece_but_not_with_what_comes_again(
    tmp_path: Path, step: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "FIRST_CEILING", 0.0)
    tries = iter(range(4))

    @contextmanager
    def open_at(_start: int, _etag: str | None) -> Iterator[Opened]:
        number = next(tries)

        def pieces() -> Iterator[bytes]:
            yield b"x"
            yield b"x"
            if number < 3:
                raise PassingError("cut")
            yield b"x"

        yield Opened(pieces=pieces(), start=0, total=3, etag=None)

    download("s3://b/a.pt", open_at, tmp_path / "a.pt", None, step)

    assert step.pieces == 3


def test_a_copy_from_a_folder_gets_on_with_each_piece(tmp_path: Path, step: Counter) -> None:
    (tmp_path / "large").write_bytes(b"x" * (2 * CHUNK + 1))
    environment = {
        "JOB_ID": "7",
        "ATTEMPT": "1",
        "TRACE_ID": "abc-def",
        "BACKEND_BASE_URL": "http://127.0.0.1:8080",
        "CALLBACK_TOKEN": "secret",
        "STORAGE_TYPE": "local",
        "BUCKET": str(tmp_path),
        "DATASET_ID": "shapes",
        "MODEL_NAME": "yolov8n",
        "EPOCHS": "3",
    }
    bearer: Any = None
    storage = open_storage(read_configuration(environment), "", bearer, step)

    storage.fetch("large", tmp_path / "fetched")
    assert step.pieces == 3
    storage.store(tmp_path / "fetched", "stored")
    assert step.pieces == 3, "only what has to be here before the training counts"


def test_unpacking_gets_on_with_each_file_and_each_megabyte(tmp_path: Path, step: Counter) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("small", b"x")
        archive.writestr("large", b"x" * (CHUNK + 1))

    unpack(tmp_path / "a.zip", tmp_path / "set", step=step)

    assert step.pieces == 3


def test_a_data_set_that_is_here_already_gets_on_with_each_content(
    tmp_path: Path, step: Counter
) -> None:
    storage: Any = None
    cache = DatasetCache(tmp_path / "cache", CHUNK)
    entries = []
    for number in range(3):
        file = tmp_path / str(number)
        file.write_text(f"content {number}")
        place, digest = PurePosixPath(file.name), sha256_of(file)
        entries.append(Entry(place, "key", file.stat().st_size, digest))
        cache.put(digest, file)
    manifest = Manifest(version=1, entries=tuple(entries), metadata={})

    collect(storage, manifest, tmp_path / "set", cache, step)

    assert step.pieces == 3


def test_an_inspection_gets_on_with_each_bundle_of_pictures(
    tmp_path: Path, step: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PIECE", 2)
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        for number in range(5):
            (tmp_path / split / "cat" / f"{number}.jpg").write_bytes(b"none")

    inspect(tmp_path, "classify", step)

    assert step.pieces == 6
