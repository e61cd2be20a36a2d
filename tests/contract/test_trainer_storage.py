"""What every storage of the trainer does alike: a folder, and a bucket by keys or addresses."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cutting_proxy import CuttingProxy
from tests.s3 import KEY, SECRET, s3_server
from tests.storages import BUCKET, KEYS, MEBIBYTE, by_addresses, by_keys, content, key, write
from trainer import transfer
from trainer.configuration import StorageKeys
from trainer.errors import (
    DiskFullError,
    ObjectDamagedError,
    ObjectMissingError,
    StorageDeniedError,
    StorageSupersededError,
    StorageUnreachableError,
)
from trainer.local_storage import LocalStorage
from trainer.s3_storage import S3Storage
from trainer.storage import Owner, Storage

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture(params=["keys", "presigned"])
def remote(request: pytest.FixtureRequest) -> Storage:
    if request.param == "keys":
        return by_keys(request.getfixturevalue("line"))
    return by_addresses(request.getfixturevalue("service"))


@pytest.mark.parametrize("size", [0, 1, 3 * MEBIBYTE + 7])
def test_what_is_stored_is_what_is_fetched(storage: Storage, tmp_path: Path, size: int) -> None:
    data = content(size)

    stored = storage.store(write(tmp_path / "a.pt", data), key("a.pt"))
    fetched = storage.fetch_uri(stored.uri, tmp_path / "b.pt", sha256=stored.sha256)

    assert (tmp_path / "b.pt").read_bytes() == data
    assert fetched == stored
    assert (stored.sha256, stored.bytes) == (hashlib.sha256(data).hexdigest(), size)
    assert storage.fetch(key("a.pt"), tmp_path / "c.pt") == stored


def test_fetching_tells_of_each_piece_that_has_come(storage: Any, tmp_path: Path) -> None:
    pieces: list[None] = []
    storage._step = lambda: pieces.append(None)

    storage.store(write(tmp_path / "a.pt", content(2 * MEBIBYTE + 1)), key("a.pt"))
    assert pieces == []
    storage.fetch(key("a.pt"), tmp_path / "b.pt")

    assert len(pieces) >= 3


def test_a_later_object_takes_the_place_of_an_earlier_one(storage: Storage, tmp_path: Path) -> None:
    for data in (b"first", b"second"):
        storage.store(write(tmp_path / "a.pt", data), key("same.pt"))

    storage.fetch(key("same.pt"), write(tmp_path / "b.pt", b"what was there"))

    assert (tmp_path / "b.pt").read_bytes() == b"second"


def test_what_is_not_there_is_missing_and_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match=r"gone\.pt"):
        storage.fetch(key("gone.pt"), tmp_path / "a.pt")
    with pytest.raises(ObjectMissingError):
        storage.fetch_uri("gs://elsewhere/a.pt", tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_what_was_written_is_damaged(storage: Storage, tmp_path: Path) -> None:
    stored = storage.store(write(tmp_path / "a.pt", b"what was written"), key("d.pt"))
    before = write(tmp_path / "b.pt", b"what was there")

    with pytest.raises(ObjectDamagedError, match="SHA-256"):
        storage.fetch_uri(stored.uri, before, sha256="0" * 64)
    assert before.read_bytes() == b"what was there"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pt", "b.pt"]


def test_a_full_disk_is_said_and_leaves_nothing(
    storage: Storage, tmp_path: Path, small_disk: Path
) -> None:
    storage.store(write(tmp_path / "a.pt", content(3 * MEBIBYTE)), key("large.pt"))

    with pytest.raises(DiskFullError):
        storage.fetch(key("large.pt"), small_disk / "a.pt")
    assert list(small_disk.iterdir()) == []


def test_a_store_whose_disk_is_full_keeps_what_it_had(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "buckets" / BUCKET).mkdir(parents=True)
    local = LocalStorage(small_disk / "buckets" / BUCKET)
    local.store(write(tmp_path / "old.pt", b"old"), "same.pt")
    large = write(tmp_path / "large.pt", content(3 * MEBIBYTE))

    with pytest.raises(DiskFullError):
        local.store(large, "same.pt")
    with s3_server(small_disk / "buckets") as url:
        remote = S3Storage(bucket=BUCKET, endpoint=url, keys=KEYS)
        with pytest.raises(StorageUnreachableError, match=r"same\.pt"):
            remote.store(large, "same.pt")
        remote.fetch("same.pt", tmp_path / "b.pt")

    assert (tmp_path / "b.pt").read_bytes() == b"old"
    assert [file.name for file in (small_disk / "buckets" / BUCKET).iterdir()] == ["same.pt"]


def test_a_folder_that_only_reads_refuses_as_a_store_does(small_disk: Path, tmp_path: Path) -> None:
    storage = LocalStorage(small_disk)
    storage.store(write(tmp_path / "old.pt", b"old"), "same.pt")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(StorageDeniedError, match=r"same\.pt: Read-only"):
        storage.store(write(tmp_path / "new.pt", b"new"), "same.pt")

    storage.fetch("same.pt", tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() == b"old"


def test_a_line_that_is_cut_goes_on_where_it_broke(
    remote: Storage, line: CuttingProxy, tmp_path: Path
) -> None:
    data = content(8 * MEBIBYTE)
    remote.store(write(tmp_path / "a.pt", data), key("cut.pt"))
    line.down, line.cuts = 0, [2 * MEBIBYTE, 3 * MEBIBYTE]

    remote.fetch(key("cut.pt"), tmp_path / "b.pt")

    assert (tmp_path / "b.pt").read_bytes() == data
    assert line.cuts == []
    assert line.down < len(data) + 3 * MEBIBYTE, "it went on, and did not begin anew"


def test_an_object_that_changes_while_it_is_read_is_read_anew(
    remote: Storage, line: CuttingProxy, buckets: Path, tmp_path: Path
) -> None:
    old, new = content(4 * MEBIBYTE), content(4 * MEBIBYTE)
    remote.store(write(tmp_path / "a.pt", old), key("changes.pt"))
    opened: list[int] = []

    class Swapping(transfer._Download):
        def _go_on(self) -> None:
            opened.append(self._size)
            if len(opened) == 2:
                remote.store(write(tmp_path / "new.pt", new), key("changes.pt"))
            super()._go_on()

    line.cuts = [MEBIBYTE]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "_Download", Swapping)
        remote.fetch(key("changes.pt"), tmp_path / "b.pt")

    assert (tmp_path / "b.pt").read_bytes() == new


def test_a_write_over_a_bad_line_arrives_whole(
    remote: Storage, line: CuttingProxy, buckets: Path, tmp_path: Path
) -> None:
    (buckets / BUCKET / key("bad.pt")).unlink(missing_ok=True)
    data = content(2 * MEBIBYTE)
    line.cut, line.every = 0, MEBIBYTE
    try:
        with pytest.raises(StorageUnreachableError, match=r"bad\.pt"):
            remote.store(write(tmp_path / "a.pt", data), key("bad.pt"))
    finally:
        line.every = None
    assert line.cut >= transfer.MOST_TRIES
    assert not (buckets / BUCKET / key("bad.pt")).exists()

    remote.store(tmp_path / "a.pt", key("bad.pt"))

    assert (buckets / BUCKET / key("bad.pt")).read_bytes() == data


def test_two_threads_may_write_the_same_object(storage: Storage, tmp_path: Path) -> None:
    data = content(2 * MEBIBYTE)
    source = write(tmp_path / "a.pt", data)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.store(source, key("both.pt")), range(24)))

    assert storage.fetch(key("both.pt"), tmp_path / "b.pt").bytes == len(data)
    assert (tmp_path / "b.pt").read_bytes() == data


def test_a_large_object_goes_in_parts(line: CuttingProxy, buckets: Path, tmp_path: Path) -> None:
    data = content(17 * MEBIBYTE)

    stored = by_keys(line, part=5 * MEBIBYTE).store(write(tmp_path / "a.pt", data), key("parts.pt"))

    assert (buckets / BUCKET / key("parts.pt")).read_bytes() == data
    assert stored.sha256 == hashlib.sha256(data).hexdigest()


def test_a_large_object_goes_to_addresses_in_parts(
    service: Any, line: CuttingProxy, buckets: Path, tmp_path: Path
) -> None:
    data = content(70 * MEBIBYTE)
    line.cut, line.cuts = 0, []

    by_addresses(service).store(write(tmp_path / "a.pt", data), key("parts2.pt"))

    assert (buckets / BUCKET / key("parts2.pt")).read_bytes() == data


@pytest.mark.parametrize(
    ("keys", "bucket", "words"),
    [
        (StorageKeys(read=(KEY, "another-secret"), write=None), BUCKET, "R2_SECRET_ACCESS_KEY"),
        (StorageKeys(read=("another-key", SECRET), write=None), BUCKET, "R2_ACCESS_KEY_ID"),
        (KEYS, "no-such-bucket", "BUCKET"),
    ],
    ids=["secret", "key", "bucket"],
)
def test_what_the_store_refuses_is_said_with_what_to_check(
    line: CuttingProxy, tmp_path: Path, keys: StorageKeys, bucket: str, words: str
) -> None:
    with pytest.raises(StorageDeniedError, match=words):
        by_keys(line, keys, bucket=bucket).fetch(key("a.pt"), tmp_path / "a.pt")


def test_it_reads_with_one_key_and_writes_with_another(line: CuttingProxy, tmp_path: Path) -> None:
    source = write(tmp_path / "a.pt", b"data")
    reads = by_keys(line, StorageKeys(read=(KEY, SECRET), write=("writer", "another-secret")))
    writes = by_keys(line, StorageKeys(read=("reader", "another-secret"), write=(KEY, SECRET)))

    with pytest.raises(StorageDeniedError, match="written"):
        reads.store(source, key("one.pt"))
    writes.store(source, key("one.pt"))
    with pytest.raises(StorageDeniedError, match="read"):
        writes.fetch(key("one.pt"), tmp_path / "b.pt")
    assert reads.fetch(key("one.pt"), tmp_path / "b.pt").bytes == 4


@pytest.fixture
def best(tmp_path: Path) -> str:
    """A key that no other test uses."""
    return f"checkpoints/{tmp_path.name}/best.pt"


@pytest.mark.parametrize("size", [4, 6 * MEBIBYTE], ids=["whole", "in parts"])
def test_by_keys_an_attempt_that_was_given_up_leaves_a_later_ones_weights(
    line: CuttingProxy, tmp_path: Path, best: str, size: int
) -> None:
    storage = by_keys(line, part=5 * MEBIBYTE)
    late, later = write(tmp_path / "late.pt", content(size)), write(tmp_path / "b.pt", b"later")
    kept = storage.store(later, best, owner=Owner("trace-9", 10))

    with pytest.raises(StorageSupersededError, match="attempt 10"):
        storage.store(late, best, owner=Owner("trace-9", 9))

    assert storage.fetch(best, tmp_path / "c.pt") == kept


def test_by_keys_weights_of_an_earlier_attempt_or_of_another_job_are_written_over(
    line: CuttingProxy, tmp_path: Path, best: str
) -> None:
    storage = by_keys(line)
    source = write(tmp_path / "a.pt", b"data")

    # The same process again, a later attempt, and a job of another log whose ids began anew.
    owners = [Owner("trace-9", 2), Owner("trace-9", 2), Owner("trace-9", 3), Owner("träce", 1)]
    for number, owner in enumerate(owners):
        source.write_text(f"weights {number}")
        stored = storage.store(source, best, owner=owner)
        assert storage.fetch(best, tmp_path / "b.pt") == stored


def test_a_key_that_may_not_read_cannot_tell_whose_the_weights_are(
    line: CuttingProxy, tmp_path: Path, best: str
) -> None:
    wrong = StorageKeys(read=("another", "key-altogether"), write=(KEY, SECRET))
    blind = S3Storage(bucket=BUCKET, endpoint=line.url, keys=wrong)
    source = write(tmp_path / "a.pt", b"data")
    blind.store(source, best, owner=Owner("trace-9", 2))

    assert blind.store(source, best, owner=Owner("trace-9", 1)).bytes == 4


def test_an_attempt_gets_no_address_that_is_not_its_jobs(service: Any, tmp_path: Path) -> None:
    storage = by_addresses(service)
    source = write(tmp_path / "a.pt", b"data")

    for other in (
        "checkpoints/job-2/a.pt",
        "datasets/shapes.zip",
        key("x").replace("-1/x", "-2/x"),
    ):
        with pytest.raises(StorageDeniedError, match="may not write"):
            storage.store(source, other)
    with pytest.raises(StorageDeniedError, match="may not read"):
        storage.fetch("datasets/other.zip", tmp_path / "b.pt")
    with pytest.raises(StorageDeniedError, match="plain path"):
        storage.fetch("datasets/shapes/../../x", tmp_path / "b.pt")
    with pytest.raises(ObjectMissingError):
        storage.fetch("datasets/shapes.zip", tmp_path / "b.pt")


def test_a_store_that_is_away_is_unreachable(tmp_path: Path) -> None:
    storage = S3Storage(bucket=BUCKET, endpoint="http://127.0.0.1:9", keys=KEYS)

    with pytest.raises(StorageUnreachableError, match=r"a\.pt"):
        storage.fetch(key("a.pt"), tmp_path / "a.pt")
