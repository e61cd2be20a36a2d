"""The S3 server of our own: whom it answers, and that it is gone when nobody wants it any more."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import leash
from service.bucket import Bucket
from service.object_store import AccessKeys, ObjectStoreError
from service.s3_server import S3Server, S3ServerError, s3_server
from tests.polling import eventually
from tests.processes import living_in

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

STARTER = """
import sys, time
from pathlib import Path
from service.s3_server import s3_server

with s3_server({"storage": Path(sys.argv[1])}, log=Path(sys.argv[1]).with_name("s3.log")) as server:
    print(server.url, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder behind a bucket, whose name is no easy one."""
    made = Path(tempfile.mkdtemp(prefix="epochlog-tests-"), 'a "bucket", of ours')
    made.mkdir()
    yield made
    shutil.rmtree(made.parent)


def bucket_of(server: S3Server, keys: AccessKeys | None = None) -> Bucket:
    return Bucket("storage", "", server.url, keys or server.keys)


async def test_what_is_sent_to_the_bucket_is_a_file_of_the_folder(
    folder: Path, tmp_path: Path
) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(b"weights")
    with s3_server({"storage": folder}, log=tmp_path / "s3.log") as server:
        await bucket_of(server).put("checkpoints/job-1/best.pt", sent)

        assert (folder / "checkpoints" / "job-1" / "best.pt").read_bytes() == b"weights"
        assert await bucket_of(server).sizes("") == {"checkpoints/job-1/best.pt": 7}
    assert not living_in(folder.parent)


async def test_it_answers_only_who_has_its_keys_and_shows_them_to_nobody(
    folder: Path, tmp_path: Path
) -> None:
    with s3_server({"storage": folder}, log=tmp_path / "s3.log") as server:
        for keys in (
            AccessKeys(server.keys.key_id, "another-secret"),
            AccessKeys("another-key", server.keys.secret),
        ):
            with pytest.raises(ObjectStoreError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
                await bucket_of(server, keys).sizes("")
        shown = [word for process in living_in(folder.parent) for word in process.cmdline()]
        assert "rclone" in " ".join(shown)
        assert not [word for word in shown if server.keys.secret in word]
        assert (tmp_path / "s3.log").stat().st_mode & 0o077 == 0
        assert server.keys.secret not in (tmp_path / "s3.log").read_text()


def test_a_terminals_signals_are_not_meant_for_it(folder: Path, tmp_path: Path) -> None:
    with s3_server({"storage": folder}, log=tmp_path / "s3.log"):
        assert os.getsid(0) not in {os.getsid(one.pid) for one in living_in(folder.parent)}


async def test_it_ends_with_its_leash(folder: Path, tmp_path: Path) -> None:
    with s3_server({"storage": folder}, log=tmp_path / "s3.log"):
        [held] = [one for one in living_in(folder.parent) if leash.__file__ in one.cmdline()]
        held.terminate()
        await eventually(lambda: not living_in(folder.parent))


async def test_it_ends_with_a_starter_that_is_killed(folder: Path) -> None:
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(folder)), stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    assert (await starter.stdout.readline()).startswith(b"http://127.0.0.1:")
    assert len(living_in(folder.parent)) == 3  # the starter, the leash and the server
    starter.kill()
    await starter.communicate()

    await eventually(lambda: not living_in(folder.parent))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(S3ServerError, match=r"does not start: .*upstreams"),
        s3_server({}, log=tmp_path / "s3.log"),
    ):
        pass
    with (
        pytest.raises(S3ServerError, match=r"cannot start: .*No such file or directory"),
        s3_server({"storage": tmp_path}, log=tmp_path / "missing" / "s3.log"),
    ):
        pass
