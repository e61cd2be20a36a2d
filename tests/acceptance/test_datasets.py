"""Real trainings on a pushed data set: what a second attempt fetches, and what a bad one says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.command_line import Ran, epochlog
from tests.launcher import Launcher, ended

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

FILES = 17  # eight pictures, their labels, data.yaml
SHORT = {"EPOCHS": "1", "IMGSZ": "64"}


async def pushed(launcher: Launcher, folder: Path, *words: str) -> Ran:
    environ = {
        "EPOCHLOG_STATE_DIR": str(launcher.folder / "state"),
        "EPOCHLOG_BUCKET": str(launcher.bucket),
    }
    command = ("dataset", "push", str(folder), "--as", "manifest", "--json", *words)
    ran = await epochlog(*command, environ=environ)
    assert (ran.code, ran.err) == (0, ""), ran
    return ran


@pytest.fixture
def shapes(launcher: Launcher) -> Path:
    launcher.add_shapes(images=8)
    archive = launcher.bucket / "datasets" / "shapes.zip"
    shutil.unpack_archive(archive, launcher.folder / "shapes")
    archive.unlink()
    return launcher.folder / "shapes"


async def test_the_second_training_fetches_only_what_has_changed(
    launcher: Launcher, shapes: Path
) -> None:
    cache = {"DATASET_CACHE_DIR": str(launcher.folder / "cache")}
    server = launcher.server
    await pushed(launcher, shapes)

    assert await ended(await launcher.launch(**SHORT, **cache)) == 0, launcher.log
    with Image.open(shapes / "images/train/00000.png") as picture:
        turned = picture.rotate(180)
    turned.save(shapes / "images/train/00000.png")
    again = await pushed(launcher, shapes)
    server.records.clear()
    assert await ended(await launcher.launch(**SHORT, **cache)) == 0, launcher.log

    assert (again.json["version"], again.json["sent_files"]) == (2, 1)
    changed = (shapes / "images/train/00000.png").stat().st_size
    [fetched] = server.events("dataset_fetched")
    told = ("form", "version", "files", "fetched_files", "fetched_bytes")
    assert [fetched[name] for name in told] == ["manifest", 2, FILES, 1, changed]
    assert fetched["total_bytes"] == again.json["bytes"]
    phases = [data["phase"] for data in server.events("phase_started")]
    assert phases == ["fetch_dataset", "prepare", "train", "upload"], "nothing is unpacked"
    assert server.done is not None
    assert server.done["status"] == "succeeded"


async def test_a_bad_label_ends_the_attempt_with_its_file_and_line(
    launcher: Launcher, shapes: Path
) -> None:
    (shapes / "labels/train/00000.txt").write_text("0 0.5 0.5 0.2 0.2\n3 0.5 0.5 0.2 0.2\n")
    await pushed(launcher, shapes, "--no-verify")
    cache = {"DATASET_CACHE_BYTES": "0"}

    assert await ended(await launcher.launch(**SHORT, **cache)) == 1, launcher.log

    done = launcher.server.done
    assert done is not None
    assert done["error"] == {
        "code": "dataset_invalid",
        "message": "labels/train/00000.txt, line 2: the class is 3, "
        "but data.yaml lists only 3 classes (0 to 2).",
        "retryable": False,
    }
    launcher.server.records.clear()
    assert await ended(await launcher.launch(**SHORT, **cache, DATASET_CHECK="warn")) == 0, (
        launcher.log
    )
    [warned] = launcher.server.events("dataset_warnings")
    assert (warned["count"], warned["first"][0][:30]) == (1, "labels/train/00000.txt, line 2")
