import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from service import state_folder
from service.errors import SettingsError, StateFolderInUseError
from service.state_folder import StateFolder

HOLD = """
import os, sys
from pathlib import Path
from service.state_folder import StateFolder
folder = StateFolder(Path(sys.argv[1]))
folder.acquire()
folder.announce("http://127.0.0.1:4321", os.getpid())
print("held", flush=True)
sys.stdin.read()
folder.release()
"""


@pytest.fixture(autouse=True)
def _a_short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "PATIENCE", 0.1)


@contextmanager
def another_service(path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as service:
        assert service.stdout
        assert service.stdout.readline() == "held\n"
        try:
            yield service
        finally:
            service.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_made_private_with_its_parents(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "a" / "b")

    with folder.lock():
        assert mode(folder.path) == 0o700


def test_asking_who_runs_here_makes_nothing(tmp_path: Path) -> None:
    assert StateFolder(tmp_path / "state").announced() is None
    assert not (tmp_path / "state").exists()


def test_a_second_service_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with another_service(tmp_path) as holder, pytest.raises(StateFolderInUseError) as refused:
        StateFolder(tmp_path).acquire()

    sentence = str(refused.value)
    assert str(tmp_path) in sentence
    assert f"pid {holder.pid}, http://127.0.0.1:4321" in sentence


def test_a_holder_that_does_not_listen_yet_is_named_by_its_pid(tmp_path: Path) -> None:
    who = rf"\(pid {os.getpid()}\) runs"
    with StateFolder(tmp_path).lock(), pytest.raises(StateFolderInUseError, match=who):
        StateFolder(tmp_path).acquire()


def test_a_released_folder_can_be_taken_again(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for _ in range(2):
        with folder.lock():
            pass
    folder.release()

    with StateFolder(tmp_path).lock():
        pass


def test_kill_9_frees_the_folder_and_ends_the_announcement(tmp_path: Path) -> None:
    with another_service(tmp_path) as killed:
        assert StateFolder(tmp_path).announced() == "http://127.0.0.1:4321"
        killed.kill()
        killed.wait()

    assert (tmp_path / "service.json").exists()
    assert StateFolder(tmp_path).announced() is None
    with StateFolder(tmp_path).lock():
        assert StateFolder(tmp_path).announced() is None


def test_a_child_of_the_service_does_not_inherit_the_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        folder.release()
        with StateFolder(tmp_path).lock():
            pass
        child.kill()


def test_clients_that_look_never_keep_a_service_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_folder, "PATIENCE", 10)
    stopped = threading.Event()

    def look() -> None:
        while not stopped.is_set():
            StateFolder(tmp_path).announced()

    with StateFolder(tmp_path).lock():
        StateFolder(tmp_path).announce("http://127.0.0.1:1", 1)
        left_behind = (tmp_path / "service.json").read_bytes()
    with ThreadPoolExecutor(3) as clients:
        for _ in range(3):
            clients.submit(look)
        for _ in range(20):
            (tmp_path / "service.json").write_bytes(left_behind)
            with StateFolder(tmp_path).lock():
                pass
        stopped.set()


def test_what_was_announced_can_be_withdrawn(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.lock():
        folder.announce("http://127.0.0.1:1", os.getpid())
        assert folder.announced() == "http://127.0.0.1:1"
        assert mode(tmp_path / "service.json") == 0o600
        folder.withdraw()
        folder.withdraw()
        assert folder.announced() is None


def test_a_torn_announcement_counts_as_none(tmp_path: Path) -> None:
    with StateFolder(tmp_path).lock():
        (tmp_path / "service.json").write_text('{"url": "http')
        assert StateFolder(tmp_path).announced() is None


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")

    key, token = folder.secret_key(), folder.api_token()

    assert len(key.encode()) == 64
    assert token.startswith("epl_")
    assert (StateFolder(folder.path).secret_key(), StateFolder(folder.path).api_token()) == (
        key,
        token,
    )
    assert mode(folder.path / "secret-key") == mode(folder.path / "api-token") == 0o600
    assert {path.name for path in folder.path.iterdir()} == {"secret-key", "api-token"}


def test_a_key_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    key = StateFolder(tmp_path).secret_key()
    (tmp_path / "secret-key").chmod(0o644)

    assert StateFolder(tmp_path).secret_key() == key
    assert mode(tmp_path / "secret-key") == 0o600


def test_many_first_callers_get_one_key(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return StateFolder(tmp_path).secret_key()

    with ThreadPoolExecutor(8) as callers:
        assert len(set(callers.map(ask, range(8)))) == 1


def test_a_damaged_key_is_refused_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "secret-key").touch()

    with pytest.raises(SettingsError, match=r"EPOCHLOG_STATE_DIR .*/secret-key"):
        StateFolder(tmp_path).secret_key()


@pytest.mark.parametrize("use", ["acquire", "secret_key", "api_token"])
def test_a_folder_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path, use: str) -> None:
    (tmp_path / "file").touch()
    folder = StateFolder(tmp_path / "file" / "state")

    with pytest.raises(SettingsError, match=r"^EPOCHLOG_STATE_DIR needs a folder .*/file/state "):
        getattr(folder, use)()
    assert folder.announced() is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(SettingsError, match="EPOCHLOG_STATE_DIR"):
        StateFolder(tmp_path).acquire()
