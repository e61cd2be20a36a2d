from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.dataset_cache import ABANDONED_AFTER, DatasetCache

MIB = 1024 * 1024


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[DatasetCache, bytes], str]:
    def keep(cache: DatasetCache, content: bytes) -> str:
        file = tmp_path / f"source-{sha256(content)[:8]}"
        file.write_bytes(content)
        cache.put(sha256(content), file)
        return sha256(content)

    return keep


Keep = Callable[[DatasetCache, bytes], str]


def place(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / digest


def age(folder: Path, digest: str, seconds: float) -> None:
    os.utime(place(folder, digest), (time.time() - seconds,) * 2)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*") if file.is_file()} - {"lock"}


def test_what_was_put_is_taken(tmp_path: Path, folder: Path, keep: Keep) -> None:
    cache = DatasetCache(folder, MIB)
    digest = keep(cache, b"picture")

    assert cache.holds(digest)
    assert cache.take(digest, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"picture"
    assert not cache.holds(sha256(b"other"))
    assert not cache.take(sha256(b"other"), tmp_path / "other")


def test_what_is_there_may_be_put_again_and_leaves_nothing(
    tmp_path: Path, folder: Path, keep: Keep
) -> None:
    cache = DatasetCache(folder, MIB)
    digest = keep(cache, b"picture")
    assert cache.take(digest, tmp_path / "target")

    cache.put(digest, tmp_path / "target")
    keep(cache, b"picture")

    assert files(folder) == {digest}
    assert cache.take(digest, tmp_path / "again")


def test_a_damaged_file_is_thrown_away_and_not_taken(
    tmp_path: Path, folder: Path, keep: Keep
) -> None:
    cache = DatasetCache(folder, MIB)
    digest = keep(cache, b"picture")
    place(folder, digest).unlink()
    place(folder, digest).write_bytes(b"pictur3")

    assert not cache.take(digest, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert not cache.holds(digest)


def test_what_was_not_used_for_the_longest_time_goes_first(
    tmp_path: Path, folder: Path, keep: Keep
) -> None:
    cache = DatasetCache(folder, 100)
    old, used, new = (keep(cache, letter * 30) for letter in (b"a", b"b", b"c"))
    for digest, seconds in ((used, 300), (old, 200), (new, 100)):
        age(folder, digest, seconds)
    assert cache.take(used, tmp_path / "target")

    assert cache.make_room(40, set()) == 40
    assert files(folder) == {used, new}

    assert cache.make_room(70, {new}) == 70
    assert files(folder) == {new}


def test_what_is_about_to_be_used_stays_even_where_there_is_no_room(
    folder: Path, keep: Keep
) -> None:
    cache = DatasetCache(folder, 50)
    digest = keep(cache, b"a" * 40)

    assert cache.make_room(1000, {digest}) == 10
    assert files(folder) == {digest}
    assert DatasetCache(folder, 30).make_room(0, {digest}) == 0


@pytest.mark.parametrize("limit", [0, MIB])
def test_a_cache_that_is_off_or_cannot_be_made_keeps_nothing(
    tmp_path: Path, keep: Keep, limit: int
) -> None:
    (tmp_path / "file").touch()
    cache = DatasetCache(tmp_path / ("cache" if limit == 0 else "file/cache"), limit)

    digest = keep(cache, b"picture")

    assert not cache.holds(digest)
    assert not cache.take(digest, tmp_path / "target")
    assert cache.make_room(10, set()) == 0
    assert not (tmp_path / "cache").exists()


def test_another_users_folder_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Keep
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    cache = DatasetCache(tmp_path / "cache", MIB)

    assert not cache.holds(keep(cache, b"picture"))
    assert files(tmp_path / "cache") == set()


def test_a_folder_with_other_files_loses_none_of_them(tmp_path: Path, keep: Keep) -> None:
    others = ["notes.txt", "ab/notes.txt", "ab/" + "c" * 64, "ab/sub/x", "parts/old.txt", "cd"]
    for name in others:
        (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / "cache" / name, (1, 1))
    cache = DatasetCache(tmp_path / "cache", 50)
    kept = keep(cache, b"a" * 50)

    assert cache.make_room(50, set()) == 50

    assert kept not in files(tmp_path / "cache")
    assert all((tmp_path / "cache" / name).is_file() for name in others)


def test_what_a_killed_trainer_had_begun_is_swept_away(folder: Path) -> None:
    cache = DatasetCache(folder, MIB)
    (folder / "parts").mkdir()
    for name, seconds in (("0" * 32, ABANDONED_AFTER + 60), ("1" * 32, 60)):
        (folder / "parts" / name).touch()
        os.utime(folder / "parts" / name, (time.time() - seconds,) * 2)

    cache.make_room(1, set())

    assert files(folder) == {"1" * 32}


def test_a_cache_in_the_way_stops_no_training(tmp_path: Path, folder: Path, keep: Keep) -> None:
    cache = DatasetCache(folder, MIB)
    (folder / "lock").mkdir()
    (folder / "parts").touch()
    place(folder, sha256(b"other")).mkdir(parents=True)

    digest = keep(cache, b"picture")

    assert cache.make_room(10, set()) == 0
    assert not cache.take(digest, tmp_path / "target")
    assert not cache.take(sha256(b"other"), tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_on_another_file_system_it_is_a_copy(
    tmp_path: Path, folder: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refused)
    cache = DatasetCache(folder, MIB)
    digest = keep(cache, b"picture")

    assert cache.take(digest, tmp_path / "target")
    (tmp_path / "target").write_bytes(b"changed")
    assert place(folder, digest).read_bytes() == b"picture"


def test_a_file_in_use_is_the_same_file_and_read_only(
    tmp_path: Path, folder: Path, keep: Keep
) -> None:
    cache = DatasetCache(folder, MIB)
    digest = keep(cache, b"\xff\xd8\xff picture \xff\xd9")
    assert cache.take(digest, tmp_path / "target")

    assert (tmp_path / "target").samefile(place(folder, digest))
    assert (tmp_path / "target").stat().st_mode & 0o222 == 0


def test_a_jpeg_that_ultralytics_would_mend_in_place_is_never_the_caches_own(
    tmp_path: Path, folder: Path, keep: Keep
) -> None:
    cache = DatasetCache(folder, MIB)
    digest = keep(cache, b"\xff\xd8\xff picture \xff\xd9 and more")
    assert cache.take(digest, tmp_path / "target")
    cache.put(digest, tmp_path / "target")

    with (tmp_path / "target").open("r+b") as picture:
        picture.write(b"mended")

    assert (tmp_path / "target").stat().st_mode & 0o200
    assert cache.take(digest, tmp_path / "again")


def test_several_trainers_use_one_cache_at_once(tmp_path: Path, folder: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(20)]
    wrong: list[object] = []

    def train(trainer: int) -> None:
        cache = DatasetCache(folder, 8_000)
        mine = tmp_path / f"trainer-{trainer}"
        mine.mkdir()
        for turn in range(4):
            cache.make_room(5_000, set())
            for number, content in enumerate(contents):
                target = mine / f"{turn}-{number}"
                if not cache.take(sha256(content), target):
                    target.write_bytes(content)
                    cache.put(sha256(content), target)
                if target.read_bytes() != content:
                    wrong.append(target)

    def guarded(trainer: int) -> None:
        try:
            train(trainer)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wrong == []
    assert not list((folder / "parts").iterdir())
    assert DatasetCache(folder, 8_000).make_room(0, set()) >= 0
    assert sum(file.stat().st_size for file in folder.glob("??/*")) <= 8_000
