"""`python -m trainer` as its launcher sees it: a process, callbacks, files, an exit code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import sys
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.callback_server import CallbackServer, until
from tests.mlflow import MlflowServer
from trainer.past import ASKING_PATIENCE, LEFTOVERS_PATIENCE
from trainer.shapes import write_shapes

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

# Enough for imports and an epoch on a slow machine with two cores.
SLOW = 180.0


@dataclass
class Launcher:
    """Starts trainers against one server and one bucket, and ends those that a test left."""

    server: CallbackServer
    folder: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"

    @property
    def log(self) -> str:
        return (self.folder / "trainer.log").read_text()

    def tracked_files(self) -> list[str]:
        files = (self.folder / "mlartifacts").rglob("*")
        return sorted(file.name for file in files if file.is_file())

    def tracked_steps(self) -> list[tuple[str, int]]:
        """Return the epochs whose metrics each run in MLflow holds."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as tracked:
            wanted = "select distinct run_uuid, step from metrics where key = 'mAP50' order by step"
            return tracked.execute(wanted).fetchall()

    def add_shapes(self, images: int = 16) -> None:
        (self.bucket / "datasets").mkdir(parents=True)
        write_shapes(self.bucket / "datasets" / "shapes.zip", images=images, seed=0, size=64)

    def add_zip(self, **entries: str) -> None:
        (self.bucket / "datasets").mkdir(parents=True)
        with zipfile.ZipFile(self.bucket / "datasets" / "shapes.zip", "w") as archive:
            for name, text in entries.items():
                archive.writestr(name, text)

    async def launch(self, **changes: str) -> asyncio.subprocess.Process:
        with (self.folder / "trainer.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "trainer",
                env=os.environ | self._environment() | changes,
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        return {
            "JOB_ID": str(self.server.job_id),
            "ATTEMPT": "1",
            "TRACE_ID": self.server.trace_id,
            "BACKEND_BASE_URL": self.server.url,
            "CALLBACK_TOKEN": self.server.token,
            "STORAGE_TYPE": "local",
            "BUCKET": str(self.bucket),
            "DATASET_ID": "shapes",
            "MODEL_NAME": "yolov8n",
            "EPOCHS": "2",
            "IMGSZ": "64",
            "BATCH": "4",
            "HEARTBEAT_SECONDS": "0.2",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "WORK_DIR": str(self.folder / "work"),
        }


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    server = CallbackServer()
    await server.start()
    launcher = Launcher(server, tmp_path)
    yield launcher
    for process in launcher.started:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await server.stop()


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(SLOW):
        return await process.wait()


def path_of(artifact: dict[str, Any]) -> Path:
    return Path(unquote(urlsplit(artifact["uri"]).path))


def assert_every_line_is_traced(launcher: Launcher) -> None:
    marker = f"[TRACE:{launcher.server.trace_id}]"
    assert [line for line in launcher.log.splitlines() if marker not in line] == []


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


async def test_a_training_outlives_its_service_and_leaves_its_weights_and_its_run(
    launcher: Launcher,
) -> None:
    launcher.add_shapes()
    server = launcher.server

    process = await launcher.launch()
    await until(lambda: server.events("training_started"), seconds=SLOW)
    await server.stop()
    await until(lambda: "callbacks wait" in launcher.log, seconds=SLOW)
    await server.start()

    assert await ended(process) == 0, launcher.log
    phases = [data["phase"] for data in server.events("phase_started")]
    assert phases == ["fetch_dataset", "unpack_dataset", "prepare", "train", "upload"]
    assert [data["epoch"] for data in server.events("epoch_end")] == [1, 2]
    assert [data["epoch"] for data in server.events("checkpoint_saved")][-1] == 2
    assert {"mAP50", "train_box_loss"} <= server.events("epoch_end")[0]["metrics"].keys()
    assert [body["seq"] for body in server.records] == list(range(1, len(server.records) + 1))
    timed = [body for body in server.of_kind("heartbeat") if "phase" in body]
    assert timed
    assert all(0 <= body.get("progress", 0) <= 1 for body in timed)
    done = server.done
    assert done is not None
    assert done["status"] == "succeeded"
    assert done["mlflow_run_id"]
    assert {one["name"] for one in done["artifacts"]} == {"best.pt", "last.pt"}
    for one in done["artifacts"]:
        content = path_of(one).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (one["sha256"], one["bytes"])
    assert launcher.tracked_files() == ["args.yaml", "best.pt", "results.csv", "results.png"]
    assert [data["mlflow_run_id"] for data in server.events("tracking_started")] == [
        done["mlflow_run_id"]
    ]
    assert_every_line_is_traced(launcher)
    assert f"[TRACE:{server.trace_id}] epoch=2 epoch 2 of 2 took" in launcher.log


async def test_a_killed_training_goes_on_from_the_newest_checkpoint_that_is_whole(
    launcher: Launcher,
) -> None:
    launcher.add_shapes()
    server = launcher.server
    server.knows_the_past = True
    process = await launcher.launch(EPOCHS="5")
    await until(lambda: len(server.events("checkpoint_saved")) > 1, seconds=SLOW)
    process.kill()
    await ended(process)
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
    launcher.add_shapes()
    server = launcher.server
    server.knows_the_past = True
    process = await launcher.launch(EPOCHS="4")
    await until(lambda: len(server.events("checkpoint_saved")) > 1, seconds=SLOW)
    process.kill()
    await ended(process)
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


async def test_an_outage_of_mlflow_leaves_the_training_alone_and_no_gap_in_its_run(
    launcher: Launcher,
) -> None:
    launcher.add_shapes()
    server = launcher.server
    with MlflowServer(launcher.folder) as mlflow:
        await asyncio.to_thread(mlflow.start)
        process = await launcher.launch(EPOCHS="500", MLFLOW_TRACKING_URI=mlflow.url)
        await until(lambda: server.events("tracking_started"), seconds=SLOW)
        mlflow.kill()
        await until(lambda: server.events("mlflow_unavailable"), seconds=SLOW)
        away = len(server.events("epoch_end"))
        await until(lambda: len(server.events("epoch_end")) > away + 2, seconds=SLOW)
        await asyncio.to_thread(mlflow.start)
        await until(lambda: server.events("mlflow_recovered"), seconds=SLOW)
        process.terminate()

        assert await ended(process) == 143, launcher.log
        assert server.done is not None
        run_id = server.done["mlflow_run_id"]
        steps = [step for step, _, _ in mlflow.history(run_id, "mAP50")]
        epochs = [data["epoch"] for data in server.events("epoch_end")]
        assert steps == epochs[: len(steps)]
        assert len(steps) > away + 2
        assert len(server.events("mlflow_unavailable")) == 1
        assert server.events("mlflow_recovered")[0]["missed"] >= 2


async def test_without_a_service_sigterm_still_saves_and_ends_within_its_grace(
    launcher: Launcher,
) -> None:
    launcher.add_shapes()
    server = launcher.server

    process = await launcher.launch(EPOCHS="500", GRACE_SECONDS="12")
    await until(lambda: server.events("epoch_end"), seconds=SLOW)
    await server.stop()
    process.terminate()

    async with asyncio.timeout(15):
        assert await process.wait() == 143, launcher.log
    assert (launcher.bucket / "checkpoints" / "job-7" / "last.pt").is_file()
    assert (launcher.bucket / "checkpoints" / "job-7" / "attempt-1" / "best.pt").is_file()
    assert server.done is None


async def test_a_cancel_directive_ends_the_training_with_a_checkpoint(launcher: Launcher) -> None:
    launcher.add_shapes()
    server = launcher.server

    scratch = launcher.folder / "scratch"
    scratch.mkdir()

    process = await launcher.launch(EPOCHS="500", WORK_DIR="", TMPDIR=str(scratch))
    await until(lambda: server.events("training_started"), seconds=SLOW)
    server.directive = "cancel"

    assert await ended(process) == 143, launcher.log
    assert [body["type"] for body in server.of_kind("event")][-1] == "checkpoint_saved"
    done = server.done
    assert done is not None
    assert (done["error"]["code"], done["error"]["retryable"]) == ("cancelled", False)
    assert server.records[-1]["kind"] == "done"
    left = [file for file in scratch.rglob("*") if file.is_file()]
    assert left == [], "neither its work nor a callback"


async def test_a_zip_that_would_write_elsewhere_is_refused_by_name(launcher: Launcher) -> None:
    launcher.add_zip(**{"data.yaml": "names: [a]", "../../evil.txt": "here I am"})

    process = await launcher.launch()

    assert await ended(process) == 1, launcher.log
    done = launcher.server.done
    assert done is not None
    assert (done["error"]["code"], done["error"]["retryable"]) == ("dataset_invalid", False)
    assert "../../evil.txt" in done["error"]["message"]
    assert not list(launcher.folder.rglob("evil.txt"))
    assert_every_line_is_traced(launcher)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"DATASET_ID": "gone"}, "dataset_missing", "gone.zip"),
        ({"DATASET_ID": "../shapes"}, "dataset_invalid", "../shapes"),
        ({"TRAIN_PARAMS": '{"project": "x"}'}, "params_invalid", "project"),
        ({"MODEL_NAME": "gone.pt"}, "params_invalid", "gone.pt"),
    ],
    ids=["no zip", "no plain id", "params", "weights"],
)
async def test_what_cannot_be_trained_is_said_in_words_and_not_tried_again(
    launcher: Launcher, change: dict[str, str], code: str, words: str
) -> None:
    process = await launcher.launch(**change)

    assert await ended(process) == 1, launcher.log
    done = launcher.server.done
    assert done is not None
    assert (done["error"]["code"], done["error"]["retryable"]) == (code, False)
    assert words in done["error"]["message"]


