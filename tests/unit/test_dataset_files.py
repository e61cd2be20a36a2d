from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import trainer.names
from service import dataset_commands, dataset_files
from service.dataset_files import DatasetFilesError, HashedFile, files_of, hash_all, pack
from tests.laid import ignore, lay, small_set


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_set(tmp_path / "set")


odd = st.text(
    st.characters(codec=None) | st.sampled_from("ab./\\:~\0é\n\u2028\ud800"), max_size=300
)


@given(odd | st.sampled_from(["é" * 127, "é" * 128, "a" * 255, "a" * 256, ".", "a/..", "C:", ""]))
def test_both_sides_take_the_same_names(name: str) -> None:
    assert dataset_files.fault_of_name(name) == trainer.names.fault_of_name(name)


def test_hidden_files_caches_and_litter_stay_behind(tmp_path: Path) -> None:
    names = ["images/a.jpg", ".git/config", "images/.DS_Store", "labels/train.cache", "Thumbs.db"]
    for name in [*names, "__MACOSX/images/a.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert [file.path for file in files_of(tmp_path)] == ["images/a.jpg"]


def test_a_link_to_a_picture_is_sent_as_the_picture(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("far away")
    (root / "images" / "link").symlink_to(tmp_path / "elsewhere")

    [linked] = [
        file for file in hash_all(files_of(root), ignore) if file.file.path == "images/link"
    ]

    assert linked.sha256 == hashlib.sha256(b"far away").hexdigest()
    assert linked.file.bytes == 8


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda root: (root / "images/more").symlink_to(root / "labels"),
            "images/more is a link to a folder; put the folder itself there.",
        ),
        (
            lambda root: (root / "images/gone").symlink_to(root / "nowhere"),
            "images/gone is a link to nothing.",
        ),
        (
            lambda root: (root / "images/a\nb").touch(),
            r"The name 'images/a\nb' has control characters in its name.",
        ),
        (
            lambda root: (root / "images" / "b\udce9").touch(),
            r"The name 'images/b\udce9' is not text in UTF-8; plain names are wanted.",
        ),
    ],
    ids=["link to a folder", "link to nothing", "control characters", "no UTF-8"],
)
def test_what_would_be_lost_on_the_way_is_refused_by_name(
    root: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(root)

    with pytest.raises(DatasetFilesError) as caught:
        files_of(root)

    assert str(caught.value) == words


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        files_of(tmp_path / "file")


def test_hashing_and_packing_end_when_they_are_told_to(root: Path, tmp_path: Path) -> None:
    told: list[int] = []

    def ended(count: int) -> None:
        told.append(count)
        raise InterruptedError

    with (root / "images/0").open("wb") as large:
        large.truncate(100 * dataset_files.CHUNK)
    with pytest.raises(InterruptedError):
        hash_all(files_of(root), ended)
    with pytest.raises(InterruptedError):
        pack(files_of(root), tmp_path / "a.zip", ended)
    assert sum(told) <= 2 * dataset_files.CHUNK + 3, "not even of the large file was all read"


@pytest.mark.parametrize("terminal", [True, False])
def test_how_far_it_is_is_shown_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, _environ={})
    monkeypatch.setattr(dataset_commands, "open_console", lambda **_: console)

    with dataset_commands._progress("hashing", 100) as tell:
        tell(60)

    assert ("hashing" in shown.getvalue()) is terminal
    with pytest.raises(InterruptedError):
        tell(40)
    if not terminal:
        assert shown.getvalue() == ""


def test_equal_files_make_an_equal_zip(root: Path, tmp_path: Path) -> None:
    lay(root, picture="x" * 1000)
    (root / "picture").rename(root / "images/c.PNG")
    for name in ("one.zip", "other.zip"):
        os.utime(root / "images/a")
        pack(files_of(root), tmp_path / name, ignore)

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.testzip() is None
        assert archive.getinfo("images/c.PNG").compress_size == 1000, "pictures are only stored"


def test_many_files_are_hashed_in_their_order(tmp_path: Path) -> None:
    for number in range(250):
        (tmp_path / f"{number:03}").write_text(str(number))
    told: list[int] = []

    hashed = hash_all(files_of(tmp_path), told.append)

    assert [one.file.path for one in hashed] == [f"{number:03}" for number in range(250)]
    assert [one.sha256 for one in hashed] == [_sha(str(number)) for number in range(250)]
    assert sum(told) == sum(one.file.bytes for one in hashed)
    assert isinstance(hashed[0], HashedFile)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
