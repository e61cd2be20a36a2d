"""A trainer that is asked to end while its main thread cannot listen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.stop import Stop

DEEP = """
import hashlib, os
from trainer.stop import Stop

def leave():
    os.write(1, b"left\\n")
    os._exit(143)

stop = Stop(1.0)
stop.listen(leave)
{hold}
os.write(1, b"deep\\n")
# As in a driver or a dead mount: no line of Python runs here until this returns.
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""

SAVING = """
import os, signal
from trainer.stop import Stop

stop = Stop(60.0)
stop.hold()
stop.listen(lambda: os._exit(1))
for _ in range(3):
    signal.raise_signal(signal.SIGTERM)
signal.raise_signal(signal.SIGINT)
os.write(1, b"saved\\n")
signal.raise_signal(signal.SIGINT)
os.write(1, b"lived on\\n")
"""

FORKING = """
import os, signal, time
from trainer.stop import Stop

def leave():
    os._exit(143)

stop = Stop(1.0)
stop.listen(leave)
worker = os.fork()
if worker == 0:
    os.write(1, b"worker\\n")
    signal.pause()
signal.signal(signal.SIGCHLD, lambda *_: None)
os.read(0, 1)  # it is working
os.kill(worker, signal.SIGTERM)
status = os.waitpid(worker, 0)[1]
time.sleep(0.3)  # what would be heard would be heard by now
os.write(1, b"%d %d\\n" % (os.WEXITSTATUS(status), stop.wanted))
os._exit(0)
"""


def started(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
    )


@pytest.mark.parametrize("hold", ["", "stop.hold()"], ids=["nothing to keep", "weights to keep"])
def test_a_signal_is_heard_while_the_main_thread_is_deep_in_a_library(hold: str) -> None:
    with started(DEEP.format(hold=hold)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "deep\n"
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "left\n" in process.stdout.read()
    assert code == 143


def test_a_repeated_sigterm_changes_nothing_but_a_second_ctrl_c_ends_it_at_once() -> None:
    # A service that is started again, or a kubelet, does not know what was sent before.
    with started(SAVING) as process:
        told, _ = process.communicate(timeout=20)
    assert told.splitlines()[-1] == "saved"
    assert process.returncode == 143


def test_a_signal_to_a_worker_ends_the_worker_alone() -> None:
    with started(FORKING) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "worker\n"
        process.stdin.write("!")
        process.stdin.flush()
        assert process.stdout.readline() == "143 0\n"
    assert process.returncode == 0


def test_an_event_loops_own_wakeups_stay_its_own() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    stop = Stop()
    try:
        stop.listen(lambda: os._exit(1))
        assert signal.set_wakeup_fd(writer) == writer
        stop.close()
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
