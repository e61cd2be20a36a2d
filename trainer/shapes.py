"""Writes a small synthetic detection data set: coloured shapes on noise, the same for one seed."""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("circle", "square", "triangle")
# A colour a class keeps the task learnable within a few epochs from scratch.
COLOURS = ((230, 60, 60), (60, 200, 80), (70, 90, 235))
VALIDATION_EVERY = 4
# Zip entries carry a time; a fixed one keeps equal seeds equal byte for byte.
TIMESTAMP = (2020, 1, 1, 0, 0, 0)


def write_shapes(target: Path, *, images: int, seed: int, size: int) -> None:
    """Write the zip: images/train, images/val, their labels, and data.yaml."""
    random = np.random.default_rng(seed)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.yaml", _data_yaml().encode())
        for number in range(images):
            part = "val" if number % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "train"
            picture, labels = draw_image(random, size)
            _add(archive, f"images/{part}/{number:05}.png", picture)
            _add(archive, f"labels/{part}/{number:05}.txt", labels.encode())


def draw_image(random: np.random.Generator, size: int) -> tuple[bytes, str]:
    """One picture as PNG bytes, and its labels in the YOLO form `class cx cy w h`."""
    noise = random.normal(128, 24, (size, size, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    labels = [_draw_shape(pen, random, size) for _ in range(int(random.integers(1, 4)))]
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), "".join(labels)


def _draw_shape(pen: ImageDraw.ImageDraw, random: np.random.Generator, size: int) -> str:
    kind = int(random.integers(len(NAMES)))
    side = int(random.integers(size // 5, size // 2))
    left, top = (int(random.integers(0, size - side)) for _ in range(2))
    right, bottom = left + side, top + side
    match NAMES[kind]:
        case "circle":
            pen.ellipse((left, top, right, bottom), fill=COLOURS[kind])
        case "square":
            pen.rectangle((left, top, right, bottom), fill=COLOURS[kind])
        case _:
            corners = [(left, bottom), (right, bottom), (left + side / 2, top)]
            pen.polygon(corners, fill=COLOURS[kind])
    centre_x, centre_y = (left + right) / 2 / size, (top + bottom) / 2 / size
    return f"{kind} {centre_x:.6f} {centre_y:.6f} {side / size:.6f} {side / size:.6f}\n"


def _data_yaml() -> str:
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    return f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}"


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, TIMESTAMP), content)


def main() -> None:
    """Read the command line and write the zip."""
    parser = argparse.ArgumentParser(prog="python -m trainer.shapes", description=__doc__)
    parser.add_argument("out", type=Path, help="the zip to write")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=160, help="pixels a side")
    chosen = parser.parse_args()
    if chosen.images < VALIDATION_EVERY or chosen.size < 32:
        parser.error(f"--images must be at least {VALIDATION_EVERY} and --size at least 32")
    write_shapes(chosen.out, images=chosen.images, seed=chosen.seed, size=chosen.size)


if __name__ == "__main__":
    main()
