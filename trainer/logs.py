"""One line a record, each with its trace: our records, the libraries', and native code's writes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import TextIO

from trainer.identity import timestamp
from trainer.log_lines import LogFormat, Origin, Record, lines_of
from trainer.stamper import RecordFormatter, Stamper

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
# A data loader's worker may hold the log open for as long as we are there.
FINISH_SECONDS = 2.0


def start(origin: Origin, log_format: LogFormat) -> int:
    """Send everything written from here on through a small process that stamps it.

    A process and not a thread: it outlives a crash of the trainer, and so still tells of it.
    Returns its id, for `finish`.
    """
    reader, writer = os.pipe()
    stamper = os.fork()
    if stamper == 0:
        os.close(writer)
        _stamp_forever(reader, Stamper(origin, log_format))
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    _set_up_logging()
    return stamper


def finish(stamper: int) -> None:
    """Let go of the log, and wait until its last line is out."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    deadline = time.monotonic() + FINISH_SECONDS
    while os.waitpid(stamper, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.005)


def complain(sentence: str, origin: Origin | None, log_format: LogFormat) -> None:
    """Say why nothing is started, before there is a stamper; with the trace, where it is known."""
    record = Record(moment=timestamp(), level="ERROR", message=sentence)
    lines = [sentence] if origin is None else lines_of(record, None, origin, log_format)
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _set_up_logging() -> None:
    # New streams: the old ones remember whether they were a file or a terminal.
    sys.stdout, sys.stderr = (_open_stream(number) for number in (1, 2))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(RecordFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    threading.excepthook = _tell_of_a_thread
    for chatty in ("alembic", "urllib3", "matplotlib", "git"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _tell_of_a_thread(ended: threading.ExceptHookArgs) -> None:
    """Make one record of what would else be printed line by line."""
    if ended.exc_type is SystemExit or ended.exc_value is None:
        return
    name = ended.thread.name if ended.thread else "without a name"
    seen = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    log.error("the thread %s ended with an error", name, exc_info=seen)


def _open_stream(number: int) -> TextIO:
    return os.fdopen(
        number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _stamp_forever(reader: int, stamper: Stamper) -> None:
    # It ends when the last writer does, never earlier: whoever stops us stops the group.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while written := os.read(reader, READ_SIZE):
        _write(stamper.feed(written))
    _write(stamper.end())
    os._exit(0)


def _write(lines: list[str]) -> None:
    left = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError:
        return  # nobody reads any more; the training goes on
