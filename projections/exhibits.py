"""What else speaks for a verdict: a failed attempt's traceback, and since when nothing advanced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from projections.events import AttemptFailed, Done, Heartbeat, Heartbeats, Record, TrainerEvent
from projections.health import Verdict
from projections.job import JobState
from projections.progress import Progress, has_moved

MOST_LINES, LONGEST_LINE = 60, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """An event that decides nothing and explains something."""

    position: int
    type: str
    why: str
    lines: Sequence[str] = ()
    """The end of a traceback."""


@dataclass(slots=True)
class Exhibits:
    """Collects what may be of use: show it a job's records in order."""

    _tracebacks: dict[int, Exhibit] = field(default_factory=dict)
    """By attempt, the last one."""
    _failures: dict[int, int] = field(default_factory=dict)
    """The attempt that failed, by the position of that decision."""
    _moved: tuple[Record, str] | None = None
    """The last event by which the current attempt advanced, or began; and where that was."""
    _moved_at: datetime | None = None
    _heard: int | None = 0
    """How many callbacks came since; None where that was within a roll-up, which does not tell."""

    def note(self, before: JobState, record: Record, after: JobState, *, counts: bool) -> None:
        """Take a record, the states around it, and whether it counted."""
        match record.event:
            case TrainerEvent(type="traceback", data=data):
                self._tracebacks[record.attempt] = _traceback(record, data, before)
            case AttemptFailed():
                self._failures[record.position] = record.attempt
            case _:
                pass
        if counts:
            self._note_move(before, record, after)

    def found(self, state: JobState, verdict: Verdict) -> list[Exhibit]:
        """Return what speaks for how the job stands."""
        failed = {self._failures[at] for at in state.decided_by if at in self._failures}
        found = [self._tracebacks[attempt] for attempt in failed if attempt in self._tracebacks]
        if verdict is Verdict.STALLED and self._moved is not None and self._moved_at is not None:
            found.append(_stall(*self._moved, self._moved_at, self._heard))
        return found

    def _note_move(self, before: JobState, record: Record, after: JobState) -> None:
        if before.attempt != after.attempt or before.running_since != after.running_since:
            self._moved, self._moved_at = (record, "the attempt began"), record.recorded_at
            self._heard = 0
        event = record.event
        if not isinstance(event, Heartbeat | Heartbeats | TrainerEvent | Done):
            return
        if has_moved(before.attempt_progress, after.attempt_progress):
            self._moved, self._moved_at = (record, where(after.attempt_progress)), after.advanced_at
            self._heard = None if isinstance(event, Heartbeats) else 0
        elif self._heard is not None:
            self._heard += event.count if isinstance(event, Heartbeats) else 1


def where(progress: Progress) -> str:
    """Return a point of a training in words."""
    if progress.batch is not None:
        of_all = f" of {progress.batches}" if progress.batches else ""
        return f"epoch {progress.epoch}, batch {progress.batch}{of_all}"
    return f"the end of epoch {progress.epoch}"


def _traceback(record: Record, data: Any, state: JobState) -> Exhibit:
    said = data.get("exception")
    exception = " ".join(said.split())[:LONGEST_LINE] if isinstance(said, str) else "no exception"
    lines = data.get("lines")
    shown = lines[-MOST_LINES:] if isinstance(lines, list | tuple) else []
    return Exhibit(
        position=record.position,
        type=record.type,
        why=f"Attempt {record.attempt} failed{_place(record, state)}: {exception}",
        lines=[line[:LONGEST_LINE] for line in shown if isinstance(line, str)],
    )


def _place(record: Record, state: JobState) -> str:
    """Return where the attempt was when it said so, as far as that is known."""
    if record.attempt != state.attempt:
        return ""
    progress = state.attempt_progress
    return f" at {where(progress)}" if progress.epoch else " before its first epoch was complete"


def _stall(last: Record, place: str, at: datetime, heard: int | None) -> Exhibit:
    although = f", although it called back {heard:,} times since" if heard and heard > 1 else ""
    return Exhibit(
        position=last.position,
        type=last.type,
        why=f"Nothing has advanced since {place}, at {_text(at)}{although}.",
    )


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
