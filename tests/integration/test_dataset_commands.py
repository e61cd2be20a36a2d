"""`epochlog dataset push` and `dataset verify`, in a folder and on a real S3 server."""

from __future__ import annotations

import re
import shutil
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import Ran, epochlog, started
from tests.polling import eventually
from tests.s3 import KEY, SECRET, s3_server
from trainer.configuration import StorageKeys
from trainer.dataset import obtain_dataset, ready_dataset
from trainer.dataset_cache import DatasetCache
from trainer.inspection import inspect
from trainer.local_storage import LocalStorage
from trainer.manifest import read_manifest
from trainer.s3_storage import S3Storage
from trainer.shapes import write_shapes
from trainer.storage import Storage
from trainer.unpack import unpack

Environ = dict[str, str]
IMAGES = 8
FILES = 2 * IMAGES + 1
LINE = "7 0.5 0.5 0.2 0.2\n"
WRONG = "the class is 7, but data.yaml lists only 3 classes (0 to 2)"


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "buckets"


@pytest.fixture(scope="module")
def endpoint(buckets: Path) -> Iterator[str]:
    for name in ("trainings", "closed"):  # the server looks once which there are
        (buckets / name).mkdir(parents=True)
    with s3_server(buckets) as url:
        yield url


@pytest.fixture(params=["local", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, buckets: Path) -> Path:
    """The folder in which the storage's objects really lie."""
    if request.param == "local":
        return tmp_path / "state" / "storage"
    return buckets / "trainings"


@pytest.fixture
def environ(request: pytest.FixtureRequest, bucket: Path, tmp_path: Path) -> Environ:
    """What a person's shell holds; nothing runs beside the command."""
    state = {"EPOCHLOG_STATE_DIR": str(tmp_path / "state")}
    if bucket.is_relative_to(tmp_path):
        return state
    return {
        **state,
        "EPOCHLOG_STORAGE_TYPE": "s3",
        "EPOCHLOG_BUCKET": bucket.name,
        "EPOCHLOG_S3_ENDPOINT": request.getfixturevalue("endpoint"),
        "R2_ACCESS_KEY_ID": KEY,
        "R2_SECRET_ACCESS_KEY": SECRET,
    }


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data set on this disk."""
    write_shapes(tmp_path / "shapes.zip", images=IMAGES, seed=0, size=32)
    shutil.unpack_archive(tmp_path / "shapes.zip", tmp_path / "shapes")
    return tmp_path / "shapes"


def trainers_storage(bucket: Path, environ: Environ) -> Storage:
    if "EPOCHLOG_BUCKET" not in environ:
        return LocalStorage(bucket)
    keys = StorageKeys(read=(KEY, SECRET))
    name, endpoint = environ["EPOCHLOG_BUCKET"], environ["EPOCHLOG_S3_ENDPOINT"]
    return S3Storage(bucket=name, endpoint=endpoint, keys=keys)


def length_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def said(ran: Ran) -> str:
    assert (ran.code, ran.err) == (0, ""), ran
    return ran.out


async def test_a_zip_goes_there_and_is_verified(
    environ: Environ, bucket: Path, shapes: Path, tmp_path: Path
) -> None:
    pushed = said(await epochlog("dataset", "push", str(shapes), environ=environ))

    stored = bucket / "datasets" / "shapes.zip"
    assert pushed.splitlines()[0].startswith("shapes: sent ")
    assert pushed.splitlines()[0].endswith("/datasets/shapes.zip.")
    assert pushed.splitlines()[1] == "Train on it: epochlog submit shapes yolov8n --epochs 50"
    assert unpack(stored, tmp_path / "unpacked") == FILES
    assert said(await epochlog("dataset", "verify", "shapes", environ=environ)) == (
        "whole: shapes, zip\n"
    )

    content = bytearray(stored.read_bytes())
    content[200] ^= 0xFF
    stored.write_bytes(content)
    deep = await epochlog("dataset", "verify", "shapes", "--deep", environ=environ)
    assert (deep.code, deep.err.count("\n")) == (1, 1)
    assert (
        "shapes is not whole in the storage: images/train/00000.png in it is damaged." in deep.err
    )


async def test_a_manifest_costs_what_has_changed(
    environ: Environ, bucket: Path, shapes: Path
) -> None:
    command = ("dataset", "push", str(shapes), "--id", "mine", "--as", "manifest")
    pushed = said(await epochlog(*command, environ=environ))
    assert pushed.startswith(f"mine: version 1, sent {FILES} files of {FILES}, ")

    again = await epochlog("dataset", "push", str(shapes), "--id", "mine", environ=environ)
    assert said(again).startswith("mine: nothing has changed since version 1.\n")

    (shapes / "labels/train/00000.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    changed = await epochlog(*command[:-2], "--json", environ=environ)
    assert changed.code == 0, changed
    uri = changed.json.pop("uri")
    assert uri.endswith("/datasets/mine/_manifest.json")
    assert {name: changed.json[name] for name in changed.json if name != "uri"} == {
        "dataset_id": "mine",
        "form": "manifest",
        "version": 2,
        "unchanged": False,
        "sent_files": 1,
        "sent_bytes": 18,
        "files": FILES,
        "bytes": length_of(shapes),
        "warnings": 0,
    }
    manifest = read_manifest(bucket / "datasets/mine/_manifest.json", "mine")
    assert (manifest.version, len(manifest.entries)) == (2, FILES)
    assert manifest.metadata["names"] == ["circle", "square", "triangle"]
    assert manifest.metadata["images"] == {"train": 6, "val": 2}

    storage = trainers_storage(bucket, environ)
    (shapes.parent / "work").mkdir()
    cache = DatasetCache(shapes.parent / "cache", 1_000_000)
    facts = [
        obtain_dataset(storage, "mine", folder, cache).facts
        for folder in (shapes.parent, shapes.parent / "work")
    ]
    assert [(one["version"], one["fetched_files"]) for one in facts] == [(2, FILES), (2, 0)]

    verified = await epochlog("dataset", "verify", "mine", "--deep", environ=environ)
    assert said(verified).startswith(f"whole: mine, version 2, {FILES} files, ")
    digest = next(one.sha256 for one in manifest.entries if one.bytes == 18)
    stored = bucket / f"datasets/mine/files/{digest[:2]}/{digest}"
    stored.write_text("1 0.5 0.5 0.2 0.2\n")
    deep = await epochlog("dataset", "verify", "mine", "--deep", "--json", environ=environ)
    finding = "labels/train/00000.txt: its content is not what the manifest lists"
    assert (deep.code, deep.json["findings"]) == (1, [finding])
    assert deep.err == f"epochlog: mine is not whole in the storage: {finding}.\n"
    healed = await epochlog(*command, "--all", environ=environ)
    assert said(healed).startswith(f"mine: version 2, sent {FILES} files of {FILES}, ")
    assert stored.read_text() == "0 0.5 0.5 0.2 0.2\n"


async def test_a_push_that_is_killed_leaves_the_former_version_whole(
    environ: Environ, bucket: Path, shapes: Path
) -> None:
    command = ("dataset", "push", str(shapes), "--id", "cut", "--as", "manifest", "--no-verify")
    said(await epochlog(*command, environ=environ))
    folder = bucket / "datasets/cut/files"
    for number in range(6000):
        (shapes / f"images/train/more-{number}.jpg").write_text(str(number))

    async with started(*command, environ=environ) as push:
        await eventually(lambda: len([*folder.rglob("*")]) > 2 * FILES, within=30)
        push.send_signal(signal.SIGKILL)
        assert await push.wait() == -signal.SIGKILL

    sent = len([one for one in folder.glob("*/*") if not one.name.startswith(".")])
    assert sent < FILES + 6000, "it was killed in the middle"
    verified = await epochlog("dataset", "verify", "cut", "--deep", environ=environ)
    assert said(verified).startswith(f"whole: cut, version 1, {FILES} files, ")


async def test_wrong_keys_and_a_store_that_is_away_are_one_sentence(
    buckets: Path, endpoint: str, shapes: Path, tmp_path: Path
) -> None:
    environ = {
        "EPOCHLOG_STATE_DIR": str(tmp_path / "state"),
        "EPOCHLOG_STORAGE_TYPE": "s3",
        "EPOCHLOG_BUCKET": "closed",
        "EPOCHLOG_S3_ENDPOINT": endpoint,
        "R2_ACCESS_KEY_ID": KEY,
        "R2_SECRET_ACCESS_KEY": "wrong",
    }
    for words in (("push", str(shapes)), ("verify", "shapes")):
        ran = await epochlog("dataset", *words, environ=environ)
        assert ran.failed_with("s3://closed/datasets/shapes")

    away = environ | {"EPOCHLOG_S3_ENDPOINT": "http://127.0.0.1:9"}
    ran = await epochlog("dataset", "verify", "shapes", environ=away)
    assert ran.failed_with("s3://closed/datasets/shapes")
    assert not list((buckets / "closed").iterdir())


@pytest.fixture
def local(tmp_path: Path) -> Environ:
    return {"EPOCHLOG_STATE_DIR": str(tmp_path / "state")}


async def test_what_cannot_be_trained_on_is_refused_with_its_file_and_line(
    local: Environ, shapes: Path, tmp_path: Path
) -> None:
    label = shapes / "labels/train/00000.txt"
    line = len(label.read_text().splitlines()) + 1
    label.write_text(label.read_text() + LINE)

    pushed = await epochlog("dataset", "push", str(shapes), environ=local)

    assert pushed.failed_with(
        f"labels/train/00000.txt, line {line}: {WRONG}; `epochlog dataset ver"
    )
    assert not (tmp_path / "state/storage/datasets").exists()
    verified = await epochlog("dataset", "verify", str(shapes), environ=local)
    assert (verified.code, verified.err.count("\n")) == (1, 1)
    assert verified.out.splitlines()[0] == f"error    labels/train/00000.txt, line {line}: {WRONG}"
    assert verified.out.splitlines()[-1].endswith("of 3 classes; 1 error, 0 warnings")
    told = await epochlog("dataset", "verify", str(shapes), "--json", environ=local)
    assert (told.code, told.json["passed"], told.json["errors"]) == (1, False, 1)
    assert told.json["findings"][0]["line"] == line
    unchecked = await epochlog("dataset", "push", str(shapes), "--no-verify", environ=local)
    assert said(unchecked).startswith("shapes: sent ")


async def test_a_zip_may_be_pushed_as_it_is_or_as_a_manifest(
    local: Environ, shapes: Path, tmp_path: Path
) -> None:
    archive, stored = tmp_path / "shapes.zip", tmp_path / "state/storage/datasets"
    (shapes / "labels/train/00000.txt").unlink()

    said(await epochlog("dataset", "push", str(archive), environ=local))
    assert (stored / "shapes.zip").read_bytes() == archive.read_bytes()
    told = await epochlog(
        *("dataset", "push", str(archive), "--as", "manifest", "--json"), environ=local
    )
    assert (told.json["version"], told.json["sent_files"]) == (1, FILES)
    warned = await epochlog("dataset", "push", str(shapes), environ=local)
    shows_nothing = "so it is trained on as one that shows nothing"
    assert said(warned).splitlines() == [
        f"warning  images/train/00000.png: there is no labels/train/00000.txt, {shows_nothing}",
        "shapes: version 2, sent 0 files of 16, 0 B.",
        "Train on it: epochlog submit shapes yolov8n --epochs 50",
    ]
    noted = await epochlog("dataset", "verify", "shapes", environ=local)
    assert "there is also datasets/shapes.zip, which nobody reads beside a manifest" in noted.out


async def test_a_classification_goes_there_as_a_manifest_and_comes_back(
    local: Environ, tmp_path: Path
) -> None:
    write_shapes(tmp_path / "sorted.zip", images=12, seed=0, size=32, task="classify")
    command = ("dataset", "push", str(tmp_path / "sorted.zip"), "--as", "manifest")
    pushed = said(await epochlog(*command, environ=local)).splitlines()

    assert pushed[0].startswith("sorted: version 1, sent 12 files of 12, ")
    assert pushed[1] == "Train on it: epochlog submit sorted yolov8n-cls --epochs 50"
    bucket, cache = LocalStorage(tmp_path / "state/storage"), DatasetCache(tmp_path / "cache", 0)
    fetched = obtain_dataset(bucket, "sorted", tmp_path, cache)
    assert ready_dataset(fetched.root, tmp_path / "data.yaml", "classify") == fetched.root
    assert inspect(fetched.root).as_json()["names"] == ["circle", "square", "triangle"]


async def test_the_page_shows_what_the_commands_say(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/datasets.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(root))
    lines = [
        (shapes / "labels/train/00001.txt", "1 0.5 0.5 0.2 0.2\n"),
        (shapes / "labels/train/00000.txt", "3 0.5 0.5 0.2 0.2\n"),
    ]
    blocks = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    for number, block in enumerate(blocks):
        if 1 <= number <= len(lines):
            label, line = lines[number - 1]
            label.write_text(label.read_text() + line)
        for command, told in re.findall(r"^\$ epochlog (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            ran = await epochlog(*command.split(), environ={})
            assert without_sizes(ran.out + ran.err) == without_sizes(told), command
    assert len(blocks) == 3


def without_sizes(text: str) -> str:
    """How long the pictures are depends on who compressed them."""
    return re.sub(r"\d+\.\d KiB", "some KiB", text)


async def test_every_wrong_use_is_one_sentence(
    local: Environ, shapes: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("data.yaml", "names: [a]")
    content = bytearray((tmp_path / "bad.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # as if it were encrypted
    (tmp_path / "bad.zip").write_bytes(content)
    (shapes / "more").symlink_to(shapes / "images")
    (tmp_path / "empty").mkdir()

    async def dataset(*words: str) -> Ran:
        return await epochlog("dataset", *words, environ=local)

    no_zip = ("push", str(tmp_path / "bad.zip"), "--no-verify", "--as", "manifest")
    assert (await dataset(*no_zip)).failed_with("bad.zip is not a zip that can be opened")
    assert (await dataset("push", str(shapes))).failed_with("more is a link to a folder")
    nothing = ("push", str(tmp_path / "empty"), "--no-verify")
    assert (await dataset(*nothing)).failed_with("empty holds no files")
    assert (await dataset("verify", "nobody")).failed_with("There is no data set nobody in ")
    for words in (("push", str(shapes), "--id", "a/b"), ("verify", "no/such"), ("push", "gone")):
        ran = await dataset(*words)
        assert (ran.code, ran.out) == (2, ""), ran


async def test_a_folder_named_like_ours_where_somebody_stands_is_not_run(
    local: Environ, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/__init__.py").write_text("raise SystemExit('this is not ours')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # for the command itself, which a script starts
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    verified = await epochlog("dataset", "verify", str(shapes), environ=local)

    assert said(verified).startswith(f"{shapes}: detect, images: 6 in train, 2 in val; ")
