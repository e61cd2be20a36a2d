"""The end of an attempt that does not go as it should, over real HTTP."""

from __future__ import annotations

import signal
import threading
import zipfile
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.callback_server import CallbackServer, until
from trainer import last_word
from trainer.callbacks import Callbacks
from trainer.configuration import Configuration, read_configuration
from trainer.local_storage import LocalStorage
from trainer.outcomes import Failed, Left, Outcome, Succeeded
from trainer.plan import Plan
from trainer.progress import Heart
from trainer.results import Results
from trainer.run import Attempt, run
from trainer.stop import EXIT_CODE, Stop


class GoneError(Exception):
    """The process would have ended."""


def gone(_code: int) -> NoReturn:
    raise GoneError


class Tracking:
    """MLflow, for as long as it takes to end."""

    run_id = None

    def __init__(self) -> None:
        self.ending = threading.Event()
        self.ended = threading.Event()

    def finish(self, _status: str, patience: float) -> None:
        self.ending.set()
        self.ended.wait(patience)

    def conclude(self) -> None:
        """It has no run."""


@pytest.fixture
async def server() -> AsyncIterator[CallbackServer]:
    server = CallbackServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def stop() -> Iterator[Stop]:
    stop = Stop(4.0)
    yield stop
    stop.close()


@pytest.fixture
def tracking() -> Iterator[Tracking]:
    tracking = Tracking()
    yield tracking
    tracking.ended.set()


def described(server: CallbackServer, folder: Path, **changes: str) -> Configuration:
    environment = {
        "JOB_ID": str(server.job_id),
        "ATTEMPT": "1",
        "TRACE_ID": server.trace_id,
        "BACKEND_BASE_URL": server.url,
        "CALLBACK_TOKEN": server.token,
        "STORAGE_TYPE": "local",
        "BUCKET": str(folder / "bucket"),
        "DATASET_ID": "shapes",
        "MODEL_NAME": "yolov8n",
        "EPOCHS": "2",
        "WORK_DIR": str(folder / "work"),
        "OUTBOX_DIR": str(folder / "outbox"),
    }
    return read_configuration(environment | changes)


def calling_back(server: CallbackServer, stop: Stop, folder: Path, attempt: int = 1) -> Callbacks:
    return Callbacks(
        base_url=server.url,
        job_id=server.job_id,
        trace_id=server.trace_id,
        token=server.token,
        hear=stop.hear,
        attempt=attempt,
        folder=folder,
    )


@pytest.fixture
def attempt(server: CallbackServer, stop: Stop, tracking: Any, tmp_path: Path) -> Attempt:
    return Attempt(
        configuration=described(server, tmp_path),
        stop=stop,
        callbacks=calling_back(server, stop, tmp_path / "outbox"),
        heart=Heart(0, lambda _body: None),
        tracking=tracking,
        results=Results("checkpoints/job-7"),
        work=tmp_path,
        exit_with=gone,
    )


def aside(work: Callable[[], int]) -> list[int]:
    """Do it in a thread of its own; its result is there once it has one."""
    results: list[int] = []
    threading.Thread(target=lambda: results.append(work()), daemon=True).start()
    return results


async def test_a_signal_comes_too_late_for_a_training_that_only_waits_for_mlflow(
    server: CallbackServer, attempt: Attempt, stop: Stop, tracking: Tracking
) -> None:
    stop.hold()
    stop.listen(attempt.leave)
    codes = aside(lambda: attempt.end(Succeeded({}, [])))
    await until(tracking.ending.is_set)

    signal.raise_signal(signal.SIGTERM)

    await until(lambda: server.done)
    assert server.done is not None
    assert server.done["status"] == "succeeded"
    await until(lambda: codes == [0])


async def test_a_last_word_that_cannot_be_said_still_ends_the_process(
    attempt: Attempt, stop: Stop, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(last_word, "patiently", no_thread)
    codes: list[int] = []

    def leave(code: int) -> NoReturn:
        codes.append(code)
        raise GoneError

    object.__setattr__(attempt, "exit_with", leave)
    tracking.ended.set()

    with pytest.raises(GoneError):
        await to_thread(attempt.leave)
    assert codes == [EXIT_CODE]


async def test_who_is_told_to_end_does_not_wait_for_what_earlier_attempts_left(
    server: CallbackServer, stop: Stop, tmp_path: Path
) -> None:
    await server.stop()
    killed = calling_back(server, stop, tmp_path)
    killed.event("epoch_end", epoch=1)
    killed.close()
    server.busy_for, server.token = frozenset({server.token}), "second-token"
    await server.start()
    later = calling_back(server, stop, tmp_path, attempt=2)
    stop.hear("cancel")

    await to_thread(last_word.hear_out, later, stop)
    assert await to_thread(last_word.say_done, later, stop, Left())

    later.close()
    assert server.of_kind("event") == []


@pytest.mark.parametrize("ended", [Failed("oom", "", True), Left()], ids=["failed", "left"])
async def test_what_was_given_up_hears_of_it_before_it_writes_in_the_jobs_name(
    server: CallbackServer, attempt: Attempt, tmp_path: Path, ended: Outcome
) -> None:
    trained(attempt, tmp_path)
    server.directive = "stop"
    attempt.callbacks.event("phase_started", phase="upload")

    assert await to_thread(attempt._rescued, ended) is ended

    assert attempt.stop.abandoned
    assert not (tmp_path / "bucket").exists()


async def test_weights_are_rescued_also_where_nobody_can_be_asked(
    server: CallbackServer, attempt: Attempt, tmp_path: Path
) -> None:
    trained(attempt, tmp_path)
    await server.stop()
    attempt.callbacks.event("phase_started", phase="upload")

    rescued = await to_thread(attempt._rescued, Failed("oom", "", True))

    assert [one["name"] for one in rescued.artifacts] == ["last.pt"]


def trained(attempt: Attempt, folder: Path) -> None:
    """Lay what a training has written by its end."""
    plan = Plan(
        model="m", data=folder, epochs=1, imgsz=32, batch=1, params={}, folder=folder / "run"
    )
    plan.last.parent.mkdir(parents=True)
    with zipfile.ZipFile(plan.last, "w") as archive:  # as torch writes it
        archive.writestr("data.pkl", "weights")
    storage = LocalStorage(folder / "bucket")
    attempt.results.begin(storage, attempt._uploads(storage), plan)


async def test_an_attempt_without_a_place_to_work_in_says_so(
    server: CallbackServer, stop: Stop, tmp_path: Path
) -> None:
    (tmp_path / "work").write_text("no folder")

    assert await to_thread(run, described(server, tmp_path), stop, gone) == 1

    assert server.done is not None
    assert server.done["status"] == "failed"
    assert server.done["error"]["code"] == "error"
    assert str(tmp_path / "work") in server.done["error"]["message"]
    (traceback,) = server.events("traceback")
    assert traceback["exception"] == "FileExistsError"
