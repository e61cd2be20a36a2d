"""docs/callbacks.md is walked through as a reader would, and its example is killed and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ServiceProcess

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```(sh|json|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)
EXAMPLE = ROOT / "docs" / "examples" / "train_pytorch.py"
NEXT = "\x1e"
# They differ from one run to the next; that they are numbers is enough.
COUNTED = {"position", "version"}
EPOCHS = 40


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess(EPOCHLOG_EXECUTOR="external") as process:
        (process.folder / ".epochlog").symlink_to(process.state)
        process.start()
        yield process


def walk(service: ServiceProcess) -> list[str]:
    """Run all the page's commands in one shell; what each block printed."""
    blocks = [code for language, code in BLOCKS if language == "sh"]
    script = f"printf '{NEXT}'\n".join(blocks)
    assert script.count("http://127.0.0.1:8080") == 1
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8080", service.url)],
        cwd=service.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split(NEXT)


def assert_as_shown(shown: Any, given: Any, place: str = "answer") -> None:
    """Fail unless all that is shown is there, with the value that is shown."""
    if isinstance(shown, dict):
        assert shown.keys() <= given.keys(), place
        for name, value in shown.items():
            if name in COUNTED:
                assert isinstance(given[name], int)
            else:
                assert_as_shown(value, given[name], f"{place}.{name}")
    elif isinstance(shown, list):
        assert len(shown) == len(given), place
        for number, (value, its) in enumerate(zip(shown, given, strict=True)):
            assert_as_shown(value, its, f"{place}.{number}")
    elif isinstance(shown, str) and shown.endswith("…"):
        assert given.startswith(shown.removesuffix("…")), place
    else:
        assert shown == given, place


def test_each_command_is_answered_as_shown(service: ServiceProcess) -> None:
    printed = iter(walk(service))
    answers = [next(printed) if language == "sh" else "" for language, _ in BLOCKS]

    shown = 0
    for (answer, _), (_, block) in pairwise(zip(answers, BLOCKS, strict=True)):
        if block[0] == "json":
            assert_as_shown(json.loads(block[1]), json.loads(answer))
            shown += 1
    assert shown == len([language for language, _ in BLOCKS if language == "json"])
    statuses = {job["status"] for job in service.call("GET", "/v1/jobs")["jobs"]}
    assert statuses == {"succeeded", "cancelled"}


def test_the_five_lines_succeed(service: ServiceProcess) -> None:
    (code,) = [code for language, code in BLOCKS if language == "python"]
    job = service.submit(epochs=3)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={
            **os.environ,
            "JOB_ID": str(job["id"]),
            "ATTEMPT": str(job["attempt"]),
            "TRACE_ID": job["trace_id"],
            "BACKEND_BASE_URL": service.url,
            "CALLBACK_TOKEN": job["callback_token"],
            "OUTBOX_DIR": str(service.folder / "outbox"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert service.job(job["id"])["status"] == "succeeded"
    assert epochs_of(service, job) == [[1, 2, 3]]
    assert len(code.split("\n\n")[1].splitlines()) == 5


@pytest.mark.trainer
@pytest.mark.timeout(600)
def test_the_example_is_killed_and_goes_on_where_it_was() -> None:
    command = f"{sys.executable} {EXAMPLE}"
    # So small a model is only slowed down by threads.
    with ServiceProcess(EPOCHLOG_TRAINER_COMMAND=command, OMP_NUM_THREADS="1") as service:
        service.start()
        job = service.submit(epochs=EPOCHS, model_name="circle")
        service.wait_for_trainer_event(job["id"], "checkpoint_saved", within=120)
        running = service.wait_for_event(job["id"], "running")
        os.kill(int(running["data"]["handle"].removeprefix("pid ")), signal.SIGKILL)

        job = service.wait_for(job["id"], "succeeded", "failed", "cancelled", within=180)

        assert (job["status"], job["attempt"], job["retry_count"]) == ("succeeded", 2, 1)
        first, second = epochs_of(service, job)
        assert sorted({*first, *second}) == list(range(1, EPOCHS + 1))
        assert second[0] > 1, "attempt 2 goes on where the checkpoint ends"
        assert job["progress"]["metrics"]["accuracy"] > 0.9
        (artifact,) = job["artifacts"]
        assert artifact["uri"] == job["checkpoint"]
        assert Path(artifact["uri"].removeprefix("file://")).is_file()


def epochs_of(service: ServiceProcess, job: Any) -> list[list[int]]:
    """Return the epochs that each attempt reported."""
    timeline = service.call("GET", f"/v1/jobs/{job['id']}/timeline")
    return [[item["epoch"] for item in attempt["epochs"]] for attempt in timeline["attempts"]]
