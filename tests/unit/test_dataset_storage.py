from __future__ import annotations

import asyncio
import hashlib
import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dataset_files import DatasetFilesError, files_of, hash_all, pack
from service.dataset_storage import DatasetDamagedError, DatasetStorage, Pushed
from service.folder import Folder
from service.object_store import ObjectStoreError
from tests.laid import ignore, lay, small_set
from trainer.errors import DatasetInvalidError
from trainer.manifest import FORMAT, read_manifest
from trainer.unpack import unpack

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_set(tmp_path / "set")


@pytest.fixture
def place(tmp_path: Path) -> DatasetStorage:
    return DatasetStorage(Folder(tmp_path / "bucket"), "shapes")


async def push(place: DatasetStorage, root: Path, *, all_again: bool = False, **about: Any) -> Any:
    hashed = hash_all(files_of(root), ignore)
    return await place.push_manifest(hashed, about, NOW, ignore, all_again=all_again)


def manifests_in(bucket: Path) -> list[Any]:
    return [json.loads(file.read_bytes()) for file in bucket.glob("**/manifests/*.json")]


def rewrite(file: Path, text: str) -> None:
    """Write a file so that its time differs, whatever the clock's grain."""
    file.write_text(text)
    os.utime(file, ns=(1, 1))


async def test_a_push_sends_only_what_is_not_there(place: DatasetStorage, root: Path) -> None:
    assert await push(place, root) == Pushed(1, 3, 3)
    assert await push(place, root) == Pushed(1, 0, 0, unchanged=True)

    (root / "images/b").write_text("changed")
    assert await push(place, root) == Pushed(2, 1, 7)
    (root / "images/b").write_text("bb")
    assert await push(place, root) == Pushed(3, 0, 0), "an older version's files are there still"
    kept = await place.objects.sizes("datasets/shapes/manifests/")
    assert sorted(Path(name).name.partition("-")[0] for name in kept) == ["1", "2", "3"]


async def test_what_is_missing_in_the_storage_is_sent_again(
    place: DatasetStorage, root: Path, tmp_path: Path
) -> None:
    await push(place, root)
    digest = hashlib.sha256(b"a").hexdigest()
    stored = tmp_path / "bucket" / place.file_name(digest)
    stored.unlink()

    assert await push(place, root) == Pushed(1, 1, 1)
    assert stored.read_bytes() == b"a"

    stored.write_bytes(b"?")
    assert await push(place, root) == Pushed(1, 0, 0, unchanged=True)
    assert await push(place, root, all_again=True) == Pushed(1, 3, 3)
    assert stored.read_bytes() == b"a"


async def test_what_is_known_of_a_data_set_is_a_version_and_not_forgotten(
    place: DatasetStorage, root: Path
) -> None:
    assert (await push(place, root)).version == 1
    assert await push(place, root, task="detect") == Pushed(2, 0, 0)
    assert await push(place, root) == Pushed(2, 0, 0, unchanged=True)
    manifest = await place.manifest()
    assert manifest is not None
    assert manifest["metadata"] == {"task": "detect"}


