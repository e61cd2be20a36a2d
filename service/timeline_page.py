"""A timeline as a person reads it: each attempt with its phases and epochs, then the story."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from service.answer_schemas import (
    AttemptAnswer,
    CheckpointAnswer,
    EntryAnswer,
    EpochAnswer,
    GapAnswer,
    PhaseAnswer,
    TimelineAnswer,
)
from service.figures import clock, duration, number, offset, plural
from service.page import folded, heading, lane, plain, status_text
from service.rendering import headline, in_order

LANE = 40
STORY_INDENT = 12
_EPOCH = re.compile(r"Epoch \d+ complete( again)?")


def timeline_page(timeline: TimelineAnswer, width: int) -> Iterator[RenderableType]:
    """Show each attempt, then what happened line by line."""
    yield headline(timeline.job)
    for attempt in timeline.attempts:
        yield from _attempt(attempt, width)
    yield heading("Story")
    start = timeline.job.created_at
    for entry in timeline.entries:
        in_table = _EPOCH.fullmatch(entry.title)
        yield story_line(
            entry.model_copy(update={"detail": ""}) if in_table else entry, start, width
        )


def story_line(entry: EntryAnswer, start: datetime, width: int) -> Text:
    """Return what happened and when, counted from the job's start; long details go below."""
    after = offset((entry.at - start).total_seconds())
    line = Text.assemble(
        (f"{after:>{STORY_INDENT - 2}}  ", "dim"), (plain(entry.title), _style_of(entry))
    )
    if not entry.detail:
        return line
    if len(line) + len(entry.detail) + 2 <= width:
        return line.append(f"  {plain(entry.detail)}", "dim")
    detail = folded(entry.detail, width - STORY_INDENT - 2, STORY_INDENT + 2)
    detail.stylize("dim")
    return Text.assemble(line, "\n", " " * (STORY_INDENT + 2), detail)


def _style_of(entry: EntryAnswer) -> str:
    match entry.kind:
        case "succeeded":
            return "bold green"
        case "failed" | "attempt_failed":
            return "bold red"
        case "cancelled" | "cancel_requested":
            return "magenta"
        case "retry_scheduled" | "health_changed":
            return "yellow"
        case _:
            return "dim" if entry.title.startswith("Set aside") else ""


def _attempt(attempt: AttemptAnswer, width: int) -> Iterator[RenderableType]:
    yield _attempt_heading(attempt)
    yield from _phases(attempt.phases)
    if attempt.epochs:
        yield Text()
        yield from _epochs(attempt.epochs, width)
    if attempt.lost_epochs:
        yield _lost(attempt.lost_epochs)
    for saved in attempt.checkpoints:
        yield _checkpoint(saved)
    for gap in attempt.gaps:
        yield _gap(gap)


def _lost(epochs: Sequence[EpochAnswer]) -> Text:
    """Return which epochs a later attempt has trained again, neighbours as a stretch."""
    stretches: list[list[int]] = []
    for epoch in epochs:
        if stretches and stretches[-1][-1] == epoch.epoch - 1:
            stretches[-1][1:] = [epoch.epoch]
        else:
            stretches.append([epoch.epoch])
    told = ", ".join(" to ".join(map(str, stretch)) for stretch in stretches)
    named = "epoch" if len(epochs) == 1 else "epochs"
    return Text(f"  {named} {told}, trained again by a later attempt", style="yellow")


def _gap(gap: GapAnswer) -> Text:
    first, last = gap.after_seq + 1, gap.before_seq - 1
    missing = f"callback {first} is" if first == last else f"callbacks {first} to {last} are"
    return Text(f"  {missing} missing", style="yellow")


def _attempt_heading(attempt: AttemptAnswer) -> Text:
    total = sum(phase.seconds for phase in attempt.phases)
    line = heading(f"Attempt {attempt.attempt}  ")
    line.append_text(status_text(attempt.outcome) if attempt.outcome else Text("● goes on", "cyan"))
    line.append(f" after {duration(total)}" if attempt.outcome else f" since {duration(total)}")
    if attempt.reason:
        line.append(f" — {plain(attempt.reason.message)} ({attempt.reason.code})")
    return line


def _phases(phases: Sequence[PhaseAnswer]) -> Iterator[Text]:
    total = sum(phase.seconds for phase in phases) or 1.0
    name_width = max((len(phase.phase) for phase in phases), default=0)
    begin = 0.0
    for phase in phases:
        end = begin + phase.seconds
        drawn = lane(begin / total, end / total, LANE, "cyan" if phase.to else "yellow")
        drawn.pad_right(LANE - len(drawn))
        yield Text.assemble(
            f"  {plain(phase.phase):<{name_width}}  {duration(phase.seconds):>12}  ",
            drawn,
            (f"  {plain(phase.reason)}", "dim"),
            "" if phase.to else (", goes on", "yellow"),
        )
        begin = end


def _epochs(epochs: Sequence[EpochAnswer], width: int) -> Iterator[RenderableType]:
    names = in_order({name: None for epoch in epochs for name in epoch.metrics})
    shown = _fitting(names, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("EPOCH", "AT", "TOOK", *shown):
        table.add_column(plain(name), justify="right", no_wrap=True)
    for epoch in epochs:
        took = duration(epoch.seconds) if epoch.seconds is not None else ""
        values = (number(epoch.metrics[name]) if name in epoch.metrics else "" for name in shown)
        table.add_row(str(epoch.epoch), clock(epoch.at), took, *values)
    yield table
    if len(shown) < len(names):
        more = plural(len(names) - len(shown), "more metric")
        yield Text(f"  {more} with --json: {', '.join(names[len(shown) :])}\n", style="dim")


def _fitting(names: Sequence[str], width: int) -> list[str]:
    """Return as many metrics as a line has room for."""
    room = width - 30
    shown = []
    for name in names:
        room -= max(len(name), 10) + 3
        if room < 0:
            break
        shown.append(name)
    return shown


def _checkpoint(saved: CheckpointAnswer) -> Text:
    epoch = f"of epoch {saved.epoch}" if saved.epoch is not None else ""
    return Text.assemble(
        ("  checkpoint ", "dim"), f"{epoch:<12} {clock(saved.at)}  {plain(saved.uri or '')}"
    )
