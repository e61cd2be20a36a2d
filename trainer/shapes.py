"""Writes a small synthetic data set: coloured shapes on noise, the same for one seed."""

from __future__ import annotations

import argparse
import io
import zipfile
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("circle", "square", "triangle")
# A colour a class keeps the task learnable within a few epochs from scratch.
COLOURS = ((230, 60, 60), (60, 200, 80), (70, 90, 235))
TASKS = ("detect", "segment", "classify", "pose", "obb")
VALIDATION_EVERY = 4
# A circle as a polygon of so many corners.
ROUND = 16
# Zip entries carry a time; a fixed one keeps equal seeds equal byte for byte.
TIMESTAMP = (2020, 1, 1, 0, 0, 0)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape in a picture: its class, and the square around it in pixels."""

    kind: int
    left: int
    top: int
    side: int

    @property
    def box(self) -> list[Point]:
        """The corners of the square around it, from the left upper one, clockwise."""
        right, bottom = self.left + self.side, self.top + self.side
        return [(self.left, self.top), (right, self.top), (right, bottom), (self.left, bottom)]

    @property
    def outline(self) -> list[Point]:
        """Its own corners."""
        half = self.side / 2
        match NAMES[self.kind]:
            case "circle":
                turns = (2 * pi * step / ROUND for step in range(ROUND))
                return [
                    (self.left + half + half * cos(t), self.top + half + half * sin(t))
                    for t in turns
                ]
            case "square":
                return self.box
            case _:
                return self.feet

    @property
    def feet(self) -> list[Point]:
        """Three points that every shape has: left foot, right foot, and the middle of its top."""
        bottom = self.top + self.side
        right, middle = self.left + self.side, self.left + self.side / 2
        return [(self.left, bottom), (right, bottom), (middle, self.top)]

    def label(self, task: str, size: int) -> str:
        """Return its line in the label file of a task."""
        centre = (self.left + self.side / 2, self.top + self.side / 2)
        square = [(centre[0], centre[1]), (self.side, self.side)]
        points = {
            "detect": square,
            "segment": self.outline,
            "pose": [*square, *self.feet],
            "obb": self.box,
        }[task]
        numbers = (f"{number / size:.6f}" for point in points for number in point)
        return f"{self.kind} {' '.join(numbers)}\n"


def write_shapes(target: Path, *, images: int, seed: int, size: int, task: str = "detect") -> None:
    """Write the zip in the layout of a task."""
    random = np.random.default_rng(seed)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        if task != "classify":
            _add(archive, "data.yaml", _data_yaml(task).encode())
        for number in range(images):
            part = "val" if number % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "train"
            if task == "classify":
                picture, shapes = draw_image(random, size, kind=number // 2 % len(NAMES))
                folder = f"{part}/{NAMES[shapes[0].kind]}"
                _add(archive, f"{folder}/{number:05}.png", picture)
                continue
            picture, shapes = draw_image(random, size)
            labels = "".join(shape.label(task, size) for shape in shapes)
            _add(archive, f"images/{part}/{number:05}.png", picture)
            _add(archive, f"labels/{part}/{number:05}.txt", labels.encode())


def draw_image(
    random: np.random.Generator, size: int, kind: int | None = None
) -> tuple[bytes, list[Shape]]:
    """One picture as PNG bytes, and what is in it: one shape of a kind, or a few of any."""
    noise = random.normal(128, 24, (size, size, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    count = int(random.integers(1, 4)) if kind is None else 1
    shapes = [_draw_shape(pen, random, size, kind) for _ in range(count)]
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), shapes


def _draw_shape(
    pen: ImageDraw.ImageDraw, random: np.random.Generator, size: int, kind: int | None
) -> Shape:
    chosen = int(random.integers(len(NAMES))) if kind is None else kind
    side = int(random.integers(size // 5, size // 2))
    left, top = (int(random.integers(0, size - side)) for _ in range(2))
    shape = Shape(chosen, left, top, side)
    edges = (left, top, left + side, top + side)
    match NAMES[chosen]:
        case "circle":
            pen.ellipse(edges, fill=COLOURS[chosen])
        case "square":
            pen.rectangle(edges, fill=COLOURS[chosen])
        case _:
            pen.polygon(shape.outline, fill=COLOURS[chosen])
    return shape


def _data_yaml(task: str) -> str:
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    points = "kpt_shape: [3, 2]\nflip_idx: [1, 0, 2]\n" if task == "pose" else ""
    return f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}{points}"


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, TIMESTAMP), content)


def main() -> None:
    """Read the command line and write the zip."""
    parser = argparse.ArgumentParser(prog="python -m trainer.shapes", description=__doc__)
    parser.add_argument("out", type=Path, help="the zip to write")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=160, help="pixels a side")
    parser.add_argument("--task", choices=TASKS, default="detect")
    chosen = parser.parse_args()
    if chosen.images < VALIDATION_EVERY or chosen.size < 32:
        parser.error(f"--images must be at least {VALIDATION_EVERY} and --size at least 32")
    write_shapes(
        chosen.out, images=chosen.images, seed=chosen.seed, size=chosen.size, task=chosen.task
    )


if __name__ == "__main__":
    main()
