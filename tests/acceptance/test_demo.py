"""`epochlog demo`, several times in one folder, as a person sees it who has just installed this."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.command_line import Ran, epochlog, started
from tests.polling import eventually
from tests.processes import end_all_of, living_in
from tests.s3 import KEY, SECRET, s3_server

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
@pytest.mark.timeout(600)
async def test_the_demo_succeeds_twice_over_s3_and_once_without_and_leaves_nothing_running(
    state: Path,
) -> None:
    environ = {"EPOCHLOG_STATE_DIR": str(state)}
    first = await _succeeds("1", environ, state)
    again = await _succeeds("2", environ, state)
    local = await _succeeds("3", {**environ, "EPOCHLOG_STORAGE_TYPE": "local"}, state)

    for over_s3 in (first, again):
        assert "Storage: an S3 server at http://127.0.0.1:" in over_s3.out
        assert "s3://storage/datasets/demo-shapes.zip" in over_s3.out
    assert "because EPOCHLOG_STORAGE_TYPE is local" in local.out
    assert "s3://" not in local.out
    # The bucket is the folder: what the first has sent, the others find.
    assert [ran.out.count("Drawing") for ran in (first, again, local)] == [1, 0, 0]
    assert await _scheme_of_artifacts("2", environ) == {"s3"}
    assert await _scheme_of_artifacts("3", environ) == {"file"}


@pytest.mark.trainer
async def test_the_demo_trains_on_a_bucket_of_ones_own(state: Path) -> None:
    bucket = state.parent / "buckets" / "ours"
    bucket.mkdir(parents=True)
    with s3_server(bucket.parent) as endpoint:
        ours = {
            "EPOCHLOG_STATE_DIR": str(state),
            "EPOCHLOG_STORAGE_TYPE": "s3",
            "EPOCHLOG_BUCKET": "ours",
            "EPOCHLOG_S3_ENDPOINT": endpoint,
            "R2_ACCESS_KEY_ID": KEY,
            "R2_SECRET_ACCESS_KEY": SECRET,
        }
        demo = await epochlog("demo", environ=ours, within=240)

    assert demo.code == 0, demo
    assert f"Storage: s3://ours at {endpoint}" in demo.out
    assert (bucket / "datasets" / "demo-shapes.zip").exists()
    assert (bucket / "checkpoints" / "job-1" / "best.pt").exists()
    assert not (state / "storage").exists()
    assert not living_in(state)


@pytest.mark.trainer
async def test_an_interrupted_demo_leaves_nothing_running(state: Path) -> None:
    environ = {"EPOCHLOG_STATE_DIR": str(state)}
    async with started("demo", environ=environ) as demo:
        assert demo.stdout is not None
        await demo.stdout.readuntil(b"The trainer starts: prepare")
        assert _of_a_server(state)
        demo.send_signal(signal.SIGINT)
        out, err = await demo.communicate()

    assert (demo.returncode, err) == (130, b"")
    assert b"Interrupted" in out
    assert not living_in(state)
    job = await epochlog("status", "1", "--json", environ=environ)
    assert job.json["status"] == "cancelled"


@pytest.mark.trainer
async def test_the_server_of_a_killed_demo_ends_with_it(state: Path) -> None:
    async with started("demo", environ={"EPOCHLOG_STATE_DIR": str(state)}) as demo:
        assert demo.stdout is not None
        await demo.stdout.readuntil(b"The trainer starts: prepare")
        assert _of_a_server(state)
        demo.kill()

    await eventually(lambda: not _of_a_server(state))


def _of_a_server(state: Path) -> list[str]:
    """Return the commands of the S3 server and its leash, as far as they live."""
    commands = []
    for process in living_in(state):
        with suppress(psutil.NoSuchProcess):
            commands.append(" ".join(process.cmdline()))
    return [command for command in commands if "serve s3" in command]


async def _succeeds(job_id: str, environ: Environ, state: Path) -> Ran:
    demo = await epochlog("demo", environ=environ, within=240)

    assert (demo.code, demo.err) == (0, ""), demo
    best = state / "storage" / "checkpoints" / f"job-{job_id}" / "best.pt"
    facts = (f"Job {job_id}", "Training starts on", "Epoch 3 complete", "The job succeeded")
    for fact in (*facts, str(best)):
        assert fact in demo.out
    assert not living_in(state)
    await _is_told_in_full(job_id, environ)
    assert best.exists()
    return demo


async def _scheme_of_artifacts(job_id: str, environ: Environ) -> set[str]:
    job = await epochlog("status", job_id, "--json", environ=environ)
    return {artifact["uri"].partition("://")[0] for artifact in job.json["artifacts"]}


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
