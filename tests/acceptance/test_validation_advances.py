"""The real ultralytics tells of each batch that it validates, within a training and after one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from trainer.dataset import ready_dataset
from trainer.offline import offline_environment
from trainer.shapes import write_shapes

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

TRAINING = """
import json, sys
from pathlib import Path
from trainer import train
from trainer.plan import Plan
from trainer.stop import Stop

class Recorder:
    non_finite, validated = (), []
    def batch_validated(self, batch, batches):
        self.validated.append([batch, batches])
    def __getattr__(self, _name):
        return lambda *_, **__: None

folder, steps = Path(sys.argv[1]), []
plan = Plan(model="yolov8n.yaml", data=folder / "data.yaml", epochs=2, imgsz=32, batch=2,
            params={"device": "cpu"}, folder=folder / "run")
train.stay_offline()
train.train(plan, Recorder(), Stop())
train.finish(plan, lambda: steps.append(1))
print("ANSWER:" + json.dumps([Recorder.validated, len(steps)]))
"""


async def test_each_batch_of_a_validation_is_told(tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes.zip", images=32, seed=0, size=32)
    shutil.unpack_archive(tmp_path / "shapes.zip", tmp_path / "dataset")
    ready_dataset(tmp_path / "dataset", tmp_path / "data.yaml", "detect")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TRAINING, str(tmp_path)),
        cwd=Path(__file__).parents[2],
        env=os.environ | offline_environment(tmp_path, os.environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()

    assert process.returncode == 0, out.decode()
    validated, steps = json.loads(out.rpartition(b"ANSWER:")[2])
    batches = validated[0][1]
    assert batches > 1
    assert validated == [[batch, batches] for batch in range(1, batches + 1)] * 2
    assert steps > 1
