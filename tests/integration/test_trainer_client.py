"""The callback client in a script's hands, over real HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import threading
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.callback_server import CallbackServer, until
from trainer import backoff
from trainer.client import REQUIRED, Run, epochlog_run
from trainer.errors import ConfigurationError, NanLossError, NotHeardError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_CEILING", 0.01)
    monkeypatch.setattr(backoff, "HIGHEST_CEILING", 0.05)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[CallbackServer]:
    """A service, and the environment of an attempt of its job."""
    server = CallbackServer(knows_the_past=True)
    await server.start()
    for name, value in {
        "JOB_ID": str(server.job_id),
        "ATTEMPT": "1",
        "TRACE_ID": server.trace_id,
        "BACKEND_BASE_URL": server.url,
        "CALLBACK_TOKEN": server.token,
        "HEARTBEAT_SECONDS": "0",
        "OUTBOX_DIR": str(tmp_path / "outbox"),
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    await server.stop()


async def report(training: Callable[[Run], None]) -> None:
    """Run a training inside its block, beside the server."""

    def script() -> None:
        with epochlog_run() as run:
            training(run)

    await to_thread(script)


async def leave_with(code: int, training: Callable[[Run], None]) -> None:
    """Run a training whose block is left by an end of the process."""

    def script() -> None:
        with pytest.raises(SystemExit) as ended, epochlog_run() as run:
            training(run)
        assert ended.value.code == code

    await to_thread(script)


def wait_for(true: Callable[[], object]) -> None:
    """Wait in a script's own thread; the test's timeout ends it otherwise."""
    while not true():
        threading.Event().wait(0.005)


async def start_script(
    body: str, *, after: str = "", **variables: str
) -> asyncio.subprocess.Process:
    """Start a script whose block has this body, and what comes after it, as a launcher would."""
    code = (
        "import os, signal, threading\nfrom trainer.client import epochlog_run\n"
        "with epochlog_run() as run:\n"
        f"{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
        f"{after}\n"
    )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        env={**os.environ, **variables},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_training_is_told_from_its_first_word_to_its_success(
    server: CallbackServer, tmp_path: Path
) -> None:
    def training(run: Run) -> None:
        assert run.resume_from is None
        run.heartbeat(epoch=1, epochs=2, batch=3, batches=10, gpu={"name": "H200"})
        run.epoch_end(1, {"loss": 0.5}, epochs=2, seconds=1.5)
        run.checkpoint_saved(1, tmp_path / "a b.pt", bytes=9)
        run.event("learning_rate", value=0.1)
        run.artifact("model.pt", "s3://bucket/model.pt", bytes=9)
        run.succeed({"val/loss": 0.25})

    await report(training)

    first, beat = server.of_kind("heartbeat")
    assert "epoch" not in first
    assert (beat["epoch"], beat["epochs"], beat["batch"], beat["batches"]) == (1, 2, 3, 10)
    assert beat["gpu"] == {"name": "H200"}
    assert server.events("epoch_end") == [
        {"epoch": 1, "epochs": 2, "metrics": {"loss": 0.5}, "seconds": 1.5}
    ]
    saved = {"epoch": 1, "uri": f"{tmp_path.as_uri()}/a%20b.pt", "bytes": 9}
    assert server.events("checkpoint_saved") == [saved]
    assert server.events("learning_rate") == [{"value": 0.1}]
    done = server.records[-1]
    assert (done["kind"], done["status"]) == ("done", "succeeded")
    assert done["metrics"] == {"val_loss": 0.25}
    assert done["artifacts"] == [{"name": "model.pt", "uri": "s3://bucket/model.pt", "bytes": 9}]
    assert [body["seq"] for body in server.records] == list(range(1, len(server.records) + 1))
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "oom", True),
        (NanLossError("The loss is not a number."), "nan_loss", False),
        (NotImplementedError("no such head"), "error", True),
        (ValueError("Input contains NaN"), "error", True),
        (ImportError("no torchvision"), "not_installed", False),
        (SystemExit(0), "error", True),
    ],
    ids=repr,
)
async def test_an_exception_is_a_failure_with_its_code_and_evidence_and_goes_on(
    server: CallbackServer, error: BaseException, code: str, retryable: bool
) -> None:
    def training(run: Run) -> None:
        run.artifact("half.pt", "s3://bucket/half.pt")
        raise error

    def script() -> None:
        with pytest.raises(type(error)) as raised, epochlog_run() as run:
            training(run)
        assert raised.value is error

    await to_thread(script)

    (told,) = server.events("traceback")
    assert (told["code"], told["exception"]) == (code, type(error).__name__)
    assert any("in training" in line for line in told["lines"])
    done = server.records[-1]
    assert (done["kind"], done["status"]) == ("done", "failed")
    assert (done["error"]["code"], done["error"]["retryable"]) == (code, retryable)
    assert "Ultralytics" not in done["error"]["message"]
    assert done["artifacts"] == [{"name": "half.pt", "uri": "s3://bucket/half.pt"}]


async def test_a_result_with_more_than_the_service_takes_is_still_a_success(
    server: CallbackServer,
) -> None:
    def training(run: Run) -> None:
        run.artifact("model.pt", "s3://bucket/model.pt", sha256="not one")
        run.succeed({f"loss of class {number}": 0.5 for number in range(1200)})

    await report(training)

    assert server.done is not None
    assert (server.done["status"], len(server.done["metrics"])) == ("succeeded", 1000)
    assert server.done["artifacts"] == [{"name": "model.pt", "uri": "s3://bucket/model.pt"}]
    (reduced,) = server.events("done_reduced")
    assert reduced["left_out"] == {"metrics": 200, "facts": 1}


async def test_a_fact_that_json_cannot_say_fails_where_it_is_named(server: CallbackServer) -> None:
    def script() -> None:
        with pytest.raises(TypeError), epochlog_run() as run:
            run.artifact("model.pt", "s3://bucket/model.pt", made_by=object())

    await to_thread(script)

    assert server.done is not None
    assert (server.done["status"], server.done["error"]["code"]) == ("failed", "error")


async def test_a_cancel_ends_the_script_where_it_looks(server: CallbackServer) -> None:
    reached: list[str] = []
    server.directive = "cancel"

    def training(run: Run) -> None:
        try:
            wait_for(run.check)
        except Exception:
            reached.append("nothing of the script may swallow it")
        finally:
            reached.append("cleaned up")

    await leave_with(143, training)

    assert reached == ["cleaned up"]
    done = server.records[-1]
    assert (done["kind"], done["error"]["code"]) == ("done", "cancelled")
    assert done["error"]["retryable"] is False


async def test_a_loop_that_is_broken_off_is_no_success(server: CallbackServer) -> None:
    server.directive = "cancel"

    def training(run: Run) -> None:
        wait_for(lambda: run.should_stop)
        run.checkpoint_saved(1, "s3://bucket/last.pt")

    await leave_with(143, training)

    assert server.events("checkpoint_saved") == [{"epoch": 1, "uri": "s3://bucket/last.pt"}]
    assert server.records[-1]["error"]["code"] == "cancelled"


async def test_what_breaks_while_it_is_told_to_end_is_no_failure_of_its_own(
    server: CallbackServer,
) -> None:
    server.directive = "cancel"

    def training(run: Run) -> None:
        wait_for(lambda: run.should_stop)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await report(training)

    assert server.records[-1]["error"]["code"] == "cancelled"
    assert server.events("traceback") == []


async def test_an_attempt_that_is_over_ends_without_a_last_word(server: CallbackServer) -> None:
    server.directive = "stop"

    def training(run: Run) -> None:
        wait_for(run.check)

    await leave_with(143, training)

    assert server.done is None
    assert server.of_kind("heartbeat")


async def test_sigterm_lets_the_script_save_and_gives_it_the_exit_code(
    server: CallbackServer,
) -> None:
    process = await start_script(
        """
        run.event("training")
        while not run.should_stop:
            threading.Event().wait(0.01)
        run.checkpoint_saved(1, "s3://bucket/last.pt")
        run.check()
        """
    )
    await until(lambda: server.events("training"))
    process.terminate()

    code, output = await ended(process)

    assert code == 143, output
    assert server.events("checkpoint_saved")
    assert server.records[-1]["error"]["code"] == "terminated"
    assert server.records[-1]["error"]["retryable"] is True


async def test_a_script_that_never_looks_is_ended_when_its_grace_is_over(
    server: CallbackServer,
) -> None:
    process = await start_script(
        """
        run.event("training")
        while True:
            threading.Event().wait(60)
        """,
        GRACE_SECONDS="12",
    )
    await until(lambda: server.events("training"))
    process.terminate()

    code, output = await ended(process)

    assert code == 143, output
    assert server.records[-1]["error"]["code"] == "terminated"


async def test_a_signal_after_the_last_look_comes_too_late_and_signals_are_given_back(
    server: CallbackServer,
) -> None:
    process = await start_script(
        """
        run.check()
        signal.raise_signal(signal.SIGTERM)
        """,
        after="print(signal.getsignal(signal.SIGTERM).name)",
    )

    code, output = await ended(process)

    assert code == 0, output
    assert output.splitlines()[-1] == "SIG_DFL"
    assert server.records[-1]["status"] == "succeeded"


async def test_a_training_that_says_it_is_complete_succeeds_although_it_was_told_to_end(
    server: CallbackServer,
) -> None:
    process = await start_script(
        """
        signal.raise_signal(signal.SIGTERM)
        assert run.should_stop
        run.succeed({"loss": 0.5})
        """
    )

    code, output = await ended(process)

    assert code == 0, output
    assert (server.records[-1]["status"], server.records[-1]["metrics"]) == (
        "succeeded",
        {"loss": 0.5},
    )


async def test_an_attempt_cannot_begin_twice(server: CallbackServer) -> None:
    def script() -> None:
        run = epochlog_run()
        with run:
            run.epoch_end(1)
        with pytest.raises(RuntimeError, match="an attempt ends only once"):
            run.__enter__()

    await to_thread(script)

    assert len(server.of_kind("done")) == 1


async def test_a_service_that_is_away_for_a_while_misses_nothing(server: CallbackServer) -> None:
    loop = asyncio.get_running_loop()

    def training(run: Run) -> None:
        run.epoch_end(1)
        wait_for(lambda: server.events("epoch_end"))
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        for epoch in (2, 3, 4):
            run.epoch_end(epoch)
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()

    await report(training)

    assert [data["epoch"] for data in server.events("epoch_end")] == [1, 2, 3, 4]
    assert server.records[-1]["status"] == "succeeded"


async def test_a_success_that_nobody_takes_is_an_error(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBACK_TOKEN", "somebody-elses")

    with pytest.raises(NotHeardError, match="never took the result"):
        await report(lambda run: run.epoch_end(1))

    assert server.records == []


async def test_timed_heartbeats_repeat_what_was_reached(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTBEAT_SECONDS", "0.02")

    def beats() -> list[tuple[Any, ...]]:
        names = ("epoch", "epochs", "batch", "batches")
        return [tuple(body.get(name) for name in names) for body in server.of_kind("heartbeat")]

    def training(run: Run) -> None:
        run.reach(epoch=1, epochs=9, batch=4, batches=10)
        wait_for(lambda: (1, 9, 4, 10) in beats())
        run.epoch_end(1, {"loss": 1.0})
        wait_for(lambda: (1, 9, None, None) in beats())

    await report(training)

    assert any("memory_used" in body.get("host", {}) for body in server.of_kind("heartbeat"))


async def test_numbers_of_any_library_become_floats_and_what_is_none_is_named(
    server: CallbackServer,
) -> None:
    def training(run: Run) -> None:
        measured = {"loss": np.float32(0.5), "count": np.int64(3), "val/f1": float("nan")}
        run.epoch_end(np.int64(1), measured)
        run.heartbeat(metrics={"lr": np.float64("inf")})

    await report(training)

    (epoch,) = server.events("epoch_end")
    assert epoch == {
        "epoch": 1,
        "metrics": {"loss": 0.5, "count": 3.0},
        "non_finite": ["val_f1"],
    }
    assert server.of_kind("heartbeat")[-1]["non_finite"] == ["lr"]


async def test_a_second_attempt_goes_on_where_the_first_one_ended(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def first(run: Run) -> None:
        for epoch in (1, 2):
            run.epoch_end(epoch)
            run.checkpoint_saved(epoch, tmp_path / f"epoch-{epoch}.pt", sha256="ab")
        run.epoch_end(3)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        await report(first)
    monkeypatch.setenv("ATTEMPT", "2")

    def second(run: Run) -> None:
        found = run.resume_from
        assert found is not None
        assert (found.epoch, found.path, found.sha256) == (2, tmp_path / "epoch-2.pt", "ab")
        assert [one.epoch for one in run.past.checkpoints] == [2, 1]
        for epoch in (3, 4):
            run.epoch_end(epoch)

    await report(second)

    assert server.events("epoch_end")[-2:] == [{"epoch": 3, "redone": True}, {"epoch": 4}]


async def test_where_the_service_cannot_say_the_launchers_word_counts(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.knows_the_past = False
    monkeypatch.setenv("RESUME_FROM", "s3://bucket/last.pt")
    found: list[Any] = []

    await report(lambda run: found.append(run.resume_from))

    assert (found[0].uri, found[0].epoch) == ("s3://bucket/last.pt", None)


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("name", REQUIRED)
async def test_half_an_environment_is_always_an_error_that_names_what_is_missing(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch, name: str, optional: bool
) -> None:
    monkeypatch.delenv(name)

    with pytest.raises(ConfigurationError, match=f"The variable {name} is missing"):
        epochlog_run(optional=optional)
