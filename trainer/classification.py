"""A data set of folders: train/<class>/… and val/<class>/…, without a data.yaml."""

from __future__ import annotations

from pathlib import Path

from trainer.dataset import IMAGES
from trainer.errors import DatasetInvalidError

VALIDATION = ("val", "validation", "valid")


def prepare_classification(root: Path) -> Path:
    """Return the folder to train on, with every class in it checked to have images."""
    top = _top(root)
    trained = _classes(top / "train")
    name = next(name for name in VALIDATION if (top / name).is_dir())
    validated = _classes(top / name)
    if len(trained) < 2:
        raise DatasetInvalidError("The folder train/ must hold a folder for each of two classes.")
    unknown = sorted(validated.keys() - trained.keys())
    if unknown:
        raise DatasetInvalidError(
            f"The class {unknown[0]!r} of {name}/ is not in train/; both need the same classes."
        )
    empty = sorted(one for one, images in trained.items() if not images)
    if empty:
        raise DatasetInvalidError(f"The folder train/{empty[0]} holds no images.")
    if not any(validated.values()):
        raise DatasetInvalidError(f"The folder {name}/ holds no images.")
    return top.resolve()


def _top(root: Path) -> Path:
    """Return where the splits are: at the top, or in the one folder that is there."""
    for top in (root, *(folder for folder in root.iterdir() if folder.is_dir())):
        if (top / "train").is_dir() and any((top / name).is_dir() for name in VALIDATION):
            return top
    raise DatasetInvalidError(
        "The data set has no folders train/ and val/ at its top, each with a folder a class."
    )


def _classes(split: Path) -> dict[str, int]:
    """Return how many images each class has."""
    folders = (folder for folder in split.iterdir() if folder.is_dir())
    return {
        folder.name: sum(file.suffix.lower() in IMAGES for file in folder.rglob("*"))
        for folder in folders
    }
