from __future__ import annotations

import contextlib
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.dataset import fetch_dataset, prepare_dataset
from trainer.errors import DatasetInvalidError, DatasetMissingError
from trainer.local_storage import LocalStorage
from trainer.shapes import write_shapes
from trainer.unpack import Limits, unpack

GOOD = {"train": "images/train", "val": "images/val", "names": ["a", "b"]}


def make_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def refusal(archive: Path, limits: Limits | None = None) -> str:
    with pytest.raises(DatasetInvalidError) as caught:
        unpack(archive, archive.parent / "out", limits)
    assert caught.value.code == "dataset_invalid"
    assert not caught.value.retryable
    return str(caught.value)


def of_kind(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


@pytest.mark.parametrize(
    "name",
    ["../evil", "images/../../evil", "/etc/evil", "C:evil", "images\\evil", "a/..", ".", "a\nb"],
)
def test_a_name_that_leaves_the_root_is_refused(tmp_path: Path, name: str) -> None:
    assert repr(name) in refusal(make_zip(tmp_path / "a.zip", ("ok", b""), (name, b"x")))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(tmp_path: Path, mode: int) -> None:
    archive = make_zip(tmp_path / "a.zip", (of_kind("odd", mode | 0o777), b"/etc/passwd"))

    assert "'odd' is a link or a special file" in refusal(archive)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("secret", b"x"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)

    assert "'secret' is encrypted" in refusal(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["twice", "./twice", ".//twice"])
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, second: str) -> None:
    assert "twice" in refusal(make_zip(tmp_path / "a.zip", ("twice", b"1"), (second, b"2")))


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    assert "'a'" in refusal(make_zip(tmp_path / "a.zip", ("a", b"1"), ("a/b", b"2")))


def test_what_grows_beyond_the_ratio_is_refused_by_what_was_written(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("bomb", bytes(50_000_000)))

    assert "'bomb'" in refusal(archive, Limits(ratio_free=1_000_000))
    assert (tmp_path / "out" / "bomb").stat().st_size < 10_000_000


def test_a_header_that_understates_its_size_gains_nothing(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("liar", bytes(1_000_000)))
    content = archive.read_bytes().replace((1_000_000).to_bytes(4, "little"), b"\x10\0\0\0")
    archive.write_bytes(content)

    refusal(archive)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", *((str(number), b"") for number in range(5)))

    assert "5 entries" in refusal(archive, Limits(files=4))


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"not a zip at all")

    assert "not a readable zip" in refusal(tmp_path / "a.zip")


def test_a_damaged_list_of_entries_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("picture", b"a"))
    content = bytearray(archive.read_bytes())
    content[-6 + 3] = 0xFF  # where the list begins, far behind the end
    archive.write_bytes(content)

    assert "not a readable zip" in refusal(archive)


def test_a_damaged_entry_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("picture", bytes(range(256)) * 50))
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)

    refusal(archive)


def test_pickled_label_caches_and_junk_stay_in_the_zip(tmp_path: Path) -> None:
    names = ["labels/train.cache", "__MACOSX/x", "images/.DS_Store", "images/a.jpg"]
    archive = make_zip(tmp_path / "a.zip", *((name, b"x") for name in names))

    assert unpack(archive, tmp_path / "out") == 1
    assert [file.name for file in (tmp_path / "out").rglob("*") if file.is_file()] == ["a.jpg"]


