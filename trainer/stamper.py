"""Turns whatever a trainer writes into whole lines of its log. Pure but for the clock."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from trainer.identity import timestamp
from trainer.levels import begins_traceback, level_named, level_of
from trainer.log_lines import CONTROL, LONGEST_LINE, LogFormat, Origin, Record, lines_of, pieces

# RFC 7464: what follows is a record of ours as JSON, and no line that just looks like one.
RECORD = b"\x1e"
# A record without an end must not fill the memory; no more may a line.
LONGEST_RECORD = 1024 * 1024


class RecordFormatter(logging.Formatter):
    """Writes a record for the stamper, which knows the epoch and the format.

    `extra={"epoch_begins": 3}` and `extra={"epoch_ends": 3}` say where an epoch begins and ends:
    in the same stream as everything else that is written, so that each line has the right one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        told = {
            "moment": timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": level_named(record.levelno),
            "logger": record.name,
            "message": record.getMessage(),
            "exception": self._exception(record) or None,
        }
        begins, ends = (getattr(record, name, None) for name in ("epoch_begins", "epoch_ends"))
        whole = {"record": told, "epoch": begins or ends, "ends": ends is not None}
        return RECORD.decode() + json.dumps(whole)

    def _exception(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        return "\n".join([*parts, record.stack_info] if record.stack_info else parts)


class Stamper:
    """Reads records of ours among whatever else is written, by libraries and native code too."""

    def __init__(self, origin: Origin, log_format: LogFormat = LogFormat.TEXT) -> None:
        """Start with nothing read, before the first epoch."""
        self._origin = origin
        self._format = log_format
        self._epoch: int | None = None
        self._in_traceback = False
        self._rest = b""

    def feed(self, written: bytes) -> list[str]:
        """Return the lines that are complete now."""
        *lines, self._rest = (self._rest + written).split(b"\n")
        # A progress bar redraws its line: only its last state counts.
        self._rest = self._rest[max(0, self._rest.rstrip(b"\r").rfind(b"\r")) :]
        if len(self._rest) > (LONGEST_RECORD if RECORD in self._rest else LONGEST_LINE):
            lines.append(self._rest)
            self._rest = b""
        return [stamped for line in lines for stamped in self._stamp(line)]

    def end(self) -> list[str]:
        """Return what is left as a last line."""
        return self.feed(b"\n")

    def _stamp(self, line: bytes) -> Iterator[str]:
        raw, *records = line.split(RECORD)
        yield from self._raw(raw)
        for record in records:
            yield from self._record(record)

    def _record(self, written: bytes) -> list[str]:
        try:
            told: dict[str, Any] = json.loads(written)
            epoch = told["epoch"] or self._epoch
            lines = lines_of(Record(**told["record"]), epoch, self._origin, self._format)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return self._raw(written)  # another process wrote into the midst of it
        self._epoch = None if told["ends"] else epoch
        return lines

    def _raw(self, line: bytes) -> list[str]:
        frames = [CONTROL.sub("", part) for part in line.decode(errors="replace").split("\r")]
        text = next((part.rstrip() for part in reversed(frames) if part.strip()), "")
        if not text:
            return []
        moment, level = timestamp(), self._level(text)
        records = [Record(moment=moment, level=level, message=piece) for piece in pieces(text)]
        return [
            line
            for record in records
            for line in lines_of(record, self._epoch, self._origin, self._format)
        ]

    def _level(self, text: str) -> str:
        """A traceback goes on to its first line that is not indented, which is its reason."""
        within = self._in_traceback
        self._in_traceback = begins_traceback(text) or (within and text[0].isspace())
        return "ERROR" if within or self._in_traceback else level_of(text)
