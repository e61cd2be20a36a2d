from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from trainer.plan import task_named
from trainer.shapes import TASKS, Shape, write_shapes


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("yolov8n.yaml", "detect"),
        ("yolov8n-seg.yaml", "segment"),
        ("yolo11n-cls.yaml", "classify"),
        ("yolov8-pose-p6.yaml", "pose"),
        ("yolov8n-obb.yaml", "obb"),
        ("/weights/mine-seg.pt", None),
    ],
)
def test_an_architectures_name_says_what_it_does(model: str, task: str | None) -> None:
    assert task_named(model) == task


@pytest.mark.parametrize(
    ("task", "numbers"), [("detect", 4), ("segment", 8), ("pose", 4 + 3 * 2), ("obb", 8)]
)
def test_a_label_has_the_numbers_of_its_task(task: str, numbers: int) -> None:
    kind, *rest = Shape(kind=1, left=16, top=0, side=32).label(task, 64).split()

    assert kind == "1"
    assert len(rest) == numbers
    assert all(0 <= float(number) <= 1 for number in rest)


def test_a_round_shape_stays_within_its_square() -> None:
    outline = Shape(kind=0, left=10, top=20, side=8).outline

    assert len(outline) > 8
    assert all(10 <= x <= 18 and 20 <= y <= 28 for x, y in outline)


@pytest.mark.parametrize("task", TASKS)
def test_a_data_set_is_laid_out_as_its_task_wants(tmp_path: Path, task: str) -> None:
    write_shapes(tmp_path / "x.zip", images=12, seed=0, size=32, task=task)
    names = zipfile.ZipFile(tmp_path / "x.zip").namelist()

    assert ("data.yaml" in names) is (task != "classify")
    assert ("train/circle/00000.png" in names) is (task == "classify")
    assert ("labels/val/00003.txt" in names) is (task != "classify")
