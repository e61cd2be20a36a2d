"""Keeps a program no longer than whoever started it: `python leash.py PROGRAM WORD…`.

The starter holds the other end of this process's input. The kernel closes it however the starter
ends, by kill -9 too, and then the program is told to end. Only the standard library is imported.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE = 5.0
"""Seconds that the program has to end by itself."""


def keep(command: Sequence[str]) -> int:
    """Run the program until it ends or our input does; return its exit code."""
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own words
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    threading.Thread(target=_end_with_starter, args=(program,), daemon=True).start()
    return program.wait()


def _end_with_starter(program: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    program.terminate()
    try:
        program.wait(GRACE)
    except subprocess.TimeoutExpired:
        program.kill()


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