async def test_two_pushes_at_once_leave_one_whole_version_and_both_manifests(
    place: DatasetStorage, root: Path, tmp_path: Path
) -> None:
    other = lay(tmp_path / "other", images__c="c", labels__c="")

    await asyncio.gather(push(place, root), push(place, other))

    manifest = await place.manifest()
    assert manifest is not None
    assert await place.faults_of_files(manifest, ignore, deep=True) == []
    kept = manifests_in(tmp_path / "bucket")
    assert sorted(len(one["files"]) for one in kept) == [2, 4]
    assert manifest in kept
    assert (await push(place, root, task="detect")).version > manifest["version"]


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_file_that_changes_on_the_way_never_lies_under_a_wrong_hash(
    place: DatasetStorage,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    hashed = hash_all(files_of(root), ignore)
    real = Folder.put

    async def put(store: Folder, name: str, source: Path, **about: Any) -> None:
        if source.name == "a":
            rewrite(source, "A")
        await real(store, name, source, **about)

    if when == "during":
        monkeypatch.setattr(Folder, "put", put)
    else:
        (root / "images/a").write_text("longer")
    with pytest.raises(DatasetFilesError, match=r"^images/a has changed while it was sent; push"):
        await place.push_manifest(hashed, {}, NOW, ignore)

    assert await place.manifest() is None
    for file in (tmp_path / "bucket").rglob("files/*/*"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name


async def test_a_file_that_changes_while_all_is_sent_again_leaves_the_former_version_whole(
    place: DatasetStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(place, root)
    hashed = hash_all(files_of(root), ignore)
    real = Folder.put

    async def put(store: Folder, name: str, source: Path, **about: Any) -> None:
        if source.name == "a":
            rewrite(source, "A")
        await real(store, name, source, **about)

    monkeypatch.setattr(Folder, "put", put)
    with pytest.raises(DatasetFilesError, match=r"^images/a has changed while it was sent; push"):
        await place.push_manifest(hashed, {}, NOW, ignore, all_again=True)

    manifest = await place.manifest()
    assert manifest is not None
    assert await place.faults_of_files(manifest, ignore, deep=True) == []


async def test_a_push_that_breaks_off_leaves_the_former_version_whole(
    place: DatasetStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(place, root)
    for number in range(20):
        (root / f"images/{number}").write_text(str(number))
    real, left = Folder.put, iter(range(5))

    async def put(store: Folder, name: str, source: Path, **about: Any) -> None:
        if next(left, None) is None:
            raise ObjectStoreError("The line is cut.")
        await real(store, name, source, **about)

    with monkeypatch.context() as cut:
        cut.setattr(Folder, "put", put)
        with pytest.raises(ObjectStoreError, match="The line is cut"):
            await push(place, root)

    manifest = await place.manifest()
    assert manifest is not None
    assert (manifest["version"], len(manifest["files"])) == (1, 4)
    assert await place.faults_of_files(manifest, ignore, deep=True) == []
    assert await push(place, root) == Pushed(2, 15, 22)


async def test_what_is_broken_in_the_storage_is_told_file_by_file(
    place: DatasetStorage, root: Path, tmp_path: Path
) -> None:
    await push(place, lay(root, images__c="ccc"))
    bucket = tmp_path / "bucket"
    for content, damage in ((b"a", None), (b"bb", b"b"), (b"ccc", b"CCC")):
        file = bucket / place.file_name(hashlib.sha256(content).hexdigest())
        file.unlink() if damage is None else file.write_bytes(damage)
    manifest = await place.manifest()
    assert manifest is not None

    shallow = await place.faults_of_files(manifest, ignore, deep=False)
    deep = await place.faults_of_files(manifest, ignore, deep=True)

    key = place.file_name(hashlib.sha256(b"a").hexdigest())
    assert shallow == [
        f"images/a: the storage has no {key}",
        "images/b: 1 bytes, where 2 are listed",
    ]
    assert deep == [*shallow, "images/c: its content is not what the manifest lists"]


def somebody_elses(bucket: Path, **changes: Any) -> dict[str, Any]:
    """Return a manifest as another program may write it, whose file lies in the bucket."""
    key = "datasets/shapes/v7/one.jpg"
    (bucket / key).parent.mkdir(parents=True)
    (bucket / key).write_bytes(b"one")
    file = {"path": "images/one.jpg", "key": key, "bytes": 3, "sha256": sha256_hex(b"one")}
    about = {"format": FORMAT, "dataset_id": "shapes", "version": "2026-11"}
    manifest = {**about, "files": [{**file, **changes}]}
    (bucket / "datasets/shapes/_manifest.json").write_text(json.dumps(manifest))
    return manifest


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_manifest_of_another_program_is_whole_for_both_who_read_it(
    place: DatasetStorage, root: Path, tmp_path: Path
) -> None:
    somebody_elses(tmp_path / "bucket")

    manifest = await place.manifest()

    assert manifest is not None
    assert await place.faults_of_files(manifest, ignore, deep=True) == []
    assert read_manifest(tmp_path / "bucket" / place.manifest_name, "shapes").version == "2026-11"
    assert (await push(place, root)).version == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "datasets/other/one.jpg"}, "its key 'datasets/other/one.jpg' is not below "),
        ({"path": "../one.jpg"}, "points outside the data set"),
    ],
)
async def test_what_a_trainer_would_refuse_is_told(
    place: DatasetStorage, tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    manifest = somebody_elses(tmp_path / "bucket", **changes)

    (fault,) = await place.faults_of_files(manifest, ignore, deep=False)

    assert words in fault
    with pytest.raises(DatasetInvalidError):
        read_manifest(tmp_path / "bucket" / place.manifest_name, "shapes")


async def test_a_file_that_is_listed_twice_is_told(place: DatasetStorage, tmp_path: Path) -> None:
    manifest = somebody_elses(tmp_path / "bucket")
    manifest["files"] *= 2

    faults = await place.faults_of_files(manifest, ignore, deep=False)

    assert faults == ["images/one.jpg is listed 2 times"] * 2


async def test_a_damaged_zip_is_a_fault_wherever_it_is_damaged(
    place: DatasetStorage, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels/a.txt", "0 0.5 0.5 0.1 0.1\n" * 500)
    content = (tmp_path / "a.zip").read_bytes()
    await place.push_zip(tmp_path / "a.zip")
    assert await place.fault_of_zip(deep=True) is None

    found = []
    begin = content.index(b"labels/a.txt") + len(b"labels/a.txt")
    for at in range(begin, content.index(b"PK\x01\x02") - 2):  # its content; but not its end
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        (tmp_path / "bucket" / place.zip_name).write_bytes(damaged)
        found.append(await place.fault_of_zip(deep=True))

    assert None not in found, found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", f"not of the format {FORMAT}"),
        (f'{{"format": "{FORMAT}", "files": []}}', "lacks a version"),
        (f'{{"format": "{FORMAT}", "version": 1, "files": [{{"path": "a"}}]}}', "not listed"),
        (f'{{"format": "{FORMAT}", "version": 1, "files": []}}', "not listed"),
    ],
)
async def test_a_damaged_manifest_is_told_and_replaced(
    place: DatasetStorage, root: Path, tmp_path: Path, text: str, words: str
) -> None:
    await push(place, root)
    (tmp_path / "bucket" / place.manifest_name).write_text(text)

    with pytest.raises(DatasetDamagedError, match=words):
        await place.manifest()
    assert await push(place, root) == Pushed(2, 0, 0)


