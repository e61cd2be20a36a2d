"""One line a record, each with its trace: our records, the libraries', and native code's writes."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

from trainer.identity import timestamp

READ_SIZE = 64 * 1024
# A line without an end must not fill the memory.
LONGEST_LINE = 16 * 1024
# A data loader's worker may hold the log open for as long as we are there.
FINISH_SECONDS = 2.0
# Colours and cursor moves are for terminals; a log is read by programs.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def mark(trace_id: str) -> str:
    """Return what Loki looks for."""
    return f"[TRACE:{trace_id}]"


class Stamper:
    """Turns whatever was written into whole log lines. Pure but for the clock."""

    def __init__(self, trace_id: str) -> None:
        """Start with nothing read."""
        self._mark = mark(trace_id)
        self._rest = b""

    def feed(self, written: bytes) -> list[str]:
        """Return the lines that are complete now."""
        *lines, self._rest = (self._rest + written).split(b"\n")
        # A progress bar redraws its line: only its last state counts.
        self._rest = self._rest[max(0, self._rest.rstrip(b"\r").rfind(b"\r")) :]
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [stamped for line in lines if (stamped := self._stamp(line))]

    def end(self) -> list[str]:
        """Return what is left as a last line."""
        return self.feed(b"\n")

    def _stamp(self, line: bytes) -> str:
        frames = [CONTROL.sub("", part) for part in line.decode(errors="replace").split("\r")]
        text = next((part.rstrip() for part in reversed(frames) if part.strip()), "")
        if not text or self._mark in text:
            return text
        return f"{timestamp()} INFO {self._mark} {text}"


class LineFormatter(logging.Formatter):
    """Writes a record so that each of its lines, a traceback's too, stands for itself."""

    def __init__(self, trace_id: str) -> None:
        """Take the trace every line carries."""
        super().__init__()
        self._mark = mark(trace_id)

    def format(self, record: logging.LogRecord) -> str:
        """Return one or more whole lines."""
        moment = timestamp(datetime.fromtimestamp(record.created, UTC))
        text = CONTROL.sub("", super().format(record).replace("\r", "\n"))
        lines = [line for line in text.split("\n") if line.strip()]
        return "\n".join(f"{moment} {record.levelname} {self._mark} {line}" for line in lines)


def start(trace_id: str) -> int:
    """Send everything written from here on through a small process that stamps it.

    A process and not a thread: it outlives a crash of the trainer, and so still tells of it.
    Returns its id, for `finish`.
    """
    reader, writer = os.pipe()
    stamper = os.fork()
    if stamper == 0:
        os.close(writer)
        _stamp_forever(reader, trace_id)
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    _set_up_logging(trace_id)
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


def _set_up_logging(trace_id: str) -> None:
    # New streams: the old ones remember whether they were a file or a terminal.
    sys.stdout, sys.stderr = (_open_stream(number) for number in (1, 2))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter(trace_id))
    handler.addFilter(lambda record: bool(record.getMessage().strip()))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("alembic", "urllib3", "matplotlib", "git"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _open_stream(number: int) -> TextIO:
    return os.fdopen(
        number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _stamp_forever(reader: int, trace_id: str) -> None:
    # It ends when the last writer does, never earlier: whoever stops us stops the group.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stamper = Stamper(trace_id)
    while written := os.read(reader, READ_SIZE):
        _write(stamper.feed(written))
    _write(stamper.end())
    os._exit(0)


def _write(lines: list[str]) -> None:
    left = "".join(f"{line}\n" for line in lines).encode()
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError:
        return  # nobody reads any more; the training goes on
