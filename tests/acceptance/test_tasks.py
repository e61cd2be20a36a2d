"""Every task of ultralytics trains: real attempts on tiny data, one after the other."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.callback_server import CallbackServer
from trainer.shapes import write_shapes

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

# The architecture of each task, and what its metrics must hold.
TASKS = {
    "detect": ("yolov8n", {"mAP50", "train_box_loss"}),
    "segment": ("yolov8n-seg", {"mAP50", "mAP50_mask", "train_seg_loss"}),
    "classify": ("yolov8n-cls", {"accuracy_top1", "train_loss"}),
    "pose": ("yolov8n-pose", {"mAP50", "mAP50_pose", "train_pose_loss"}),
    "obb": ("yolov8n-obb", {"mAP50", "train_box_loss"}),
}


@pytest.fixture(scope="module")
async def trained(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[CallbackServer]]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "bucket" / "datasets").mkdir(parents=True)
    servers = [CallbackServer(job_id=number) for number in range(1, len(TASKS) + 2)]
    async with AsyncExitStack() as stack:
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
        await train(folder, servers)
        yield servers


async def train(folder: Path, servers: list[CallbackServer]) -> None:
    environments = [
        environment(folder, server, task) for server, task in zip(servers, TASKS, strict=False)
    ]
    environments.append(
        environment(folder, servers[-1], "detect")
        | {"EPOCHS": "5", "TERMINATE_BEFORE_VALIDATION": "2"}
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.many_trainings",
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(json.dumps(environments).encode())
    assert output.decode().splitlines()[-1] == json.dumps([0] * len(TASKS) + [143]), output.decode()


def environment(folder: Path, server: CallbackServer, task: str) -> dict[str, str]:
    write_shapes(
        folder / "bucket" / "datasets" / f"{task}.zip", images=12, seed=1, size=32, task=task
    )
    return {
        "JOB_ID": str(server.job_id),
        "ATTEMPT": "1",
        "TRACE_ID": server.trace_id,
        "BACKEND_BASE_URL": server.url,
        "CALLBACK_TOKEN": server.token,
        "STORAGE_TYPE": "local",
        "BUCKET": str(folder / "bucket"),
        "DATASET_ID": task,
        "MODEL_NAME": TASKS[task][0],
        "EPOCHS": "1",
        "IMGSZ": "32",
        "BATCH": "3",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "WORK_DIR": str(folder / "work" / task),
    }


@pytest.mark.parametrize("task", TASKS)
async def test_a_task_trains_and_its_metrics_have_plain_names(
    trained: list[CallbackServer], task: str
) -> None:
    server = trained[list(TASKS).index(task)]

    assert server.done is not None
    assert server.done["status"] == "succeeded"
    assert {one["name"] for one in server.done["artifacts"]} == {"best.pt", "last.pt"}
    assert server.events("training_started")[0]["task"] == task
    (epoch,) = server.events("epoch_end")
    assert epoch["metrics"].keys() >= TASKS[task][1] | {"fitness"}
    assert all("/" not in name and "(" not in name for name in epoch["metrics"])
    (saved,) = server.events("checkpoint_saved")
    assert (saved["epoch"], saved["best"]["epoch"]) == (1, 1)
    beat = server.of_kind("heartbeat")[-1]
    assert beat["images_per_second"] > 0
    assert beat["eta_seconds"] == 0
    assert 0 < beat["host"]["memory_used"] < beat["host"]["memory_total"]


async def test_a_signal_during_a_validation_does_not_wait_for_its_end(
    trained: list[CallbackServer],
) -> None:
    server = trained[-1]

    assert [data["epoch"] for data in server.events("epoch_end")] == [1]
    saved = server.events("checkpoint_saved")[-1]
    assert (saved["epoch"], saved["partial"], saved["best"]["epoch"]) == (1, True, 1)
    assert server.done is not None
    assert server.done["error"]["code"] == "terminated"
    assert {one["name"] for one in server.done["artifacts"]} == {"best.pt", "last.pt"}
