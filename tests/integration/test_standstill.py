"""The tests' own guard: only what failed while the machine stood still is run again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import tests

WATCHED = f"""
import os, signal, sys, time
from pathlib import Path
import pytest

sys.path.insert(0, {str(Path(tests.__file__).parents[1])!r})
pytest_plugins = ["tests.standstill"]

@pytest.fixture
def stand_still(pytestconfig):
    watchman = pytestconfig.pluginmanager.get_plugin("watchman")
    def stand_still():
        os.kill(watchman.process.pid, signal.SIGSTOP)
        time.sleep(0.6)
        os.kill(watchman.process.pid, signal.SIGCONT)
    return stand_still

@pytest.fixture
def times(tmp_path_factory, request):
    file = tmp_path_factory.getbasetemp() / request.node.name
    file.write_text((file.read_text() if file.exists() else "") + "x")
    return len(file.read_text())
"""
CASES = """
def test_stood_still_once(stand_still, times):
    stand_still()
    assert times == 2

def test_stands_still_again_and_again(stand_still, times):
    stand_still()
    assert times == 3

def test_fails_after_another_that_stood_still(times):
    assert times == 2

def test_passes_though_it_stood_still(stand_still, times):
    stand_still()
    assert times == 1
"""


def test_a_failure_counts_unless_the_machine_stood_still_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(WATCHED)
    (tmp_path / "test_cases.py").write_text(CASES)

    options = ("-q", "-rAR", "-o", "asyncio_default_fixture_loop_scope=function")
    # A folder of its own: a pytest that starts shuts the common one to the database's user.
    folders = ("-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *folders],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    told = re.findall(r"^(RERUN|PASSED|FAILED) .*::test_(\w+)", run.stdout, re.MULTILINE)
    assert set(told) == {
        ("RERUN", "stood_still_once"),
        ("PASSED", "stood_still_once"),
        ("RERUN", "stands_still_again_and_again"),
        ("FAILED", "stands_still_again_and_again"),
        ("FAILED", "fails_after_another_that_stood_still"),
        ("PASSED", "passes_though_it_stood_still"),
    }, run.stdout + run.stderr