hostile = st.text(st.sampled_from("ab./\\:~\0é\n"), max_size=12) | st.text(max_size=12)
modes = st.sampled_from([0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(deadline=None)  # it writes files
@given(st.lists(st.tuples(hostile, modes, st.binary(max_size=20)), min_size=1, max_size=6))
def test_no_archive_ever_writes_outside_its_root(entries: list[tuple[str, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        try:
            archive = make_zip(
                place / "a.zip", *((of_kind(name, mode), data) for name, mode, data in entries)
            )
        except UnicodeEncodeError:  # no zip can hold a lone surrogate
            return
        with contextlib.suppress(DatasetInvalidError):
            unpack(archive, place / "deep" / "root")
        written = [path for path in place.rglob("*") if path != archive]
        root = place / "deep" / "root"
        assert all(path.is_relative_to(root) or path == place / "deep" for path in written)
        assert not any(path.is_symlink() for path in written)


def make_dataset(root: Path, description: Any, top: str = ".") -> Path:
    for part in ("train", "val"):
        folder = root / top / "images" / part
        folder.mkdir(parents=True)
        (folder / "0.jpg").touch()
    text = description if isinstance(description, str) else yaml.safe_dump(description)
    (root / top / "data.yaml").write_text(text)
    return root


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"path": "."},
        {"path": "/content/somewhere/else"},
        {"path": "../datasets/mine"},
        {"train": "../images/train", "val": "../images/val"},
        {"train": ["images/train"]},
        {"nc": 2},
        {"download": "import os; os.abort()"},
    ],
    ids=str,
)
def test_a_description_is_resolved_inside_the_root(tmp_path: Path, change: dict[str, Any]) -> None:
    root = make_dataset(tmp_path / "set", GOOD | change)

    ready = prepare_dataset(root, tmp_path / "ready.yaml")

    assert ready["train"] == [str(root / "images/train")]
    assert ready["val"] == [str(root / "images/val")]
    assert "download" not in yaml.safe_load((tmp_path / "ready.yaml").read_text())


def test_a_data_set_in_one_folder_of_its_own_is_found(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", GOOD, top="export")

    ready = prepare_dataset(root, tmp_path / "ready.yaml")

    assert ready["train"] == [str(root / "export/images/train")]


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("a: [", "cannot be read"),
        ("!!python/object/apply:os.abort []", "cannot be read"),
        ("- a list", "not a mapping"),
        ({"val": "images/val", "names": ["a"]}, "under `train`"),
        (GOOD | {"train": 3}, "under `train`"),
        (GOOD | {"train": "../../etc"}, "points outside"),
        (GOOD | {"val": "/etc"}, "points outside"),
        (GOOD | {"val": "images/none"}, "is not a folder"),
        (GOOD | {"val": "."} | {"path": "labels"}, None),
        ({"train": "images/train", "val": "images/val"}, "under `names`"),
        (GOOD | {"names": []}, "under `names`"),
        (GOOD | {"nc": 5}, "must agree"),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, description: Any, words: str | None
) -> None:
    root = make_dataset(tmp_path / "set", description)
    if words is None:
        assert prepare_dataset(root, tmp_path / "ready.yaml")
        return
    with pytest.raises(DatasetInvalidError, match=words):
        prepare_dataset(root, tmp_path / "ready.yaml")


def test_a_data_set_without_a_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalidError, match=r"no data\.yaml"):
        prepare_dataset(tmp_path, tmp_path / "ready.yaml")


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", GOOD)
    (root / "images/val/0.jpg").unlink()

    with pytest.raises(DatasetInvalidError, match=r"`val` in data\.yaml holds no images"):
        prepare_dataset(root, tmp_path / "ready.yaml")


def test_a_data_set_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match=r"datasets/none\.zip"):
        fetch_dataset(LocalStorage(tmp_path), "none", tmp_path / "here.zip")


@pytest.mark.parametrize("dataset_id", ["../x", "a/b", "", ".hidden", "a" * 300, "a\n"])
def test_an_id_that_is_no_plain_name_is_refused(tmp_path: Path, dataset_id: str) -> None:
    with pytest.raises(DatasetInvalidError, match="not a plain name"):
        fetch_dataset(LocalStorage(tmp_path), dataset_id, tmp_path / "here.zip")


def test_shapes_are_the_same_for_one_seed_and_ready_to_train_on(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        write_shapes(tmp_path / f"{name}.zip", images=8, seed=seed, size=64)

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "same.zip").read_bytes()
    assert (tmp_path / "one.zip").read_bytes() != (tmp_path / "other.zip").read_bytes()
    unpack(tmp_path / "one.zip", tmp_path / "set")
    prepare_dataset(tmp_path / "set", tmp_path / "ready.yaml")
    pictures = list((tmp_path / "set" / "images").rglob("*.png"))
    labels = list((tmp_path / "set" / "labels").rglob("*.txt"))
    assert {file.stem for file in pictures} == {file.stem for file in labels}
    numbers = [float(part) for file in labels for part in file.read_text().split()]
    assert all(0 <= number <= 2 for number in numbers)
