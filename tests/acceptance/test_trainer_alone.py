"""`python -m trainer` as its launcher sees it: a process, callbacks, files, an exit code."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import pytest

from tests.callback_server import until
from tests.launcher import SLOW, Launcher, assert_every_line_is_traced, ended, path_of
from tests.mlflow import MlflowServer

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


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
