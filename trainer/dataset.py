"""A data set made ready to train on: fetched, unpacked, and its data.yaml made safe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import DatasetInvalidError, DatasetMissingError, ObjectMissingError
from trainer.storage import Storage, Stored

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
# A description, not data; yaml of this size is parsed in no time whatever it holds.
LONGEST_DATA_YAML = 1024 * 1024
IMAGES = frozenset(
    {".bmp", ".heic", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
# What goes on to ultralytics. Not `download`: that would be somebody else's code or address.
KEPT = ("names", "nc", "channels", "kpt_shape", "flip_idx", "kpt_names")


def fetch_dataset(storage: Storage, dataset_id: str, target: Path) -> Stored:
    """Copy the data set's zip here."""
    if not PLAIN_NAME.fullmatch(dataset_id):
        raise DatasetInvalidError(
            f"The data set's id {dataset_id!r} is not a plain name of letters, digits and . _ - ."
        )
    try:
        return storage.fetch(f"datasets/{dataset_id}.zip", target)
    except ObjectMissingError as error:
        raise DatasetMissingError(str(error)) from error


def prepare_dataset(root: Path, target: Path) -> dict[str, Any]:
    """Check the unpacked data set, write the data.yaml to train with, and return its content."""
    description = find_description(root)
    content = read_description(description)
    ready = {
        "path": str(root.resolve()),
        "train": resolve_split(content, "train", description.parent, root),
        "val": resolve_split(content, "val", description.parent, root),
        **_names(content),
    }
    target.write_text(yaml.safe_dump(ready, sort_keys=False))
    return ready


def find_description(root: Path) -> Path:
    """Return the data.yaml at the top, or in the one folder that is there."""
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    inner = [folder / "data.yaml" for folder in root.iterdir() if folder.is_dir()]
    if len(inner) == 1 and inner[0].is_file():
        return inner[0]
    raise DatasetInvalidError("The data set has no data.yaml at its top.")


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
    inside = [place for place in map(Path.resolve, candidates) if _within(place, root)]
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


def _names(content: dict[str, Any]) -> dict[str, Any]:
    names, count = content.get("names"), content.get("nc")
    named = len(names) if isinstance(names, dict | list) else 0
    if not named:
        raise DatasetInvalidError("data.yaml must list the classes under `names`.")
    if count is not None and count != named:
        raise DatasetInvalidError(
            f"data.yaml says nc: {count} but names {named} classes; they must agree."
        )
    return {key: content[key] for key in KEPT if content.get(key) is not None}
