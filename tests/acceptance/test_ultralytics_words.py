"""Our inspection and our words, held against the ultralytics that is installed."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.ultralytics_words import Question, ultralytics_says
from trainer.dataset_cache import DatasetCache
from trainer.dataset_errors import explain_dataset_error
from trainer.description import IMAGES
from trainer.labels import LabelRules, read_labels
from trainer.shapes import write_shapes

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

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
    chance = random.Random(20)  # noqa: S311 - the same labels every time
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


Change = Callable[[Path], object]
SPLITS = "train: images/train\nval: images/val\n"
EACH = "no picture can be trained on: images/train/00000.png: {0}; images/train/00001.png: {0}; "
EACH += "images/train/00002.png: {0}."


@dataclass(frozen=True)
class Case:
    """A data set that ultralytics refuses, and our words for its own."""

    words: str
    change: Change = lambda _root: None
    task: str = "detect"
    asked: str | None = None

    def question(self, root: Path) -> Question:
        archive = root.with_suffix(".zip")
        write_shapes(archive, images=4, seed=0, size=32, task=self.task)
        shutil.unpack_archive(archive, root)
        self.change(root)
        if self.task == "classify":
            return {"of": "classes", "file": str(root)}
        described = (root / "data.yaml").read_text().replace("path: .\n", "")
        (root / "data.yaml").write_text(f"path: {root}\n{described}")
        return {"of": "data", "file": f"{root}/data.yaml", "task": self.asked or self.task}


def described(text: str) -> Change:
    return lambda root: (root / "data.yaml").write_text(text)


def labelled(text: str | bytes) -> Change:
    content = text.encode() if isinstance(text, str) else text
    return lambda root: [file.write_bytes(content) for file in (root / "labels/train").iterdir()]


def pictured(work: Callable[[Path], object]) -> Change:
    return lambda root: [work(file) for file in (root / "images/train").iterdir()]


def unclassified(root: Path) -> None:
    for picture in (root / "train").rglob("*.png"):
        picture.unlink()


def without_parts(root: Path) -> None:
    for part in ("train", "val"):
        shutil.rmtree(root / part)


CASES = {
    "no train": Case(
        "data.yaml must name `train` and `val`.", described("val: images/val\nnames: [a]\n")
    ),
    "no val": Case(
        "data.yaml must name `train` and `val`.", described("train: images/train\nnames: [a]\n")
    ),
    "no names": Case("data.yaml must list the classes under `names`.", described(SPLITS)),
    "names of nothing": Case(
        "data.yaml must list the classes under `names`.", described(f"{SPLITS}names: []\n")
    ),
    "names of no kind": Case(
        "`names` in data.yaml must be list or dict, not int.", described(f"{SPLITS}names: 3\n")
    ),
    "nc in words": Case("nc in data.yaml is 'many', no number.", described(f"{SPLITS}nc: many\n")),
    "nc and names": Case(
        "data.yaml says nc: 4 but names 1 classes; they must agree.",
        described(f"{SPLITS}nc: 4\nnames: [a]\n"),
    ),
    "numbers of names": Case(
        "data.yaml numbers the 2 classes 1-2; they are numbered 0-1.",
        described(f"{SPLITS}names: {{1: a, 2: b}}\n"),
    ),
    "val is not there": Case(
        "the folder images/none that data.yaml names does not exist.",
        described("train: images/train\nval: images/none\nnames: [a]\n"),
    ),
    "train is not there": Case(
        "the folder images/none holds no pictures.",
        described("train: images/none\nval: images/val\nnames: [a]\n"),
    ),
    "no keypoints": Case("data.yaml needs `kpt_shape`, such as [17, 3].", asked="pose"),
    "boxes to segment": Case(
        "some labels are boxes, and the task segment wants outlines.", asked="segment"
    ),
    "boxes for obb": Case(
        "some labels are boxes, and the task obb wants four corners.", asked="obb"
    ),
    "no labels": Case(
        "no picture of `train` has labels.", lambda root: shutil.rmtree(root / "labels")
    ),
    "no pictures": Case("the folder images/train holds no pictures.", pictured(Path.unlink)),
    "class": Case(
        EACH.format("the class is 7, but data.yaml lists only 3 classes (0 to 2)"),
        labelled("7 0.5 0.5 0.2 0.2"),
    ),
    "six columns": Case(
        EACH.format("a line has 6 numbers; 5 are wanted"), labelled("0 0.5 0.5 0.2 0.2 0.9")
    ),
    "pose columns": Case(
        EACH.format("each line needs 11 numbers"), labelled("0 0.5 0.5 0.2 0.2"), task="pose"
    ),
    "mixed": Case(
        EACH.format("some lines are boxes and some are outlines; one kind is wanted"),
        labelled("0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.2 0.2 0.3 0.3"),
    ),
    "pixels": Case(
        EACH.format("a coordinate is not between 0 and 1 (pixels?)"), labelled("0 320 20 40 40")
    ),
    "negative": Case(EACH.format("a number is negative"), labelled("0 -0.5 0.5 0.2 0.2")),
    "half a class": Case(
        EACH.format("a class is not a whole number"), labelled("0.5 0.5 0.5 0.2 0.2")
    ),
    "words": Case(EACH.format("'cat' is not a number"), labelled("cat 0.5 0.5 0.2 0.2")),
    "ragged": Case(
        EACH.format("not all lines have the same number of columns"),
        labelled("0 0.5 0.5 0.2 0.2\n0 0.5 0.5"),
    ),
    "odd": Case(
        EACH.format("a line has an odd number of coordinates"),
        labelled("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"),
    ),
    "no text": Case(EACH.format("its label file is not text in UTF-8"), labelled(b"\xff\xfe\x00")),
    "no picture": Case(
        EACH.format("the picture cannot be read"), pictured(lambda file: file.write_text("no"))
    ),
    "cut off": Case(
        EACH.format("the picture cannot be read"),
        pictured(lambda file: file.write_bytes(file.read_bytes()[:-40])),
    ),
    "small": Case(
        EACH.format("the picture has fewer than 10 pixels a side"),
        pictured(lambda file: Image.new("RGB", (5, 5)).save(file)),
    ),
    "gif": Case(
        EACH.format("pictures of the kind GIF are not used"),
        pictured(lambda file: Image.new("RGB", (50, 50)).save(file, "GIF")),
    ),
    "classes of nothing": Case(
        "the folder `train` holds no pictures.",
        unclassified,
        task="classify",
    ),
    "no classes": Case(
        "there is no folder `train` with pictures.",
        without_parts,
        task="classify",
    ),
}


async def test_what_ultralytics_says_is_told_in_our_words(shared: Path) -> None:
    roots = {name: shared / name.replace(" ", "-") / "dataset" for name in CASES}
    for root in roots.values():
        root.parent.mkdir()
    questions = [case.question(roots[name]) for name, case in CASES.items()]

    answers = await ultralytics_says(questions, shared)

    said = dict(zip(CASES, answers, strict=True))
    told = {name: explain_dataset_error(answer or "") for name, answer in said.items()}
    assert told == {name: case.words for name, case in CASES.items()}, said


async def test_a_good_data_set_and_a_good_classification_are_not_spoken_of(shared: Path) -> None:
    (shared / "good").mkdir()
    questions = [
        Case("", task=task).question(shared / "good" / task)
        for task in ("detect", "segment", "obb", "pose", "classify")
    ]

    *answers, formats = await ultralytics_says([*questions, {"of": "formats"}], shared)

    assert answers == [None] * len(questions)
    assert {f".{one}" for one in formats} == IMAGES


async def test_a_picture_that_ultralytics_mends_stays_as_it_was_in_the_cache(
    shared: Path, tmp_path: Path
) -> None:
    damaged = (shared / "picture.jpg").read_bytes() + b"a camera's notes"
    digest = hashlib.sha256(damaged).hexdigest()
    (tmp_path / "first.jpg").write_bytes(damaged)
    cache = DatasetCache(tmp_path / "cache", 1024 * 1024)
    cache.put(digest, tmp_path / "first.jpg")
    assert cache.take(digest, tmp_path / "second.jpg")

    files = [str(tmp_path / name) for name in ("first.jpg", "second.jpg")]
    answers = await ultralytics_says([{"of": "image", "file": file} for file in files], shared)

    assert answers == [f"{file}: corrupt JPEG restored and saved" for file in files]
    assert (tmp_path / "second.jpg").read_bytes() != damaged
    assert cache.take(digest, tmp_path / "third.jpg")
    assert (tmp_path / "third.jpg").read_bytes() == damaged
