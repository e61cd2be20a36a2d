from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.collecting import WORKERS, collect
from trainer.dataset import obtain_dataset
from trainer.dataset_cache import DatasetCache
from trainer.errors import (
    DatasetInvalidError,
    DatasetMissingError,
    Interrupted,
    StorageDeniedError,
    StorageUnreachableError,
)
from trainer.local_storage import LocalStorage
from trainer.manifest import FORMAT, Manifest, read_manifest
from trainer.storage import Stored

MIB = 1024 * 1024
FIRST = {"images/a.jpg": b"a", "images/b.jpg": b"bb", "labels/a.txt": b"", "labels/b.txt": b""}


class Watched(LocalStorage):
    """A bucket that says what was fetched from it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.fetched: list[str] = []
        self.before_fetch: Callable[[str], object] = lambda _key: None

    def fetch(self, key: str, target: Path, *, sha256: str | None = None) -> Stored:
        self.before_fetch(key)
        self.fetched.append(key)
        return super().fetch(key, target, sha256=sha256)

    def put(self, files: dict[str, bytes], version: int = 1) -> None:
        """Write a data set as a push does."""
        listed = []
        for path, content in files.items():
            digest = hashlib.sha256(content).hexdigest()
            key = f"datasets/shapes/files/{digest[:2]}/{digest}"
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            (self.root / key).write_bytes(content)
            listed.append({"path": path, "key": key, "bytes": len(content), "sha256": digest})
        manifest = {"format": FORMAT, "version": version, "files": listed}
        (self.root / "datasets/shapes/_manifest.json").write_text(json.dumps(manifest))

    def manifest(self) -> Manifest:
        return read_manifest(self.root / "datasets/shapes/_manifest.json", "shapes")

    def file(self, content: bytes) -> Path:
        digest = hashlib.sha256(content).hexdigest()
        return self.root / f"datasets/shapes/files/{digest[:2]}/{digest}"


@pytest.fixture
def bucket(tmp_path: Path) -> Watched:
    bucket = Watched(tmp_path / "bucket")
    bucket.put(FIRST)
    return bucket


@pytest.fixture
def cache(tmp_path: Path) -> DatasetCache:
    return DatasetCache(tmp_path / "cache", MIB)


def content_of(root: Path) -> dict[str, bytes]:
    files = (file for file in root.rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def test_only_what_has_changed_is_fetched_and_equal_files_once(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    first = collect(bucket, bucket.manifest(), tmp_path / "first", cache)

    assert content_of(tmp_path / "first") == FIRST
    assert (first.files, first.bytes, first.fetched_files, first.fetched_bytes) == (4, 3, 3, 3)
    assert len(bucket.fetched) == 3, "both empty files are one"

    changed = FIRST | {"images/b.jpg": b"changed", "images/c.jpg": b"a"}
    bucket.put(changed, version=2)
    bucket.fetched.clear()
    second = collect(bucket, bucket.manifest(), tmp_path / "second", cache)

    assert content_of(tmp_path / "second") == changed
    assert (second.files, second.fetched_files, second.fetched_bytes) == (5, 1, 7)
    assert bucket.fetched == [str(bucket.file(b"changed").relative_to(bucket.root))]


def test_without_a_cache_all_of_it_is_fetched(tmp_path: Path, bucket: Watched) -> None:
    for name in ("first", "second"):
        collected = collect(bucket, bucket.manifest(), tmp_path / name, DatasetCache(tmp_path, 0))

        assert content_of(tmp_path / name) == FIRST
        assert (collected.fetched_files, collected.fetched_bytes) == (3, 3)


def test_a_cache_that_is_too_small_keeps_what_fits(tmp_path: Path, bucket: Watched) -> None:
    files = {f"images/{number}.jpg": bytes([number]) * 100 for number in range(30)}
    bucket.put(files)

    for name in ("first", "second"):
        cache = DatasetCache(tmp_path / "cache", 1000)
        fetched = collect(bucket, bucket.manifest(), tmp_path / name, cache).fetched_files
        assert content_of(tmp_path / name) == files
        kept = sum(file.stat().st_size for file in (tmp_path / "cache").glob("??/*"))
        assert kept <= 1000
    assert fetched == 20


def test_a_damaged_file_of_the_cache_is_fetched_again(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    collect(bucket, bucket.manifest(), tmp_path / "first", cache)
    digest = hashlib.sha256(b"bb").hexdigest()
    kept = tmp_path / "cache" / digest[:2] / digest
    kept.unlink()
    kept.write_bytes(b"BB")

    again = collect(bucket, bucket.manifest(), tmp_path / "second", cache)

    assert content_of(tmp_path / "second") == FIRST
    assert again.fetched_files == 1
    assert kept.read_bytes() == b"bb"


@pytest.mark.parametrize("damage", [b"aa", b"c"], ids=["longer", "other"])
def test_a_damaged_object_is_told_with_the_name_of_its_file(
    tmp_path: Path, bucket: Watched, cache: DatasetCache, damage: bytes
) -> None:
    bucket.file(b"a").write_bytes(damage)

    with pytest.raises(DatasetInvalidError) as caught:
        collect(bucket, bucket.manifest(), tmp_path / "set", cache)

    assert str(caught.value) == (
        "images/a.jpg is not in the storage as the manifest lists it; "
        "push the data set again with --all."
    )
    assert damage not in {file.read_bytes() for file in (tmp_path / "cache").glob("??/*")}


def test_a_missing_object_is_told_with_the_name_of_its_file(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    bucket.file(b"a").unlink()

    with pytest.raises(DatasetInvalidError, match=r"lists images/a\.jpg, but the storage has no"):
        collect(bucket, bucket.manifest(), tmp_path / "set", cache)


def test_the_first_failure_ends_the_rest(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    bucket.put({f"images/{number}.jpg": str(number).encode() for number in range(200)})
    tries: list[str] = []

    def away(key: str) -> None:
        tries.append(key)
        if len(tries) > 1:
            time.sleep(0.05)  # lets the first that failed be heard
        raise StorageUnreachableError

    bucket.before_fetch = away
    with pytest.raises(StorageUnreachableError):
        collect(bucket, bucket.manifest(), tmp_path / "set", cache)

    assert len(tries) <= WORKERS
    assert not [one for one in threading.enumerate() if one.name.startswith("dataset")]


def test_whoever_asks_it_to_end_waits_for_what_is_on_the_way_and_no_more(
    tmp_path: Path, bucket: Watched, cache: DatasetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({f"images/{number}.jpg": str(number).encode() for number in range(200)})
    begun = threading.Semaphore(0)
    free = threading.Event()

    def slow(_: str) -> None:
        begun.release()
        assert free.wait(20)

    def interrupted(*_: object, **__: object) -> None:
        for _turn in range(WORKERS):
            assert begun.acquire(timeout=20)
        raise Interrupted

    class Pool(ThreadPoolExecutor):
        """What is on the way comes to its end only when it is waited for."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            free.set()
            super().shutdown(wait, cancel_futures=cancel_futures)

    monkeypatch.setattr("trainer.collecting.ThreadPoolExecutor", Pool)
    bucket.before_fetch = slow
    monkeypatch.setattr("trainer.collecting.wait", interrupted)
    with pytest.raises(Interrupted):
        collect(bucket, bucket.manifest(), tmp_path / "set", cache)

    assert len(bucket.fetched) == WORKERS


