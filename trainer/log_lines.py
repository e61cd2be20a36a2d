"""What a line of the log looks like: text for people, JSON for programs, the same facts in both."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# What keeps a container's output cuts longer lines in pieces, and a piece is no JSON.
LONGEST_LINE = 16 * 1024
LONGEST_PIECE = LONGEST_LINE // 2
# Colours and cursor moves are for terminals; a log is read by programs.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
CUT = "…"


class LogFormat(StrEnum):
    """How each line is written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose lines they are."""

    trace_id: str
    job_id: int | None = None
    attempt: int | None = None

    @property
    def mark(self) -> str:
        """What Loki looks for."""
        return f"[TRACE:{self.trace_id}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was said once, in one line or in several."""

    moment: str
    level: str
    message: str
    logger: str | None = None
    exception: str | None = None


def lines_of(record: Record, epoch: int | None, origin: Origin, log_format: LogFormat) -> list[str]:
    """Return a record as whole lines, each with the trace; none where it says nothing."""
    if not tidy(record.message).strip() and not record.exception:
        return []
    if log_format is LogFormat.JSON:
        return [_json_line(record, epoch, origin)]
    return _text_lines(record, epoch, origin)


def tidy(text: str) -> str:
    """Return a text without colours and other control characters; its lines end with newlines."""
    return CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def pieces(line: str) -> list[str]:
    """Return a line in parts that leave room for what stands around them."""
    return [line[at : at + LONGEST_PIECE] for at in range(0, len(line), LONGEST_PIECE)]


def _text_lines(record: Record, epoch: int | None, origin: Origin) -> list[str]:
    """Write it so that each of its lines, a traceback's too, stands for itself."""
    begin = f"{record.moment} {record.level} {origin.mark} "
    if epoch is not None:
        begin += f"epoch={epoch} "
    whole = "\n".join(part for part in (record.message, record.exception) if part)
    lines = [line for line in tidy(whole).split("\n") if line.strip()]
    return [begin + piece for line in lines for piece in pieces(line)]


def _json_line(record: Record, epoch: int | None, origin: Origin) -> str:
    """Write it as one line, a traceback in it; the names are those of the service's own log."""
    told: dict[str, Any] = {
        "timestamp": record.moment,
        "level": record.level.lower(),
        "logger": record.logger,
        "trace": origin.mark,
        "trace_id": origin.trace_id,
        "job_id": origin.job_id,
        "attempt": origin.attempt,
        "epoch": epoch,
        "message": tidy(record.message),
        "exception": tidy(record.exception) if record.exception else None,
    }
    return _short_enough({name: value for name, value in told.items() if value is not None})


def _short_enough(told: dict[str, Any]) -> str:
    """Return it as JSON; where it is too long, without the middle of what is longest in it."""
    while True:
        line = _encoded(told)
        over = _size(line) - LONGEST_LINE
        longest = max(("message", "exception"), key=lambda name: _size(told.get(name, "")))
        text = told[longest]
        if over <= 0 or text == CUT:
            return line
        # Half at most, so that of two long texts something is left of both.
        less = min(over * len(text) // _size(_encoded(text)), len(text) // 2)
        told[longest] = _without_middle(text, less + len(CUT.encode()))


def _encoded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _size(text: str) -> int:
    return len(text.encode(errors="backslashreplace"))


def _without_middle(text: str, less: int) -> str:
    """How it begins says what it is, and a traceback ends with its reason."""
    half = max(0, len(text) - less) // 2
    return text[:half] + CUT + text[len(text) - half :]
