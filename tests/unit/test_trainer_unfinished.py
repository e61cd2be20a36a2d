from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from trainer.local_storage import LocalStorage
from trainer.run import work_folder
from trainer.unfinished import (
    clear_beside,
    clear_parts,
    folder_beside,
    name_first,
    part_of,
    put_in_place,
)

ROOT = Path(__file__).parents[2]
MAKING = """
import sys, threading
from pathlib import Path
from trainer.unfinished import folder_beside, part_of
target = Path(sys.argv[1])
with part_of(target) as part, folder_beside(target) as folder:
    part.write(b"half")
    (folder / "half").write_bytes(b"half")
    print(flush=True)
    threading.Event().wait()
"""


class Maker:
    """Another process that is making a file."""

    def __init__(self, target: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAKING, str(target)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        with self._process.stdout as output:
            output.readline()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


@pytest.fixture
def maker(target: Path) -> Iterator[Maker]:
    maker = Maker(target)
    yield maker
    maker.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead() -> int:
    """Return the number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_dead_process_left_is_cleared_and_that_of_a_living_one_is_not(
    target: Path, maker: Maker
) -> None:
    making = names(target.parent)
    clear_parts(target.parent)
    clear_beside(target)
    assert names(target.parent) == making
    assert len(making) == 2

    maker.kill()
    clear_parts(target.parent)
    assert len(names(target.parent)) == 1
    clear_beside(target)
    assert names(target.parent) == []


def test_a_living_one_is_told_by_its_lock_where_its_number_means_nothing(
    target: Path, maker: Maker
) -> None:
    # As of another container, whose processes have numbers of their own.
    for path in target.parent.iterdir():
        foreign = path.name.split(".")
        foreign[3] = str(dead())
        path.rename(path.with_name(".".join(foreign)))
    making = names(target.parent)

    clear_parts(target.parent)
    clear_beside(target)

    assert names(target.parent) == making


def test_one_of_this_process_stays_for_as_long_as_it_is_made(target: Path) -> None:
    with part_of(target) as part, folder_beside(target) as folder:
        clear_parts(target.parent)
        clear_beside(target)
        assert folder.is_dir()
        part.write(b"whole")
        put_in_place(part, target)

    assert names(target.parent) == ["last.pt"]
    assert target.read_bytes() == b"whole"


def test_one_that_is_cleared_before_it_is_locked_is_made_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, cleared = fcntl.flock, [True]

    def late(file: BinaryIO, operation: int) -> None:
        if cleared:
            cleared.pop()
            Path(file.name).unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with part_of(target) as part:
        part.write(b"whole")
        put_in_place(part, target)

    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EWOULDBLOCK])
def test_without_a_lock_it_is_made_all_the_same(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(_file: BinaryIO, _operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with part_of(target) as part:
        part.write(b"whole")
        put_in_place(part, target)

    assert target.read_bytes() == b"whole"


def test_what_breaks_off_leaves_what_was_there(target: Path) -> None:
    def fail() -> None:
        with part_of(target) as part:
            part.write(b"new")
            raise OSError("broken")

    target.write_bytes(b"old")
    with pytest.raises(OSError, match="broken"):
        fail()

    assert names(target.parent) == ["last.pt"]
    assert target.read_bytes() == b"old"


def test_only_what_has_such_a_name_is_ever_cleared(target: Path) -> None:
    others = [".last.pt.part", "x.1.2.part", f".other.{dead()}", f".last.pt.{dead()}.bak"]
    for name in others:
        (target.parent / name).touch()

    clear_parts(target.parent)
    clear_beside(target)

    assert names(target.parent) == sorted(others)


def test_a_trainer_clears_its_folder_and_its_jobs_in_the_bucket(tmp_path: Path) -> None:
    left = f".dataset.zip.{dead()}.1.part"
    attempt = tmp_path / "checkpoints" / "job-7" / "attempt-1"
    attempt.mkdir(parents=True)
    for folder in (tmp_path, attempt, attempt.parent):
        (folder / left).touch()

    with work_folder(tmp_path):
        assert names(tmp_path) == ["checkpoints"]
    LocalStorage(tmp_path).clear("checkpoints/job-7")
    assert names(attempt.parent) == ["attempt-1"]
    assert names(attempt) == []


def test_a_folder_that_is_not_there_holds_nothing_to_clear(tmp_path: Path) -> None:
    LocalStorage(tmp_path).clear("checkpoints/job-7")
    clear_beside(tmp_path / "no" / "mlflow.db")
    assert names(tmp_path) == []


def test_an_older_trainers_data_base_in_the_making_is_cleared_too(tmp_path: Path) -> None:
    process = dead()
    for name in (f".mlflow.db.{process}", f".mlflow.db.{process}-journal"):
        (tmp_path / name).touch()
    (tmp_path / f".mlflow.db.{os.getppid()}").touch()

    clear_beside(tmp_path / "mlflow.db")

    assert names(tmp_path) == [f".mlflow.db.{os.getppid()}"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV])
def test_where_no_links_are_known_what_is_whole_still_gets_its_name(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_link(_link: Path, _file: Path) -> None:
        raise OSError(number, "no links")

    monkeypatch.setattr(Path, "hardlink_to", no_link)
    for content in ("first", "second"):
        made = target.with_name("made")
        made.write_text(content)
        name_first(made, target)

    assert target.read_text() == "first"


def test_who_comes_second_leaves_the_name_to_the_first(target: Path) -> None:
    for content in ("first", "second"):
        made = target.with_name(content)
        made.write_text(content)
        name_first(made, target)

    assert target.read_text() == "first"
