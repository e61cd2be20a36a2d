from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from trainer import pictures
from trainer.pictures import NO_PICTURE, NOT_WHOLE, look_at

FORMATS = ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "MPO"]


def written(place: Path, form: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """Write a picture of noise, which is long enough to be cut; return its bytes."""
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, form)
    place.write_bytes(buffer.getvalue())
    return buffer.getvalue()


@pytest.fixture(params=[True, False], ids=["with Pillow", "without Pillow"])
def pillow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The service's own Python has no Pillow."""
    monkeypatch.setattr(pictures, "HAS_PILLOW", request.param)
    return bool(request.param)


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_picture_is_not_spoken_of(tmp_path: Path, form: str, pillow: bool) -> None:
    written(tmp_path / "a", form)

    assert look_at(str(tmp_path / "a")).problem is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_picture_that_was_cut_off_is_told(
    tmp_path: Path, form: str, share: float, pillow: bool
) -> None:
    content = written(tmp_path / "a", form)
    (tmp_path / "a").write_bytes(content[: int(len(content) * share)])

    assert look_at(str(tmp_path / "a")).problem == NOT_WHOLE


def test_what_a_camera_writes_behind_the_end_does_no_harm(tmp_path: Path, pillow: bool) -> None:
    content = written(tmp_path / "a", "JPEG")
    (tmp_path / "a").write_bytes(content + b"\0" * 5000)

    assert look_at(str(tmp_path / "a")).problem is None


@pytest.mark.parametrize("content", [b"hello, world", b"<html>", b"\xff" * 100, b"\0", b"PK\3\4"])
def test_what_is_no_picture_is_told(tmp_path: Path, content: bytes, pillow: bool) -> None:
    (tmp_path / "a").write_bytes(content)

    assert look_at(str(tmp_path / "a")).problem == NO_PICTURE


def test_an_empty_file_and_a_missing_one_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    assert look_at(str(tmp_path / "a")).problem == "the file is empty"
    assert look_at(str(tmp_path / "b")).problem == (
        "the file cannot be opened: No such file or directory"
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_picture_that_is_too_small_is_told_with_its_size(tmp_path: Path, form: str) -> None:
    written(tmp_path / "a", form, (40, 9))

    assert look_at(str(tmp_path / "a")).problem == (
        "the picture has 40 x 9 pixels; at least 10 a side are used"
    )


def test_equal_pictures_have_equal_fingerprints(tmp_path: Path) -> None:
    for name in ("one", "other"):
        written(tmp_path / name, "PNG")
    (tmp_path / "same").write_bytes((tmp_path / "one").read_bytes())
    one, same, other = (look_at(str(tmp_path / name)) for name in ("one", "same", "other"))

    assert one.fingerprint == same.fingerprint != other.fingerprint
