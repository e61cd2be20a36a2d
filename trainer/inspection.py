"""`python -m trainer.inspection PATH` says whether a data set can be trained on.

What is wrong is told in words for whoever labelled it: which file, which line. Knows no torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.description import (
    find_classes,
    find_description,
    read_description,
    read_keypoints,
    read_names,
    resolve_split,
    validation_folder,
)
from trainer.errors import DatasetInvalidError
from trainer.labels import TASKS, LabelRules, read_labels
from trainer.layout import Split, clashes, label_of, walk_split
from trainer.looking import Inspection, look_through, text_of
from trainer.names import fault_of_name
from trainer.steps import Step, uncounted
from trainer.unpack import unpack

log = logging.getLogger(__name__)

DONE, FAILED, WRONG_USAGE = 0, 1, 2
# How many files are read to guess the task.
ASKED = 50
SHOWN = 20


def inspect(root: Path, task: str | None = None, step: Step = uncounted) -> Inspection:
    """Look through an unpacked data set; the task is guessed from its labels where not given."""
    inspection = Inspection(root.resolve(), task, step=step)
    classes = find_classes(inspection.root)
    try:
        description = find_description(inspection.root)
    except DatasetInvalidError as error:
        if task == "classify" or (task is None and classes is not None):
            _inspect_classes(inspection, classes)
        else:
            inspection.refuse("data_yaml", str(error))
        return inspection
    if task == "classify":
        _inspect_classes(inspection, classes)
    else:
        _inspect_described(inspection, description)
    return inspection


def _inspect_described(inspection: Inspection, description: Path) -> None:
    try:
        content = read_description(description)
    except (DatasetInvalidError, OSError) as error:
        inspection.refuse("data_yaml", str(error))
        return
    keypoints = _described(inspection, content)
    splits = _splits(inspection, content, description.parent)
    rules = _rules(inspection, splits, keypoints)
    for split in splits:
        _about_files(inspection, split)
        look_through(inspection, split, rules)


def _described(inspection: Inspection, content: dict[str, Any]) -> tuple[int, int] | None:
    """Check what data.yaml says about classes and keypoints; return the latter."""
    keypoints = None
    try:
        inspection.names = read_names(content)
        for name, count in Counter(inspection.names).items():
            if count > 1:
                inspection.doubt("names_twice", f"data.yaml lists the class {name!r} twice")
    except DatasetInvalidError as error:
        inspection.refuse("names", str(error))
    try:
        keypoints = read_keypoints(content)
        if keypoints is None and inspection.task == "pose":
            inspection.refuse(
                "kpt_shape", "data.yaml has no `kpt_shape`; the task pose needs it: [17, 3]"
            )
    except DatasetInvalidError as error:
        inspection.refuse("kpt_shape", str(error))
    return keypoints


def _splits(inspection: Inspection, content: dict[str, Any], base: Path) -> list[Split]:
    splits, folders_of = [], dict[str, list[str]]()
    for name in ("train", "val", "test"):
        if name == "test" and not content.get(name):
            continue
        try:
            folders = resolve_split(content, name, base, inspection.root)
        except DatasetInvalidError as error:
            # Nothing is trained or validated on `test`; many leave it out of the zip.
            note = inspection.refuse if name != "test" else inspection.doubt
            note("split", str(error))
            continue
        same = next((other for other, known in folders_of.items() if known == folders), None)
        folders_of[name] = folders
        if same is not None:
            inspection.doubt(
                "split_twice",
                f"`{same}` and `{name}` of data.yaml are the same folder: "
                "the metrics will say how well the model remembers, not what it can do",
            )
            continue
        splits.append(walk_split(name, [Path(one) for one in folders], inspection.root))
    return splits


def _rules(
    inspection: Inspection, splits: list[Split], keypoints: tuple[int, int] | None
) -> LabelRules | None:
    """Return what labels must look like; None where that is not known."""
    if inspection.task is None:
        inspection.task = "pose" if keypoints else _guess(inspection.root, splits)
    if not inspection.names or (inspection.task == "pose" and keypoints is None):
        return None
    return LabelRules(inspection.task, len(inspection.names), keypoints)


def _guess(root: Path, splits: list[Split]) -> str:
    """Return the task that the first labels look like."""
    columns, rules = Counter[int](), LabelRules("detect", 1)
    files = [file for split in splits for file in sorted(split.labels)[:ASKED]]
    for file in files:
        text = text_of(f"{root}/{file}")
        columns += read_labels(text, rules).columns if isinstance(text, str) else Counter()
    if not columns or columns.most_common(1)[0][0] in {1, 2, 3, 4, 5, 6}:
        return "detect"
    return "obb" if set(columns) == {9} else "segment"


def _about_files(inspection: Inspection, split: Split) -> None:
    """Check what the names alone tell."""
    inspection.pictures[split.name] = len(split.pictures)
    unlabelled, orphans = split.unlabelled, split.orphans
    if split.pictures and len(unlabelled) == len(split.pictures) and split.name != "test":
        where = label_of(split.pictures[0])
        inspection.refuse(
            "labels_missing",
            f"no picture of `{split.name}` has a label file; "
            f"for {split.pictures[0]} it would be {where}",
        )
        unlabelled = []
    for picture in unlabelled:
        inspection.doubt(
            "image_without_labels",
            f"there is no {label_of(picture)}, so it is trained on as one that shows nothing",
            picture,
        )
    for label in orphans:
        inspection.doubt("labels_without_image", "there is no picture for these labels", label)
    for other in split.others:
        inspection.doubt("image_not_used", "pictures of this kind are not trained on", other)
    _about_names(inspection, split)
    for first, second in _sharing_labels(split.pictures):
        inspection.doubt("labels_shared", f"the picture has the same labels as {first}", second)


def _about_names(inspection: Inspection, split: Split) -> None:
    for file in [*split.pictures, *sorted(split.labels)]:
        if (fault := fault_of_name(file)) is not None:
            inspection.refuse("name_broken", f"it {fault}", file)
    for first, second in clashes(split.pictures):
        inspection.doubt(
            "name_clash",
            f"the name differs from {first} only in capital letters or in how accents are stored; "
            "on Windows and macOS one replaces the other",
            second,
        )


def _sharing_labels(pictures: list[str]) -> Iterator[tuple[str, str]]:
    owners: dict[str, str] = {}
    for picture in pictures:
        first = owners.setdefault(label_of(picture), picture)
        if first != picture:
            yield first, picture


def _inspect_classes(inspection: Inspection, top: Path | None) -> None:
    """Check a classification: a folder a class, in `train` and in `val`."""
    inspection.task = "classify"
    if top is None:
        inspection.refuse(
            "split", "there is no folder `train` with a folder of pictures for each class"
        )
        return
    validation = validation_folder(top)
    if validation is None:
        inspection.refuse("split", "there is no folder `val` beside `train`")
    for name, folder in (("train", top / "train"), ("val", validation)):
        if folder is not None:
            _inspect_class_folders(inspection, name, folder)


def _inspect_class_folders(inspection: Inspection, name: str, folder: Path) -> None:
    split = walk_split(name, [folder], inspection.root)
    prefix = folder.relative_to(inspection.root).as_posix() + "/"
    counts = Counter(file.removeprefix(prefix).partition("/")[0] for file in split.pictures)
    there = sorted(one.name for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
    if name == "train":
        inspection.names = there
    for one in there if name == "train" else ():
        if not counts[one]:
            inspection.refuse("class_empty", "the class's folder holds no pictures", prefix + one)
    for one in sorted(set(there) - set(inspection.names)):
        inspection.refuse("class_unknown", "`train` has no folder of this class", prefix + one)
    for number, one in enumerate(inspection.names):
        if name != "train" and not counts[one]:
            inspection.doubt("class_missing", f"`{name}` has no pictures of the class {one!r}")
        inspection.objects[number] += counts[one]
    if not split.pictures:
        inspection.refuse("split", f"the folder {prefix[:-1]} holds no pictures")
    split.labels.clear()
    inspection.pictures[name] = len(split.pictures)
    _about_names(inspection, split)
    look_through(inspection, split, None)


def inspect_path(path: Path, task: str | None, scratch: Path) -> Inspection:
    """Look through a folder or a zip, which is unpacked in the scratch folder."""
    if path.is_dir():
        return inspect(path, task)
    root = scratch / "dataset"
    try:
        unpack(path, root)
    except DatasetInvalidError as error:
        inspection = Inspection(root, task)
        inspection.refuse("zip", str(error))
        return inspection
    return inspect(root, task)


def main() -> int:
    """Read the command line; return 0 where it can be trained on, else 1."""
    parser = argparse.ArgumentParser(prog="python -m trainer.inspection", description=__doc__)
    parser.add_argument("path", type=Path, help="the data set's folder or zip")
    parser.add_argument("--task", choices=TASKS, help="guessed from the labels if absent")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    given = parser.parse_args()
    if not given.path.is_dir() and not given.path.is_file():
        sys.stderr.write(f"There is no {given.path}.\n")
        return WRONG_USAGE
    with tempfile.TemporaryDirectory(prefix="epochlog-") as scratch:
        try:
            inspection = inspect_path(given.path, given.task, Path(scratch))
        except OSError as error:
            sys.stderr.write(f"The data set cannot be read: {error}.\n")
            return FAILED
    sys.stdout.write(_page(inspection, as_json=given.json) + "\n")
    return DONE if inspection.passed else FAILED


def _page(inspection: Inspection, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(inspection.as_json(), indent=2)
    findings = inspection.findings
    lines = [
        f"{level}: {finding}"
        for level in ("error", "warning")
        for finding in [*findings.of(level)][:SHOWN]
    ]
    counts = ", ".join(f"{count} of {name}" for name, count in inspection.pictures.items())
    lines.append(
        f"{'can' if inspection.passed else 'cannot'} be trained on ({inspection.task}): "
        f"images {counts or 'none'}; {findings.total('error')} errors, "
        f"{findings.total('warning')} warnings"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