async def test_a_zip_takes_the_place_of_a_manifest(
    place: DatasetStorage, root: Path, tmp_path: Path
) -> None:
    await push(place, root)
    pack(files_of(root), tmp_path / "a.zip", ignore)

    await place.push_zip(tmp_path / "a.zip")

    assert await place.manifest() is None
    assert await place.has_zip()
    assert await place.fault_of_zip(deep=True) is None


parts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from(
    ["a", "b", "images", "Screenshot 3.45\u202fPM.png", "a:b", "a\\b", "a\nb", "é" * 127]
)


@settings(max_examples=60, deadline=None)  # it writes files
@given(st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), min_size=1, max_size=5))
async def test_what_a_push_writes_a_trainer_reads(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("pushed")
    for number, name in enumerate(names):
        _write(folder / "set" / name, folder / "set", str(number))
    place = DatasetStorage(Folder(folder / "bucket"), "shapes")
    try:
        files = files_of(folder / "set") if (folder / "set").is_dir() else []
    except DatasetFilesError:
        return
    if not files:
        return
    await place.push_manifest(hash_all(files, ignore), {}, NOW, ignore)
    pack(files, folder / "a.zip", ignore)

    read = read_manifest(folder / "bucket" / place.manifest_name, "shapes")
    unpack(folder / "a.zip", folder / "unpacked")

    there = {file.path: file.source.read_bytes() for file in files}
    listed = {str(one.place): (folder / "bucket" / one.key).read_bytes() for one in read.entries}
    assert listed == there
    unpacked = [file for file in (folder / "unpacked").rglob("*") if file.is_file()]
    assert {str(f.relative_to(folder / "unpacked")): f.read_bytes() for f in unpacked} == there


def _write(place: Path, root: Path, text: str) -> None:
    try:
        if not place.resolve().is_relative_to(root.resolve()):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    except (OSError, ValueError):  # a name that this file system does not take
        return
