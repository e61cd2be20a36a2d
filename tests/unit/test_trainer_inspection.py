from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.inspection import inspect, inspect_path
from trainer.layout import label_of, walk_split
from trainer.looking import Inspection
from trainer.shapes import TASKS, write_shapes

FIRST = "00000"
SPLITS = "train: images/train\nval: images/val\n"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real data set of each task."""
    folder = tmp_path_factory.mktemp("sets")
    for task in TASKS:
        write_shapes(folder / f"{task}.zip", images=24, seed=3, size=32, task=task)
        shutil.unpack_archive(folder / f"{task}.zip", folder / task)
    return folder


@pytest.fixture
def copy_of(sets: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda task: Path(shutil.copytree(sets / task, tmp_path / "set"))


def told(inspection: Inspection, level: str = "error") -> list[str]:
    return [f"{one.code} {one}" for one in inspection.findings.of(level)]  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
def test_a_good_data_set_passes_and_its_task_is_seen(sets: Path, task: str) -> None:
    inspection = inspect(sets / task)
    answer = inspection.as_json()

    assert (told(inspection), told(inspection, "warning")) == ([], [])
    assert inspection.passed
    assert answer["names"] == ["circle", "square", "triangle"]
    assert answer["images"] == {"train": 18, "val": 6}
    assert answer["task"] == task
    assert sum(answer["objects_of"].values()) == answer["objects"] >= 24


@pytest.mark.parametrize("task", TASKS)
def test_a_zip_is_inspected_like_its_folder(sets: Path, task: str, tmp_path: Path) -> None:
    folder = inspect(sets / task, task)
    archive = inspect_path(sets / f"{task}.zip", task, tmp_path)

    assert archive.as_json() == folder.as_json()


def test_what_is_no_zip_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")

    [error] = told(inspect_path(tmp_path / "a.zip", None, tmp_path))

    assert error.startswith("zip The data set is not a readable zip: ")


def spoil(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(
    ("task", "line", "words"),
    [
        ("detect", "7 0.5 0.5 0.2 0.2", "the class is 7, but data.yaml lists only 3 classes"),
        ("segment", "0 0.5 0.5 0.2 0.2", "the task segment wants"),
        ("pose", "0 0.5 0.5 0.2 0.2", "the task pose wants"),
        ("obb", "0 0.5 0.5 0.2 0.2", "the task obb wants"),
    ],
)
def test_a_bad_line_is_named_with_its_file(
    copy_of: Callable[[str], Path], task: str, line: str, words: str
) -> None:
    root = copy_of(task)
    label = f"labels/val/{min((root / 'labels/val').iterdir()).name}"
    spoil(root, label, f"{(root / label).read_text()}{line}\n")
    number = len((root / label).read_text().splitlines())

    inspection = inspect(root, task)

    errors = told(inspection)
    assert not inspection.passed
    assert len(errors) == 1, errors
    assert f"{label}, line {number}: " in errors[0]
    assert words in errors[0]


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda root: (root / "data.yaml").unlink(), "data_yaml The data set has no data.yaml"),
        (
            lambda root: spoil(root, "data.yaml", "names: [a\n"),
            "data_yaml The data set's data.yaml cannot be read: ",
        ),
        (
            lambda root: spoil(root, "data.yaml", "train: images/train\nval: images/val\n"),
            "names data.yaml must list the classes under `names`.",
        ),
        (
            lambda root: spoil(root, "data.yaml", f'{SPLITS}names: [a, b, "c\\ud83d"]\n'),
            "names data.yaml names a class 'c\\ud83d', which is not text.",
        ),
        (
            lambda root: spoil(
                root, "data.yaml", "train: images/train\nval: images/valid\nnames: [a, b, c]\n"
            ),
            "split `val: images/valid` in data.yaml is not a folder of the data set.",
        ),
        (
            lambda root: shutil.rmtree(root / "labels/train"),
            "labels_missing no picture of `train` has a label file; for images/train/00000.png it",
        ),
        (
            lambda root: spoil(root, f"images/train/{FIRST}.png", "no picture"),
            "image_unreadable images/train/00000.png: the file is not a picture that can be read",
        ),
        (
            lambda root: (root / f"labels/train/{FIRST}.txt").write_bytes(b"\xff\xfe\x00"),
            "labels_unreadable labels/train/00000.txt: the file is not text in UTF-8",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_an_error(
    copy_of: Callable[[str], Path], change: Change, error: str
) -> None:
    root = copy_of("detect")
    change(root)

    inspection = inspect(root)

    assert not inspection.passed
    assert [one for one in told(inspection) if one.startswith(error)], told(inspection)


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            lambda root: (root / f"labels/train/{FIRST}.txt").unlink(),
            "image_without_labels images/train/00000.png: there is no labels/train/00000.txt",
        ),
        (
            lambda root: (root / f"images/train/{FIRST}.png").unlink(),
            "labels_without_image labels/train/00000.txt: there is no picture for these labels",
        ),
        (
            lambda root: spoil(root, "images/train/x.gif", "GIF89a"),
            "image_not_used images/train/x.gif: pictures of this kind are not trained on",
        ),
        (
            lambda root: shutil.copy(
                root / f"images/train/{FIRST}.png", root / "images/val/copy.png"
            ),
            "image_in_two_splits images/val/copy.png: the picture is also in `train` as images",
        ),
        (
            lambda root: shutil.copy(
                root / f"images/train/{FIRST}.png", root / "images/train/c.png"
            ),
            "image_twice images/train/c.png: the picture is the same as images/train/00000.png",
        ),
        (
            lambda root: shutil.copy(
                root / "images/train/00001.png", root / f"images/train/{FIRST}.jpg"
            ),
            "labels_shared images/train/00000.png: the picture has the same labels as images/tra",
        ),
        (
            lambda root: (
                shutil.copy(root / "images/train/00001.png", root / "images/train/A.png")
                and shutil.copy(root / "images/train/00002.png", root / "images/train/a.png")
            ),
            "name_clash images/train/a.png: the name differs from images/train/A.png only in cap",
        ),
        (
            lambda root: (
                shutil.copy(root / "images/train/00001.png", root / "images/train/caf\u00e9.png")
                and shutil.copy(
                    root / "images/train/00002.png", root / "images/train/cafe\u0301.png"
                )
            ),
            "name_clash images/train/caf\u00e9.png: the name differs from images/train/cafe",
        ),
        (
            lambda root: spoil(
                root, "data.yaml", "train: images/train\nval: images/train\nnames: [a, b, c]\n"
            ),
            "split_twice `train` and `val` of data.yaml are the same folder",
        ),
        (
            lambda root: spoil(
                root, "data.yaml", "train: images/train\nval: images/val\nnames: [a, b, a]\n"
            ),
            "names_twice data.yaml lists the class 'a' twice",
        ),
        (
            lambda root: spoil(
                root,
                "data.yaml",
                "train: images/train\nval: images/val\ntest: images/test\nnames: [a, b, c]\n",
            ),
            "split `test: images/test` in data.yaml is not a folder of the data set.",
        ),
    ],
)
def test_what_only_makes_a_training_worse_is_a_warning(
    copy_of: Callable[[str], Path], change: Change, warning: str
) -> None:
    root = copy_of("detect")
    change(root)

    inspection = inspect(root)

    assert inspection.passed, told(inspection)
    warnings = told(inspection, "warning")
    assert [one for one in warnings if one.startswith(warning)], warnings


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda root: (root / "train/hexagon").mkdir(),
            "class_empty train/hexagon: the class's folder holds no pictures",
        ),
        (
            lambda root: (root / "train/circle").rename(root / "circle"),
            "class_unknown val/circle: `train` has no folder of this class",
        ),
        (lambda root: shutil.rmtree(root / "val"), "split there is no folder `val` beside `train`"),
        (
            lambda root: spoil(root, "train/circle/x.jpg", "no picture"),
            "image_unreadable train/circle/x.jpg: the file is not a picture that can be read",
        ),
    ],
)
def test_what_is_wrong_with_a_classification_is_told(
    copy_of: Callable[[str], Path], change: Change, finding: str
) -> None:
    root = copy_of("classify")
    change(root)

    inspection = inspect(root)

    assert not inspection.passed
    assert finding in told(inspection)


def test_a_class_without_pictures_for_validation_is_a_warning(
    copy_of: Callable[[str], Path],
) -> None:
    root = copy_of("classify")
    shutil.rmtree(root / "val/circle")

    inspection = inspect(root)

    assert inspection.passed
    assert told(inspection, "warning") == [
        "class_missing `val` has no pictures of the class 'circle'"
    ]


def test_boxes_are_no_data_set_of_another_task(sets: Path) -> None:
    for task in ("segment", "obb"):
        [first, *_] = told(inspect(sets / "detect", task))
        assert f"5 numbers, but the task {task} wants" in first
    assert told(inspect(sets / "detect", "pose"))[0].startswith("kpt_shape data.yaml has no `kpt_s")
    assert told(inspect(sets / "detect", "classify"))[0].startswith("split there is no folder `tr")


def test_outlines_and_keypoints_can_be_detected(sets: Path) -> None:
    for task in ("segment", "obb", "pose"):
        assert inspect(sets / task, "detect").passed


def test_a_name_that_is_not_text_is_an_error_and_no_riddle(copy_of: Callable[[str], Path]) -> None:
    root = copy_of("detect")
    (root / "images/train/00000.png").rename(root / "images/train" / "b\udce9.png")
    (root / "images/train/00001.png").rename(root / "images/train" / "a\nb.png")

    errors = told(inspect(root))

    assert errors == [
        "name_broken images/train/a\\nb.png: it has control characters in its name",
        "name_broken images/train/b\\udce9.png: it is not text in UTF-8; plain names are wanted",
    ]


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("export/images/a.b.jpg", "export/labels/a.b.txt"),
        ("images/images/a.png", "images/labels/a.txt"),
        ("train/images/a.png", "train/labels/a.txt"),
        ("pictures/a.png", "pictures/a.txt"),
    ],
)
def test_labels_lie_where_ultralytics_looks_for_them(picture: str, label: str) -> None:
    assert label_of(picture) == label


def test_hidden_files_lists_and_links_to_folders_are_no_part_of_a_split(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    for name in (
        "images/a.JPG",
        "images/.b.jpg",
        "images/.c/d.jpg",
        "images/e/f.png",
        "aside/g.jpg",
    ):
        spoil(root, name, "")
    for name in ("labels/a.txt", "labels/classes.txt", "labels/e/f.txt", "labels/notes.md"):
        spoil(root, name, "")
    (root / "images" / "link").symlink_to(root / "aside")
    (root / "images" / "loop").symlink_to(root / "images")

    split = walk_split("train", [root / "images"], root)

    assert split.pictures == ["images/a.JPG", "images/e/f.png"]
    assert split.labels == {"labels/a.txt", "labels/e/f.txt"}
    assert (split.unlabelled, split.orphans) == ([], [])


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--task", "segment"), 1)])
def test_the_command_says_it_on_a_page_or_as_json(
    sets: Path, words: tuple[str, ...], code: int
) -> None:
    command = [sys.executable, "-m", "trainer.inspection", str(sets / "detect.zip"), *words]
    page = subprocess.run(command, capture_output=True, text=True, check=False)
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)

    assert (page.returncode, told.returncode, page.stderr, told.stderr) == (code, code, "", "")
    assert page.stdout.splitlines()[-1].startswith("can" if code == 0 else "cannot")
    assert json.loads(told.stdout)["passed"] is (code == 0)


def test_a_large_zip_of_nothing_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.bmp", bytes(100_000_000))

    [error] = told(inspect_path(tmp_path / "bomb.zip", None, tmp_path))

    assert "grows too large at entry 'images/a.bmp'" in error
