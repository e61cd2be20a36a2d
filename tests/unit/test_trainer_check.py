from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_its_libraries_the_trainer_says_what_to_install() -> None:
    """`-S` leaves the installed packages out, as on a machine that has only the service."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "trainer", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert "pip install 'epochlog[trainer]'" in done.stderr
    assert "Traceback" not in done.stderr
