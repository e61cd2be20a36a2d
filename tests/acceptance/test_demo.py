"""`epochlog demo`, twice in one folder, as a person sees it who has just installed this."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import epochlog, started
from tests.processes import end_all_of, living_in

Environ = dict[str, str]
EPOCHS = [1, 2, 3]


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder, and after the test nothing of it."""
    # Not pytest's own folder: each pytest that starts closes that one to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="epochlog-tests-"))
    yield folder / "state"
    end_all_of(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.trainer
async def test_the_demo_succeeds_twice_and_leaves_nothing_running(state: Path) -> None:
    environ = {"EPOCHLOG_STATE_DIR": str(state)}
    for job_id in ("1", "2"):
        demo = await epochlog("demo", environ=environ, within=240)

        assert demo.code == 0, demo
        for fact in (f"Job {job_id}", "Epoch 3 complete", "The job succeeded", "best.pt"):
            assert fact in demo.out
        assert not living_in(state)
        await _is_told_in_full(job_id, environ)
        assert (state / "storage" / "checkpoints" / f"job-{job_id}" / "best.pt").exists()
    assert not living_in(state)


@pytest.mark.trainer
async def test_an_interrupted_demo_leaves_nothing_running(state: Path) -> None:
    environ = {"EPOCHLOG_STATE_DIR": str(state)}
    async with started("demo", environ=environ) as demo:
        assert demo.stdout is not None
        await demo.stdout.readuntil(b"The trainer starts: prepare")
        demo.send_signal(signal.SIGINT)
        out, err = await demo.communicate()

    assert (demo.returncode, err) == (130, b"")
    assert b"Interrupted" in out
    assert not living_in(state)
    job = await epochlog("status", "1", "--json", environ=environ)
    assert job.json["status"] == "cancelled"


async def _is_told_in_full(job_id: str, environ: Environ) -> None:
    status = await epochlog("status", job_id, "--json", environ=environ)
    timeline = await epochlog("timeline", job_id, "--json", environ=environ)
    explain = await epochlog("explain", job_id, "--json", environ=environ)

    assert (status.json["status"], status.json["progress"]["epoch"]) == ("succeeded", 3)
    assert status.json["mlflow_run_id"]
    (attempt,) = timeline.json["attempts"]
    assert [epoch["epoch"] for epoch in attempt["epochs"]] == EPOCHS
    assert attempt["outcome"] == "succeeded"
    assert [event["type"] for event in explain.json["because"]] == ["done", "succeeded"]
