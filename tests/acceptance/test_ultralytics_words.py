"""Our inspection and our words, held against the ultralytics that is installed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.ultralytics_words import Question, ultralytics_says
from trainer.dataset_errors import explain_dataset_error
from trainer.labels import LabelRules, read_labels

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

NAMES = ["cat", "dog"]
GOOD = "0 0.5 0.5 0.2 0.2\n"
FILES = 400
KEYPOINTS = {"pose": [2, 3], "pose of 2": [2, 2], "detect of a pose set": [2, 3]}
WIDTHS = {
    "detect": [5],
    "detect of a pose set": [5, 11],
    "segment": [7, 9],
    "obb": [9],
    "pose": [11],
    "pose of 2": [9],
}
# What we refuse and a look at one file does not: a box refuses the whole set where outlines are
# wanted, and what is not finite makes the loss so.
STRICTER = {
    "detect": {"not_a_number"},  # in a keypoint that it would leave out
    "segment": {"columns_wrong"},
    "obb": {"columns_wrong"},
    "pose": {"not_a_number"},
}
# What labels are made of here: numbers on both sides of each border, and none on it.
ORDINARY = ["0", "1", "0.2", "0.5", "0.75"]
ODD = ["2", "-1", "-0.005", "-0.5", "1.005", "1.5", "640", "0.5000001", "nan", "inf", "cat", "1e-3"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    Image.new("RGB", (32, 32)).save(folder / "picture.jpg")
    return folder


def made_up(chance: random.Random, task: str) -> str:
    """Return a label file, mostly of the right shape, now and then with something odd in it."""
    lines = []
    for _ in range(chance.randint(0, 3)):
        width = chance.choice(WIDTHS[task] * 12 + [4, 5, 6, 7, 8, 9, 11])
        rest = chance.choices(ORDINARY[1:], k=width - 1)
        columns = [chance.choice(["0", "1"]), *rest]
        if chance.random() < 0.35:
            columns[chance.randrange(width)] = chance.choice(ODD)
        lines.append(" ".join(columns))
    return "\n".join(lines)


async def test_a_label_file_is_an_error_exactly_where_ultralytics_drops_its_picture(
    shared: Path,
) -> None:
    chance = random.Random(20)
    questions: list[Question] = []
    for number in range(FILES):
        for task in WIDTHS:
            about = {"task": task.split()[0], "keypoints": KEYPOINTS.get(task), "classes": 2}
            paths = {"image": f"{shared}/picture.jpg", "label": f"{shared}/{number}.txt"}
            questions.append({"of": "labels", "text": made_up(chance, task), **about, **paths})

    answers = await ultralytics_says(questions, shared)

    seen = set()
    for question, answer in zip(questions, answers, strict=True):
        keypoints = question["keypoints"]
        rules = LabelRules(question["task"], 2, tuple(keypoints) if keypoints else None)
        problems = read_labels(question["text"], rules).problems
        errors = {code for _, (level, code, _) in problems if level == "error"}
        if answer is not None or not errors <= STRICTER[question["task"]]:
            assert bool(errors) == (answer is not None), (question, answer, problems)
        seen.add((question["task"], bool(errors)))
    assert len(seen) == 8, "each task had good ones and bad ones"
