"""What the real ultralytics says about data sets, asked in a process of its own.

`python -m tests.ultralytics_words` reads questions as JSON and answers each with the words of the
error, or with null: torch and ultralytics stay out of the tests' own process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.offline import offline_environment

Question = dict[str, Any]


async def ultralytics_says(questions: Sequence[Question], settings: Path) -> list[Any]:
    """Return an answer to each question: `labels`, `data`, `classes`, `image` or `formats`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__),
        cwd=Path(__file__).parents[1],
        env=os.environ | offline_environment(settings, os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(questions).encode())
    assert process.returncode == 0
    answers: list[Any] = json.loads(out.rpartition(b"ANSWERS:")[2])
    assert len(answers) == len(questions)
    return answers


def _answer(question: Question) -> Any:
    match question["of"]:
        case "formats":
            return _formats()
        case "image":
            return _about_image(question["file"])
        case "labels":
            return _about_labels(question)
        case "data":
            return _raised(lambda: _load(question))
        case "classes":
            return _raised(lambda: _load_classes(question))
        case other:
            raise AssertionError(other)


def _raised(work: Any) -> str | None:
    try:
        work()
    except Exception as error:
        return str(error)
    return None


def _formats() -> list[str]:
    from ultralytics.data.utils import IMG_FORMATS  # noqa: PLC0415

    return sorted(IMG_FORMATS)


def _about_image(file: str) -> str:
    from ultralytics.data.utils import check_image  # noqa: PLC0415

    return str(check_image(file)[0])


def _about_labels(question: Question) -> str | None:
    """Return why the picture would be dropped."""
    from ultralytics.data.utils import verify_image_label  # noqa: PLC0415

    points, each = question.get("keypoints") or (0, 0)
    pose = question["task"] == "pose"
    Path(question["label"]).write_text(question["text"])
    found = verify_image_label(
        (question["image"], question["label"], "", pose, question["classes"], points, each, False)
    )
    return str(found[-1]) if found[-2] else None


def _load(question: Question) -> None:
    """Read data.yaml and every label of `train`, as a training does first."""
    from ultralytics.cfg import get_cfg  # noqa: PLC0415
    from ultralytics.data.dataset import YOLODataset  # noqa: PLC0415
    from ultralytics.data.utils import check_det_dataset  # noqa: PLC0415

    data = check_det_dataset(question["file"], autodownload=False)
    YOLODataset(
        img_path=data["train"],
        data=data,
        task=question["task"],
        augment=True,
        hyp=get_cfg(),
        prefix="train: ",
    ).get_labels()


def _load_classes(question: Question) -> None:
    from ultralytics.data.utils import check_cls_dataset  # noqa: PLC0415

    check_cls_dataset(question["file"])


def main() -> None:
    """Answer what stdin asks."""
    answers = [_answer(question) for question in json.load(sys.stdin)]
    sys.stdout.write("ANSWERS:" + json.dumps(answers))


if __name__ == "__main__":
    main()