def test_a_manifest_stands_before_a_zip(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    (bucket.root / "datasets/shapes.zip").write_bytes(b"an older one")
    (tmp_path / "work").mkdir()

    fetched = obtain_dataset(bucket, "shapes", tmp_path / "work", cache)

    assert content_of(fetched.root) == FIRST
    assert fetched.archive is None
    manifest = bucket.root / "datasets/shapes/_manifest.json"
    assert fetched.facts == {
        "form": "manifest",
        "name": "_manifest.json",
        "uri": manifest.as_uri(),
        "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "bytes": manifest.stat().st_size,
        "version": 1,
        "files": 4,
        "total_bytes": 3,
        "fetched_files": 3,
        "fetched_bytes": 3,
    }


def test_without_a_manifest_the_zip_is_fetched(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    shutil.make_archive(str(tmp_path / "shapes"), "zip", bucket.root)
    (tmp_path / "shapes.zip").rename(bucket.root / "datasets/shapes.zip")
    (bucket.root / "datasets/shapes/_manifest.json").unlink()
    (tmp_path / "work").mkdir()

    fetched = obtain_dataset(bucket, "shapes", tmp_path / "work", cache)

    assert (fetched.facts["form"], fetched.facts["name"]) == ("zip", "dataset.zip")
    fetched.unpack()
    assert (fetched.root / "datasets/shapes/files").is_dir()
    assert not (tmp_path / "work/dataset.zip").exists()


def test_where_there_is_neither_it_is_missing_and_where_keys_may_not_look_it_is_denied(
    tmp_path: Path, bucket: Watched, cache: DatasetCache
) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(DatasetMissingError, match=r"other\.zip"):
        obtain_dataset(bucket, "other", tmp_path / "work", cache)

    def deny(key: str) -> None:
        if key.endswith("_manifest.json"):
            raise StorageDeniedError(f"The storage refused access to {key}.")

    bucket.before_fetch = deny
    with pytest.raises(StorageDeniedError, match=r"_manifest\.json"):
        obtain_dataset(bucket, "other", tmp_path / "work", cache)
    (bucket.root / "datasets/other.zip").write_bytes(b"zip")
    assert obtain_dataset(bucket, "other", tmp_path / "work", cache).facts["form"] == "zip"