async def test_sigterm_is_heard_while_the_data_set_is_fetched(launcher: Launcher) -> None:
    (launcher.bucket / "datasets").mkdir(parents=True)
    with (launcher.bucket / "datasets" / "shapes.zip").open("wb") as huge:
        huge.truncate(1 << 40)  # a sparse file: more than can be copied while we look

    process = await launcher.launch()
    await until(lambda: launcher.server.events("phase_started"))
    process.terminate()

    assert await ended(process) == 143, launcher.log
    assert launcher.server.done is not None
    assert launcher.server.done["error"]["code"] == "terminated"


AT_IMPORT = """
import os, signal, sys

class Early:
    def find_spec(self, name, path=None, target=None):
        if name == "trainer.run":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Early())
"""


async def test_sigterm_is_heard_before_the_trainer_has_imported_itself(launcher: Launcher) -> None:
    (launcher.folder / "sitecustomize.py").write_text(AT_IMPORT)

    process = await launcher.launch(PYTHONPATH=str(launcher.folder))

    assert await ended(process) == 143, launcher.log
    assert launcher.server.done is not None
    assert launcher.server.done["error"]["code"] == "terminated"


async def test_a_directive_to_stop_ends_it_without_a_last_word(launcher: Launcher) -> None:
    launcher.add_shapes()
    launcher.server.directive = "stop"

    process = await launcher.launch()

    assert await ended(process) == 143, launcher.log
    assert launcher.server.done is None


NO_STAMPER = """
import os, signal
from trainer import logs

start = logs.start

def start_and_kill(*args):
    stamper = start(*args)
    os.kill(stamper, signal.SIGKILL)
    os.waitid(os.P_PID, stamper, os.WEXITED | os.WNOWAIT)
    return stamper

logs.start = start_and_kill
"""


async def test_a_trainer_whose_log_is_gone_still_ends(launcher: Launcher) -> None:
    launcher.add_shapes()
    launcher.server.directive = "stop"
    (launcher.folder / "sitecustomize.py").write_text(NO_STAMPER)

    process = await launcher.launch(PYTHONPATH=f"{launcher.folder}:{Path(__file__).parents[2]}")

    async with asyncio.timeout(60):
        assert await process.wait() == 143, launcher.log


async def test_the_check_says_yes_without_importing_anything_heavy() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "trainer", "--check")

    assert await ended(process) == 0


async def test_a_missing_variable_is_named_in_one_sentence() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "trainer",
        env={"PATH": os.environ["PATH"], "JOB_ID": "1"},
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()

    assert process.returncode == 2
    assert errors.decode() == "The variable ATTEMPT is missing.\n"
