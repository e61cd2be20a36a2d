"""Every command of the README is run, in its order, as a newcomer would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import end_all_of, free_port, living_in

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "epochlog-job-2.zip"  # where `epochlog export 2` puts it
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line
]
[LOCAL_DEMO] = re.findall(r"`(\S+ make demo)`", README)


@pytest.fixture
def state() -> Iterator[Path]:
    # Not pytest's own folder: each pytest that starts closes that one to the server's user.
    with tempfile.TemporaryDirectory(prefix="epochlog-tests-") as folder:
        BUNDLE.unlink(missing_ok=True)
        yield Path(folder) / "state"
        end_all_of(Path(folder))
        BUNDLE.unlink(missing_ok=True)


def run(command: str, state: Path) -> str:
    """Run a command of the README with the tools of this environment and a state folder of ours."""
    if command in {"make test", "make check"}:  # these run this test, and are run by CI
        command = command.replace("make", "make --dry-run")
    done = subprocess.run(
        command.replace(".venv/bin/", f"{sys.prefix}/bin/"),
        shell=True,
        cwd=ROOT,
        env={
            **os.environ,
            "VENV": sys.prefix,
            "EPOCHLOG_STATE_DIR": str(state),
            "EPOCHLOG_PORT": str(PORT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


PORT = free_port()


def test_the_readme_has_commands() -> None:
    assert "make demo" in COMMANDS
    assert any("explain" in command for command in COMMANDS)


@pytest.mark.trainer
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_does_what_it_says(state: Path) -> None:
    before = COMMANDS.index("make demo")
    submitting = next(i for i, command in enumerate(COMMANDS) if " submit " in command)
    tellings = [run(command, state) for command in COMMANDS[before:submitting]]
    assert all("succeeded" in told for told in tellings), tellings
    assert "s3://storage/" in tellings[0]
    assert living_in(state.parent) == []

    serving = shlex.split(re.findall(r"`(\S+epochlog serve)`", README)[0])
    serving[0] = serving[0].replace(".venv/bin/", f"{sys.prefix}/bin/")
    environ = {**os.environ, "EPOCHLOG_STATE_DIR": str(state), "EPOCHLOG_PORT": str(PORT)}
    with subprocess.Popen(
        serving, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as service:
        assert service.stdout is not None
        assert f":{PORT}" in service.stdout.readline()
        for command in COMMANDS[submitting:]:
            run(command, state)
        service.terminate()
        assert service.wait(timeout=60) == 0

    told = run(LOCAL_DEMO, state)
    assert "succeeded" in told, told
    assert "s3://" not in told
    assert "Drawing" not in told  # the data set that went through S3 lies in the folder
    assert living_in(state.parent) == []
