"""What every store of archives must do, asked of a folder and of a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.bucket import AT_ONCE, PART, Bucket
from service.errors import SettingsError
from service.object_store import CHUNK, ObjectMissingError, ObjectStore, ObjectStoreError
from service.sent_file import SourceChangedError
from service.storage_url import open_store
from tests.cutting_proxy import CuttingProxy
from tests.polling import eventually
from tests.processes import free_port
from tests.s3 import CREDENTIALS, s3_server

# What the S3 library hands to aiohttp in one piece is a part of an upload, and no larger.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3") / "buckets"
    (folder / "bucket").mkdir(parents=True)
    with s3_server(folder) as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "archive"))
    set_credentials(monkeypatch)
    endpoint: str = request.getfixturevalue("endpoint")
    return open_store(f"s3://bucket/{tmp_path.name}", endpoint)


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "source"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("size", [0, 1, 20 * 1024 * 1024], ids=["empty", "a byte", "in parts"])
async def test_what_is_put_is_fetched(
    store: ObjectStore, written: Callable[[bytes], Path], tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    await store.put("log/events-1.gz", written(content))

    await store.fetch("log/events-1.gz", tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == content


async def test_a_large_file_is_never_held_in_memory(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(24 * PART)  # nothing lies on the disk
    (tmp_path / "small").touch()
    store = open_store("s3://bucket/large", endpoint)
    await store.put("small", tmp_path / "small")  # what the library loads is loaded
    tracemalloc.start()
    try:
        await store.put("large", tmp_path / "large")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert await store.sizes("") == {"small": 0, "large": 24 * PART}
    assert peak < 3 * AT_ONCE * PART


@pytest.mark.parametrize("ends", ["cut", "cancelled"])
async def test_no_part_is_left_of_what_could_not_be_put(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    set_credentials(monkeypatch)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(4 * PART)
    calls: list[str] = []
    with CuttingProxy(endpoint) as line:
        store = Bucket("bucket", ends, line.url)
        async with store.held():
            store._held.meta.events.register(
                "before-call.s3", lambda model, **_: calls.append(model.name)
            )
            line.every = PART // 2 if ends == "cut" else None
            putting = asyncio.create_task(store.put("large", tmp_path / "large"))
            if ends == "cancelled":
                await eventually(lambda: "UploadPart" in calls)
                putting.cancel()
            with pytest.raises(ObjectStoreError if ends == "cut" else asyncio.CancelledError):
                await putting

        assert calls[0] == "CreateMultipartUpload"
        assert calls[-1] == "AbortMultipartUpload"
        line.every = None
        assert await store.sizes("") == {}


async def test_a_line_that_breaks_off_is_named(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch)
    (tmp_path / "source").write_bytes(os.urandom(4 * CHUNK))
    with CuttingProxy(endpoint) as line:
        store = open_store("s3://bucket/broken", line.url)
        await store.put("name", tmp_path / "source")
        line.cuts = [CHUNK]

        with pytest.raises(ObjectStoreError, match="s3://bucket/broken/name cannot be transferred"):
            await store.fetch("name", tmp_path / "target")


async def test_what_is_put_again_takes_the_place_of_what_was_there(
    store: ObjectStore, written: Callable[[bytes], Path], tmp_path: Path
) -> None:
    await store.put("one", written(b"a longer text than the next"))
    await store.put("one", written(b"short"))
    await store.put("two", written(b"another"))

    await store.fetch("one", tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == b"short"


@pytest.mark.parametrize("size", [3, 20 * 1024 * 1024], ids=["small", "in parts"])
async def test_only_the_file_that_was_meant_takes_a_place(
    store: ObjectStore, written: Callable[[bytes], Path], tmp_path: Path, size: int
) -> None:
    before, after = os.urandom(size), os.urandom(size)
    told: list[int] = []
    meant = hashlib.sha256(before).hexdigest()
    await store.put("one", written(before), sha256=meant, tell=told.append)
    assert sum(told) == size

    with pytest.raises(SourceChangedError, match=meant):
        await store.put("one", written(after), sha256=meant)

    await store.fetch("one", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == before


async def test_what_was_never_put_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match=r"There is no .*nothing"):
        await store.fetch("nothing", tmp_path / "target")


async def test_it_says_where_it_is(store: ObjectStore, tmp_path: Path) -> None:
    assert store.url in {str(tmp_path / "archive"), f"s3://bucket/{tmp_path.name}"}


async def test_a_folder_that_cannot_be_written_is_named(
    written: Callable[[bytes], Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(ObjectStoreError, match="cannot be written"):
        await open_store(str(tmp_path / "file")).put("one", written(b"x"))


async def test_a_folder_keeps_nothing_of_what_could_not_be_put(tmp_path: Path) -> None:
    with pytest.raises(ObjectStoreError, match="cannot be written"):
        await open_store(str(tmp_path / "archive")).put("one", tmp_path / "missing")

    assert list((tmp_path / "archive").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "key", "why"),
    [
        (
            "s3://nowhere/x",
            CREDENTIALS["AWS_ACCESS_KEY_ID"],
            r"refused by the store: .* \(NoSuchBucket\)",
        ),
        ("s3://bucket/x", "a-wrong-access-key", r"\(InvalidAccessKeyId\)"),
    ],
    ids=["another bucket", "another key"],
)
async def test_a_store_that_refuses_is_named(
    endpoint: str,
    written: Callable[[bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    key: str,
    why: str,
) -> None:
    set_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)

    with pytest.raises(ObjectStoreError, match=why):
        await open_store(url, endpoint).put("one", written(b"x"))


async def test_a_store_that_is_away_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch)
    away = open_store("s3://bucket/x", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(ObjectStoreError, match=r"s3://bucket/x/one cannot be reached"):
        await away.fetch("one", tmp_path / "target")


async def test_a_store_that_never_says_100_continue_gets_its_bodies(
    written: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch)
    kept: dict[str, bytes] = {}

    async def answer(request: web.Request) -> web.Response:
        if request.method == "PUT":
            kept[request.path] = await request.read()
            return web.Response(headers={"ETag": '"1"'})
        return web.Response(body=kept[request.path])

    async def says_nothing(_request: web.Request) -> None:
        pass

    app = web.Application()
    app.router.add_route("*", "/{key:.*}", answer, expect_handler=says_nothing)
    async with TestServer(app) as server:
        store = open_store("s3://bucket/x", str(server.make_url("")))
        async with store.held(), asyncio.timeout(30):
            await store.put("held", written(b"one"))
        async with asyncio.timeout(30):
            await store.put("alone", written(b"two"))

    assert kept == {"/bucket/x/held": b"one", "/bucket/x/alone": b"two"}


def test_a_bucket_without_the_extra_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aioboto3", None)

    with pytest.raises(SettingsError, match=r"pip install 'epochlog\[s3\]'"):
        open_store("s3://bucket/x")
