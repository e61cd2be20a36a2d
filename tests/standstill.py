"""Sees the machine stand still, and has a test that failed meanwhile run once more.

A virtual machine may be stopped for seconds: all its processes at once, while its clocks go on.
Then leases end and deadlines pass, rightly, and none of it is what a test is about. The summary
names what was run again. A test that fails while the machine runs, or a second time, has failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from math import inf

import pytest

LONGEST = 0.5
"""Seconds that a process with nothing else to do may be late; later, the machine stood still."""

# It answers each line of its input with the end of the last standstill, and ends with its input.
WATCH = f"""
import select, sys, time
stood, before = 0.0, time.monotonic()
while True:
    asked = select.select([sys.stdin], [], [], 0.05)[0]
    now = time.monotonic()
    stood = now if now - before > {LONGEST} else stood
    before = now
    if asked:
        if not sys.stdin.readline():
            break
        print(stood, flush=True)
"""


def _watching() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@dataclass(eq=False)
class Watchman:
    """A process that does nothing but look at the clock: what delays it delays everything."""

    process: subprocess.Popen[str] = field(default_factory=_watching)
    test_began: float = inf
    """When the test that runs now has begun, by the monotonic clock."""

    def saw_a_standstill(self) -> bool:
        """Whether the machine has stood still since the test began."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("?\n")
        stdin.flush()
        return float(stdout.readline()) > self.test_began

    def pytest_runtest_logstart(self) -> None:
        self.test_began = time.monotonic()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=1, condition=self.saw_a_standstill))

    def pytest_unconfigure(self) -> None:
        self.process.communicate()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watchman(), "watchman")
