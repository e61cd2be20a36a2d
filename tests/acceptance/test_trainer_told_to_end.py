"""A trainer that is told to end: by a signal or a directive, whatever it does just then."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.callback_server import until
from tests.launcher import SLOW, Launcher, ended

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]


async def test_without_a_service_sigterm_still_saves_and_ends_within_its_grace(
    launcher: Launcher,
) -> None:
    launcher.add_shapes()
    server = launcher.server

    process = await launcher.launch(EPOCHS="500", GRACE_SECONDS="12")
    await until(lambda: server.events("epoch_end"), seconds=SLOW)
    await server.stop()
    process.terminate()

    async with asyncio.timeout(15):
        assert await process.wait() == 143, launcher.log
    assert (launcher.bucket / "checkpoints" / "job-7" / "last.pt").is_file()
    assert (launcher.bucket / "checkpoints" / "job-7" / "attempt-1" / "best.pt").is_file()
    assert server.done is None


async def test_a_cancel_directive_ends_the_training_with_a_checkpoint(launcher: Launcher) -> None:
    launcher.add_shapes()
    server = launcher.server

    scratch = launcher.folder / "scratch"
    scratch.mkdir()

    process = await launcher.launch(EPOCHS="500", WORK_DIR="", TMPDIR=str(scratch))
    await until(lambda: server.events("training_started"), seconds=SLOW)
    server.directive = "cancel"

    assert await ended(process) == 143, launcher.log
    assert [body["type"] for body in server.of_kind("event")][-1] == "checkpoint_saved"
    done = server.done
    assert done is not None
    assert (done["error"]["code"], done["error"]["retryable"]) == ("cancelled", False)
    assert server.records[-1]["kind"] == "done"
    left = [file for file in scratch.rglob("*") if file.is_file()]
    assert left == [], "neither its work nor a callback"


async def test_sigterm_is_heard_while_the_data_set_is_fetched(launcher: Launcher) -> None:
    (launcher.bucket / "datasets").mkdir(parents=True)
    with (launcher.bucket / "datasets" / "shapes.zip").open("wb") as huge:
        huge.truncate(1 << 40)  # a sparse file: more than can be copied while we look

    process = await launcher.launch()
    await until(lambda: launcher.server.events("phase_started"))
    process.terminate()

    assert await ended(process) == 143, launcher.log
    assert launcher.server.done is not None
    assert launcher.server.done["error"]["code"] == "terminated"


AT_IMPORT = """
import os, signal, sys

class Early:
    def find_spec(self, name, path=None, target=None):
        if name == "trainer.run":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Early())
"""


async def test_sigterm_is_heard_before_the_trainer_has_imported_itself(launcher: Launcher) -> None:
    (launcher.folder / "sitecustomize.py").write_text(AT_IMPORT)

    process = await launcher.launch(PYTHONPATH=str(launcher.folder))

    assert await ended(process) == 143, launcher.log
    assert launcher.server.done is not None
    assert launcher.server.done["error"]["code"] == "terminated"


async def test_a_directive_to_stop_ends_it_without_a_last_word(launcher: Launcher) -> None:
    launcher.add_shapes()
    launcher.server.directive = "stop"

    process = await launcher.launch()

    assert await ended(process) == 143, launcher.log
    assert launcher.server.done is None


NO_STAMPER = """
import os, signal
from trainer import logs

start = logs.start

def start_and_kill(*args):
    stamper = start(*args)
    os.kill(stamper, signal.SIGKILL)
    os.waitid(os.P_PID, stamper, os.WEXITED | os.WNOWAIT)
    return stamper

logs.start = start_and_kill
"""


async def test_a_trainer_whose_log_is_gone_still_ends(launcher: Launcher) -> None:
    launcher.add_shapes()
    launcher.server.directive = "stop"
    (launcher.folder / "sitecustomize.py").write_text(NO_STAMPER)

    process = await launcher.launch(PYTHONPATH=f"{launcher.folder}:{Path(__file__).parents[2]}")

    async with asyncio.timeout(60):
        assert await process.wait() == 143, launcher.log
