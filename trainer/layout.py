"""Which pictures and labels a data set consists of: the folders walked, nothing opened."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.description import IMAGES

# Lists that label tools write beside their labels.
NO_LABELS = frozenset(
    {"classes.txt", "notes.txt", "readme.txt", "labels.txt", "predefined_classes.txt"}
)
OTHER_PICTURES = frozenset({".gif", ".ico", ".pgm", ".ppm", ".psd", ".raw", ".svg"})


@dataclass(slots=True)
class Split:
    """One part of a data set: paths of its files, relative to the root, with slashes."""

    name: str
    pictures: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)

    @property
    def unlabelled(self) -> list[str]:
        """The pictures without a label file."""
        return [picture for picture in self.pictures if label_of(picture) not in self.labels]

    @property
    def orphans(self) -> list[str]:
        """The label files without a picture."""
        return sorted(self.labels - {label_of(picture) for picture in self.pictures})


def walk_split(name: str, folders: list[Path], root: Path) -> Split:
    """Return the files of a split whose pictures lie in these folders, inside the resolved root."""
    split = Split(name)
    for folder in folders:
        below = folder.relative_to(root).as_posix()
        for file in walk(root, below):
            suffix = _suffix(file)
            if suffix in IMAGES:
                split.pictures.append(file)
            elif suffix in OTHER_PICTURES:
                split.others.append(file)
        labels = label_of(f"{below}/x.jpg").rpartition("/")[0]
        split.labels.update(file for file in walk(root, labels) if _is_label(file))
    split.pictures = sorted(set(split.pictures))
    return split


def label_of(picture: str) -> str:
    """Return where ultralytics looks for a picture's labels: the last `images` becomes `labels`."""
    before, images, after = f"/{picture}".rpartition("/images/")
    swapped = f"{before}/labels/{after}" if images else f"/{picture}"
    return swapped[1:].rpartition(".")[0] + ".txt"


def walk(root: Path, below: str) -> Iterator[str]:
    """Return every file below a folder, relative to the root; nothing hidden, no folder's link."""
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        prefix = "" if folder in {"", "."} else f"{folder}/"
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(prefix + entry.name)
                    elif entry.is_file():
                        yield prefix + entry.name
        except OSError:
            continue  # it is not there, or not ours to see; what should be in it is missed later


def clashes(files: list[str]) -> Iterator[tuple[str, str]]:
    """Return pairs of names that Windows or macOS takes for one."""
    seen: dict[str, str] = {}
    for file in files:
        name = file if file.isascii() else unicodedata.normalize("NFC", file)
        first = seen.setdefault(name.casefold(), file)
        if first != file:
            yield first, file


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()  # noqa: PTH122 - a hundred thousand times


def _is_label(file: str) -> bool:
    return file.endswith(".txt") and file.rpartition("/")[2].lower() not in NO_LABELS
