"""Opens every picture and label of a data set, and keeps what is found."""

from __future__ import annotations

import filecmp
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.findings import Finding, Findings
from trainer.labels import LabelRules, read_labels
from trainer.layout import Split, label_of
from trainer.pictures import look_at
from trainer.steps import Step, uncounted

log = logging.getLogger(__name__)

# Where the disk is what takes the time (a remote one), several files are waited for at once;
# where it is not, threads would only stand in each other's way.
WORKERS = 8
BUSY = 0.25
PIECE = 200
SAID_EVERY = 10.0
LARGEST_LABELS = 64 * 1024 * 1024
# How many pairs that look the same are compared byte by byte.
COMPARED = 100


@dataclass(slots=True)
class Inspection:
    """What a data set holds and what is wrong with it."""

    root: Path
    task: str | None
    names: list[str] = field(default_factory=list)
    pictures: dict[str, int] = field(default_factory=dict)
    objects: Counter[int] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    fingerprints: dict[bytes, str] = field(default_factory=dict)
    compared: int = 0
    step: Step = uncounted
    """Is called as it gets on."""

    @property
    def passed(self) -> bool:
        """Whether it can be trained on."""
        return not self.findings.total("error")

    def refuse(self, code: str, message: str, file: str | None = None) -> None:
        """Note an error."""
        self.findings.add(Finding("error", code, message, file))

    def doubt(self, code: str, message: str, file: str | None = None) -> None:
        """Note a warning."""
        self.findings.add(Finding("warning", code, message, file))

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        named = {
            name: self.objects[number] for number, name in enumerate(self.names) if self.objects
        }
        return {
            "passed": self.passed,
            "task": self.task,
            "names": self.names,
            "images": self.pictures,
            "objects": sum(self.objects.values()),
            "objects_of": named,
            **self.findings.as_json(),
        }


@dataclass(slots=True)
class _Piece:
    """What a worker found in some pictures."""

    findings: list[Finding] = field(default_factory=list)
    objects: Counter[int] = field(default_factory=Counter)
    fingerprints: list[tuple[bytes, str]] = field(default_factory=list)


def look_through(inspection: Inspection, split: Split, rules: LabelRules | None) -> None:
    """Open every picture and label of a split, in threads; note what is found in their order."""

    def work(pictures: list[str]) -> _Piece:
        piece = _Piece()
        for picture in pictures:
            _look(inspection.root, picture, split, rules, piece)
        return piece

    for piece in _in_pieces(work, split):
        inspection.findings.add_all(piece.findings)
        inspection.objects += piece.objects
        inspection.step()
        for fingerprint, picture in piece.fingerprints:
            _compare(inspection, fingerprint, picture, split.name)


def _in_pieces(work: Callable[[list[str]], _Piece], split: Split) -> Iterator[_Piece]:
    pictures = split.pictures
    pieces = [pictures[at : at + PIECE] for at in range(0, len(pictures), PIECE)]
    said = began = time.monotonic()
    worked = time.thread_time()
    yield from map(work, pieces[:1])
    busy = (time.thread_time() - worked) / max(time.monotonic() - began, 1e-9)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="inspection") as pool:
        rest = map(work, pieces[1:]) if busy > BUSY else pool.map(work, pieces[1:])
        for number, piece in enumerate(rest, 2):
            if time.monotonic() - said > SAID_EVERY:
                said = time.monotonic()
                seen = min(number * PIECE, len(pictures))
                log.info("inspected %d of %d images of %s", seen, len(pictures), split.name)
            yield piece


def _look(root: Path, picture: str, split: Split, rules: LabelRules | None, piece: _Piece) -> None:
    seen = look_at(f"{root}/{picture}")
    if seen.problem is not None:
        piece.findings.append(Finding("error", "image_unreadable", seen.problem, picture))
    else:
        piece.fingerprints.append((seen.fingerprint, picture))
    label = label_of(picture)
    if rules is None or label not in split.labels:
        return
    text = text_of(f"{root}/{label}")
    if isinstance(text, Finding):
        piece.findings.append(Finding(text.level, text.code, text.message, label))
        return
    labels = read_labels(text, rules)
    piece.objects += labels.objects
    piece.findings.extend(labels.findings(label))


def text_of(path: str) -> str | Finding:
    """Return a label file's text, or what is wrong with it as a whole."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read(LARGEST_LABELS + 1)
        if len(content) > LARGEST_LABELS:
            return Finding("error", "labels_unreadable", "the file is larger than 64 MiB")
        return content.decode("utf-8-sig")
    except OSError as error:
        return Finding("error", "labels_unreadable", f"it cannot be opened: {error.strerror}")
    except UnicodeError:
        return Finding("error", "labels_unreadable", "the file is not text in UTF-8")


def _compare(inspection: Inspection, fingerprint: bytes, picture: str, split: str) -> None:
    """Note a picture that was there before, in this part of the set or in another."""
    first = inspection.fingerprints.setdefault(fingerprint, f"{split}:{picture}")
    of, _, known = first.partition(":")
    if known == picture or not _is_same(inspection, known, picture):
        return
    if of != split:
        inspection.doubt(
            "image_in_two_splits",
            f"the picture is also in `{of}` as {known}, so its metrics flatter the model",
            picture,
        )
    else:
        inspection.doubt("image_twice", f"the picture is the same as {known}", picture)


def _is_same(inspection: Inspection, one: str, other: str) -> bool:
    inspection.compared += 1
    if inspection.compared > COMPARED:
        return True
    try:
        return filecmp.cmp(inspection.root / one, inspection.root / other, shallow=False)
    except OSError:
        return False
