"""Sees the machine stand still, and has a test that failed meanwhile run once more.

A virtual machine may be stopped for seconds, or one of its processors, while its clocks go on.
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

from tests import clock_watch

LONGEST = 0.5
"""Seconds that a process with nothing else to do may be late; later, the machine stood still."""


def _watching() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", clock_watch.__file__, str(LONGEST)],
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
