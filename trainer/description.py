"""What a data set says about itself: its data.yaml, or its folders where it is a classification."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import DatasetInvalidError
from trainer.names import LONE_SURROGATE

# A description, not data; yaml of this size is parsed in no time whatever it holds.
LONGEST_DATA_YAML = 1024 * 1024
# What ultralytics reads as pictures.
IMAGES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png"}
    | {".tif", ".tiff", ".webp"}
)
# The first that is there is what a classification is validated on.
VALIDATION_FOLDERS = ("val", "validation", "valid", "test")


def find_description(root: Path) -> Path:
    """Return the data.yaml at the top, or in the one folder that is there."""
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    inner = [folder / "data.yaml" for folder in _folders(root)]
    if len(inner) == 1 and inner[0].is_file():
        return inner[0]
    raise DatasetInvalidError("The data set has no data.yaml at its top.")


def find_classes(root: Path) -> Path | None:
    """Return the folder of a classification: its `train` holds a folder of pictures a class."""
    for top in (root, *_only(_folders(root))):
        classes = _folders(top / "train")
        if classes and not {"images", "labels"} & {folder.name for folder in classes}:
            return top
    return None


def validation_folder(top: Path) -> Path | None:
    """Return where a classification's pictures for validation lie."""
    return next((top / name for name in VALIDATION_FOLDERS if (top / name).is_dir()), None)


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            found = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    except OSError:
        return []
    return [root / name for name in sorted(found)]


def _only(folders: list[Path]) -> list[Path]:
    return folders if len(folders) == 1 else []


def read_description(path: Path) -> dict[str, Any]:
    """Return data.yaml's content as a mapping with text keys."""
    if path.stat().st_size > LONGEST_DATA_YAML:
        raise DatasetInvalidError("The data set's data.yaml is larger than 1 MiB.")
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:300]
        raise DatasetInvalidError(f"The data set's data.yaml cannot be read: {why}.") from error
    if not isinstance(content, dict):
        raise DatasetInvalidError("The data set's data.yaml is not a mapping of keys to values.")
    if "val" not in content and "validation" in content:
        content["val"] = content["validation"]
    return content


def resolve_split(content: dict[str, Any], split: str, base: Path, root: Path) -> list[str]:
    """Return the absolute folders of a split; each lies inside the root and holds images."""
    value = content.get(split)
    listed = [part for part in _as_list(value) if isinstance(part, str) and part]
    if not listed or len(listed) != len(_as_list(value)):
        raise DatasetInvalidError(f"data.yaml must name a folder of images under `{split}`.")
    folders = [_resolve_folder(content.get("path"), part, split, base, root) for part in listed]
    if not any(_holds_images(folder) for folder in folders):
        raise DatasetInvalidError(f"The folder of `{split}` in data.yaml holds no images.")
    return [str(folder) for folder in folders]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _resolve_folder(path: Any, part: str, split: str, base: Path, root: Path) -> Path:
    """Take `path` where it leads somewhere inside; it often names a place on its author's disk."""
    starts = [base / path, base] if isinstance(path, str) else [base]
    candidates = [start / part for start in starts]
    # Some exporters write ../train/images in a data.yaml that lies beside train/.
    candidates += [base / part.removeprefix("../")] if part.startswith("../") else []
    try:
        inside = [place for place in map(Path.resolve, candidates) if _within(place, root)]
    except (OSError, ValueError, RuntimeError):  # a name that no file system takes
        inside = []
    if not inside:
        raise DatasetInvalidError(
            f"`{split}: {part}` in data.yaml points outside the data set; "
            "a folder inside it is wanted."
        )
    found = next((place for place in inside if place.is_dir()), None)
    if found is None:
        raise DatasetInvalidError(
            f"`{split}: {part}` in data.yaml is not a folder of the data set."
        )
    return found


def _within(place: Path, root: Path) -> bool:
    return place.is_relative_to(root.resolve())


def _holds_images(folder: Path) -> bool:
    return any(file.suffix.lower() in IMAGES for file in folder.rglob("*"))


def read_names(content: dict[str, Any]) -> list[str]:
    """Return the classes by their numbers."""
    names, count = content.get("names"), content.get("nc")
    if not isinstance(names, dict | list) or not names:
        raise DatasetInvalidError("data.yaml must list the classes under `names`.")
    if count is not None and str(count) not in {str(len(names)), f"{len(names)}.0"}:
        raise DatasetInvalidError(
            f"data.yaml says nc: {count} but names {len(names)} classes; they must agree."
        )
    for name in names if isinstance(names, list) else names.values():
        if LONE_SURROGATE.search(str(name)):
            raise DatasetInvalidError(f"data.yaml names a class {name!a}, which is not text.")
    if isinstance(names, list):
        return [str(name) for name in names]
    numbered = {str(key).strip(): str(name) for key, name in names.items()}
    wanted = [str(number) for number in range(len(names))]
    if set(numbered) != set(wanted):
        raise DatasetInvalidError(
            f"data.yaml numbers the classes under `names` {_few(list(numbered))}; "
            f"{len(wanted)} classes are numbered {_few(wanted)}."
        )
    return [numbered[number] for number in wanted]


def read_keypoints(content: dict[str, Any]) -> tuple[int, int] | None:
    """Return how many keypoints an object has, and how many numbers each; None without any."""
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(number, int) and not isinstance(number, bool) for number in shape)
        or shape[0] < 1
        or shape[1] not in {2, 3}
    ):
        raise DatasetInvalidError(
            "`kpt_shape` in data.yaml must be [number of keypoints, 2 or 3], such as [17, 3]."
        )
    flip = content.get("flip_idx")
    if flip is not None and (not isinstance(flip, list) or sorted(map(str, flip)) != _upto(shape)):
        raise DatasetInvalidError(
            f"`flip_idx` in data.yaml must hold each number from 0 to {shape[0] - 1} once, "
            f"because `kpt_shape` names {shape[0]} keypoints."
        )
    return shape[0], shape[1]


def _upto(shape: list[int]) -> list[str]:
    return sorted(str(number) for number in range(shape[0]))


def _few(parts: list[str]) -> str:
    return ", ".join(parts) if len(parts) <= 4 else f"{parts[0]}, {parts[1]}, …, {parts[-1]}"
