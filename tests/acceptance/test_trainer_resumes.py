"""A trainer that was killed, suspended or left with a damaged checkpoint goes on."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from tests.callback_server import CallbackServer, until
from tests.launcher import SLOW, Launcher, ended, path_of
from trainer.past import ASKING_PATIENCE, LEFTOVERS_PATIENCE

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


def assert_lines_within_an_epoch_say_so(launcher: Launcher, epoch: int) -> None:
    """Of a log in JSON, and every line of it is."""
    told = [json.loads(line) for line in launcher.log.splitlines()]
    assert all(one["trace_id"] == launcher.server.trace_id and one["level"] for one in told)
    said = [one["message"] for one in told]
    begins = said.index(f"epoch {epoch} of 500 begins")
    ends = next(at for at, text in enumerate(said) if text.startswith(f"epoch {epoch} of 500 took"))
    assert begins < ends
    assert all(one["epoch"] == epoch for one in told[begins : ends + 1])
    assert not any("epoch" in one for one in told[:begins])


async def killed_after_two_checkpoints(launcher: Launcher, *, epochs: str) -> CallbackServer:
    """Let a training of shapes be killed; the server that it called back to."""
    launcher.add_shapes()
    server = launcher.server
    server.knows_the_past = True
    process = await launcher.launch(EPOCHS=epochs)
    await until(lambda: len(server.events("checkpoint_saved")) > 1, seconds=SLOW)
    process.kill()
    await ended(process)
    return server


async def test_a_killed_training_goes_on_from_the_newest_checkpoint_that_is_whole(
    launcher: Launcher,
) -> None:
    server = await killed_after_two_checkpoints(launcher, epochs="5")
    *_, whole, damaged = server.events("checkpoint_saved")
    with path_of(damaged).open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    reported = server.events("epoch_end")[-1]["epoch"]
    first = len(server.records)

    process = await launcher.launch(EPOCHS="5", ATTEMPT="2")

    assert await ended(process) == 0, launcher.log
    assert server.events("resume_failed") == []
    assert [data["uri"] for data in server.events("checkpoint_damaged")] == [damaged["uri"]]
    again = [body["data"] for body in server.records[first:] if body.get("type") == "epoch_end"]
    assert [data["epoch"] for data in again] == list(range(whole["epoch"] + 1, 6))
    redone = [data["epoch"] for data in again if data.get("redone")]
    assert redone == list(range(whole["epoch"] + 1, reported + 1))
    assert server.events("training_started")[-1]["resumed_from"] == whole["uri"]
    assert server.of_kind("done")[-1]["status"] == "succeeded"
    # Nothing of the first attempt was touched by the second one.
    assert hashlib.sha256(path_of(whole).read_bytes()).hexdigest() == whole["sha256"]

    second = len(server.records)
    process = await launcher.launch(EPOCHS="5", ATTEMPT="3")

    assert await ended(process) == 0, launcher.log
    types = [body["type"] for body in server.records[second:] if "type" in body]
    assert "resume_complete" in types
    assert "epoch_end" not in types
    assert server.of_kind("done")[-1]["status"] == "succeeded"
    # All are one run, which lacks no epoch, and its table holds each one once.
    runs = {data["mlflow_run_id"] for data in server.events("tracking_started")}
    assert runs == {server.of_kind("done")[-1]["mlflow_run_id"]}
    assert launcher.tracked_steps() == [(run, step) for run in runs for step in range(1, 6)]
    (table,) = (launcher.folder / "mlartifacts").rglob("results.csv")
    epochs = [line.split(",")[0] for line in table.read_text().splitlines()]
    assert epochs == ["epoch", "1", "2", "3", "4", "5"]


async def test_an_attempt_that_is_launched_again_goes_on_where_its_first_process_ended(
    launcher: Launcher,
) -> None:
    server = await killed_after_two_checkpoints(launcher, epochs="4")
    newest, reported = server.events("checkpoint_saved")[-1], server.events("epoch_end")[-1]
    first = len(server.records)

    # As a Job that was suspended and is admitted again: the same attempt on another machine.
    process = await launcher.launch(EPOCHS="4", WORK_DIR=str(launcher.folder / "elsewhere"))

    assert await ended(process) == 0, launcher.log
    again = [body["data"] for body in server.records[first:] if body.get("type") == "epoch_end"]
    assert [data["epoch"] for data in again] == list(range(newest["epoch"] + 1, 5))
    redone = [data["epoch"] for data in again if data.get("redone")]
    assert redone == list(range(newest["epoch"] + 1, reported["epoch"] + 1))

    # And the next attempt, whose service is away for longer than a first attempt would wait.
    first = len(server.records)
    await server.stop()
    process = await launcher.launch(EPOCHS="4", ATTEMPT="2")
    await until(lambda: launcher.log.count("were imported") == 3, seconds=SLOW)
    away = time.monotonic()
    await until(
        lambda: time.monotonic() > away + ASKING_PATIENCE + LEFTOVERS_PATIENCE + 5, seconds=SLOW
    )
    await server.start()

    assert await ended(process) == 0, launcher.log
    types = [body["type"] for body in server.records[first:] if "type" in body]
    assert "resume_complete" in types
    assert "epoch_end" not in types


async def test_a_damaged_checkpoint_is_said_and_sigterm_keeps_what_was_trained(
    launcher: Launcher,
) -> None:
    launcher.add_shapes()
    server = launcher.server
    damaged = launcher.folder / "last.pt"
    damaged.write_bytes(b"no checkpoint")

    nobody = "http://127.0.0.1:1"  # and MLflow is away all the time

    process = await launcher.launch(
        EPOCHS="500",
        RESUME_FROM=damaged.as_uri(),
        MLFLOW_TRACKING_URI=nobody,
        LOG_FORMAT="json",
    )
    await until(lambda: server.events("epoch_end"), seconds=SLOW)
    process.terminate()

    assert await ended(process) == 143, launcher.log
    assert server.events("checkpoint_damaged")[0]["uri"] == damaged.as_uri()
    assert server.events("resume_failed")[0]["uri"] == damaged.as_uri()
    done = server.done
    assert done is not None
    assert (done["status"], done["error"]["code"]) == ("failed", "terminated")
    assert done["error"]["retryable"] is True
    assert path_of(server.events("checkpoint_saved")[-1]).is_file()
    assert_lines_within_an_epoch_say_so(launcher, 1)
