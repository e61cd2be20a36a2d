"""A job as it goes on: its story line by line, above a live bar where there is a terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from projections.events import Heartbeat, Record, Source, TrainerEvent, decode
from projections.health import ALARMING
from projections.progress import completed_epoch
from projections.titles import detail_of, title_of
from service.answer_schemas import EntryAnswer, EventAnswer, JobAnswer
from service.client import Client, ClientError, Json, read
from service.figures import duration, percent, plural
from service.page import STYLES, plain, print_page
from service.rendering import metrics_line
from service.timeline_page import STORY_INDENT, story_line

INTERVAL = 0.5
PATIENCE = 120.0
"""Seconds for which a service that does not answer is asked again."""

RECENT = 40
"""So many events of before are told; of the others only how many they are."""

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """A job at one look, and the events since the last one."""

    job: JobAnswer
    records: list[Record]


async def watch(client: Client, job_id: int, console: Console) -> JobAnswer:
    """Show a job until it is final, and return it then; raises ClientError."""
    with _Display(console) as display:
        async for step in follow(client, job_id, display.notice):
            display.show(step)
    return step.job


async def follow(client: Client, job_id: int, notice: Notice) -> AsyncIterator[Step]:
    """Yield a job with its new events, again and again until it is final."""
    after = 0
    while True:
        answer = await _patiently(lambda: client.job(job_id), notice)
        job = read(JobAnswer, answer)
        records = await _records(client, job, after, notice)
        after = records[-1].version if records else after
        yield Step(job, records)
        if job.status.is_final:
            return
        await asyncio.sleep(INTERVAL)


async def _records(client: Client, job: JobAnswer, after: int, notice: Notice) -> list[Record]:
    """Return the events up to the job's version at least."""
    records: list[Record] = []
    while after < job.version:
        page = await _patiently(lambda: client.events(job.id, after=after), notice)  # noqa: B023
        if not page["events"]:
            break
        records += [_record(event) for event in page["events"]]
        after = page["next_after"]
    return records


async def _patiently(call: Callable[[], Awaitable[Json]], notice: Notice) -> Json:
    """Call until there is an answer; say once that there is none at present."""
    began: float | None = None
    while True:
        try:
            answer = await call()
        except ClientError as error:
            if not error.may_pass:
                raise
            if began is None:
                began = time.monotonic()
                notice(f"{error} Trying again for {duration(PATIENCE)}.")
            if time.monotonic() - began > PATIENCE:
                raise
            await asyncio.sleep(INTERVAL)
        else:
            if began is not None:
                notice("The service answers again.")
            return answer


def _record(event: Any) -> Record:
    answer = read(EventAnswer, event)
    return Record(
        position=answer.position,
        job_id=answer.job_id,
        version=answer.version,
        attempt=answer.attempt,
        event_id=answer.event_id,
        source=Source(answer.source),
        trace_id=answer.trace_id,
        seq=answer.seq,
        occurred_at=answer.occurred_at,
        recorded_at=answer.recorded_at,
        event=decode(answer.type, answer.data),
        rule=answer.rule,
    )


class _Display:
    """Prints the story; on a terminal it keeps a bar below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._phase = ""
        self._told = False
        self._epochs: set[tuple[int, int]] = set()
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[how_far]}"),
                TextColumn("{task.fields[metrics]}", style="dim", markup=False),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0, how_far="", metrics="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def notice(self, sentence: str) -> None:
        self._console.print(Text(sentence, style="yellow"), soft_wrap=True)

    def show(self, step: Step) -> None:
        telling = [record for record in step.records if self._tells(record)]
        if not self._told and len(telling) > RECENT:
            before = plural(len(telling) - RECENT, "earlier event")
            self.notice(f"{before}: see `epochlog timeline {step.job.id}`.")
            telling = telling[-RECENT:]
        self._told = True
        for record in telling:
            self._note_phase(record)
            line = story_line(self._entry(record), step.job.created_at, self._console.width)
            print_page(self._console, [line])
        if self._bar:
            self._bar.update(self._task, **self._state(step.job))

    def _tells(self, record: Record) -> bool:
        """Return whether to print it: every event, and of the heartbeats what ends an epoch."""
        ended = completed_epoch(record.event)
        known = ended is None or (record.attempt, ended) in self._epochs
        if ended is not None:
            self._epochs.add((record.attempt, ended))
        return not isinstance(record.event, Heartbeat) or not known

    def _entry(self, record: Record) -> EntryAnswer:
        title = title_of(record)
        return EntryAnswer(
            at=record.recorded_at,
            position=record.position,
            kind=record.type,
            title=f"Set aside: {title}" if record.rule else title,
            detail=self._detail(record, len(title)),
        )

    def _detail(self, record: Record, used: int) -> str:
        match record.event:
            case TrainerEvent(type="epoch_end", data={"metrics": dict(metrics)}):
                room = self._console.width - STORY_INDENT - used - 2
                return metrics_line(metrics, max(room, 20))
            case _:
                return detail_of(record)

    def _note_phase(self, record: Record) -> None:
        match record.event:
            case TrainerEvent(type="phase_started", data={"phase": str(phase)}):
                self._phase = phase
            case TrainerEvent() | Heartbeat():
                pass
            case _:
                self._phase = ""

    def _state(self, job: JobAnswer) -> dict[str, Any]:
        style = STYLES.get(job.status, "")
        doing = (
            f" ({escape(plain(self._phase))})" if self._phase and job.status == "running" else ""
        )
        return {
            "completed": job.progress.fraction,
            "description": f"[bold {style}]{job.status}[/]{doing}",
            "how_far": _how_far(job),
            "metrics": metrics_line(job.progress.metrics, max(self._console.width - 90, 12)),
        }


def _how_far(job: JobAnswer) -> str:
    progress = job.progress
    parts = [percent(progress.fraction), f"epoch {progress.epoch}/{job.epochs}"]
    if progress.batch is not None:
        parts.append(f"batch {progress.batch}/{progress.batches or '?'}")
    if job.attempt > 1:
        parts.append(f"attempt {job.attempt}")
    if job.health.verdict in ALARMING:
        parts.append(f"[red]{job.health.verdict}[/]")
    if job.started_at:
        parts.append(duration((datetime.now(UTC) - job.started_at).total_seconds()))
    return ", ".join(parts)
