"""Whether a picture's file is whole, from its first and last bytes; Pillow decides in doubt."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass

HAS_PILLOW = importlib.util.find_spec("PIL") is not None
if HAS_PILLOW:  # without it, the check of the bytes has to do
    from PIL import Image

ENDS = 4096
LONG_TAIL = 1024 * 1024
SMALLEST_SIDE = 10
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# TIFF and DNG, JPEG 2000, and what is kept in the boxes of MP4: HEIC, AVIF.
OTHERS = (b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
NOT_WHOLE = "the picture is cut off: its end is missing"
NO_PICTURE = "the file is not a picture that can be read"


@dataclass(frozen=True, slots=True)
class Picture:
    """What the bytes of a picture tell."""

    fingerprint: bytes  # equal pictures have equal ones; others hardly ever
    problem: str | None


def look_at(path: str) -> Picture:
    """Return what is wrong with a picture's file, and a fingerprint of it; never raises."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a hundred thousand times
            size = os.fstat(file.fileno()).st_size
            head = file.read(ENDS)
            file.seek(max(len(head), size - ENDS))
            tail = file.read(ENDS)
    except OSError as error:
        return Picture(b"", f"the file cannot be opened: {error.strerror}")
    digest = hashlib.blake2b(size.to_bytes(8, "big") + head + tail, digest_size=16).digest()
    return Picture(digest, _problem(path, size, head, tail))


def _problem(path: str, size: int, head: bytes, tail: bytes) -> str | None:
    end = (head + tail)[-ENDS:]
    if not size:
        return "the file is empty"
    if head.startswith(PNG):
        whole = b"IEND\xaeB`\x82" in end
        return _too_small(_png_sides(head)) if whole else NOT_WHOLE
    if head.startswith(JPEG):
        # Cameras and editors write all kinds of things behind the end.
        whole = b"\xff\xd9" in end[-64:] or _decodes(path)
        return _too_small(_jpeg_sides(head)) if whole else NOT_WHOLE
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return None if int.from_bytes(head[4:8], "little") + 8 <= size else NOT_WHOLE
    if head.startswith(b"BM"):
        return None if int.from_bytes(head[2:6], "little") <= size else NOT_WHOLE
    if head.startswith(OTHERS) or head[4:8] == b"ftyp":
        return None
    return None if HAS_PILLOW and _decodes(path) else NO_PICTURE


def _decodes(path: str) -> bool:
    """Return whether the whole picture can be read; a guess where Pillow is not installed."""
    if not HAS_PILLOW:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(max(0, os.fstat(file.fileno()).st_size - LONG_TAIL))
            return b"\xff\xd9" in file.read()
    try:
        with Image.open(path) as picture:
            picture.load()
    except Exception:  # its plugins raise whatever a broken file leads them to
        return False
    return True


def _too_small(sides: tuple[int, int] | None) -> str | None:
    if sides is None or min(sides) >= SMALLEST_SIDE:
        return None
    return (
        f"the picture has {sides[0]} x {sides[1]} pixels; at least {SMALLEST_SIDE} a side are used"
    )


def _png_sides(head: bytes) -> tuple[int, int] | None:
    if head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _jpeg_sides(head: bytes) -> tuple[int, int] | None:
    """Return width and height where the frame's header is among the first bytes."""
    place = 2
    while place + 9 <= len(head) and head[place] == 0xFF:
        marker, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height = int.from_bytes(head[place + 5 : place + 7], "big")
            return int.from_bytes(head[place + 7 : place + 9], "big"), height
        place += 2 + length
    return None
