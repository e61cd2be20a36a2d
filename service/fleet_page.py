"""The fleet at a moment, and what changed between two, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from projections.health import ALARMING
from projections.job import JobStatus
from service.answer_schemas import (
    CountsAnswer,
    FleetAnswer,
    FleetDiffAnswer,
    FleetJobAnswer,
    MomentAnswer,
    StandingAnswer,
)
from service.figures import ago, moment
from service.page import STYLES, bar, plain, status_text

_SHORT_BAR = 6


def fleet_page(fleet: FleetAnswer) -> Iterator[RenderableType]:
    """The counts, and one line a job; ages are those of the moment."""
    yield Text(f"The fleet at {_named(fleet.as_of)}")
    yield Text()
    yield _counts(fleet.counts)
    if not fleet.jobs:
        some = any(getattr(fleet.counts, status.value) for status in JobStatus)
        yield Text("Every job had ended." if some else "There was no job yet.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("ID", justify="right", no_wrap=True, min_width=len(str(fleet.jobs[0].id)))
    table.add_column("STATUS", overflow="fold", min_width=11)
    table.add_column("PROGRESS", no_wrap=True)
    for name, width in (("TRY", 3), ("SINCE", 8), ("CALLED", 8), ("MODEL", 7), ("DATA SET", 8)):
        table.add_column(name, overflow="fold", min_width=width)
    for job in fleet.jobs:
        table.add_row(*_row(job, fleet.as_of.time))
    yield table


def fleet_diff_page(diff: FleetDiffAnswer) -> Iterator[RenderableType]:
    """One line for each job that stood otherwise at the two moments."""
    yield Text(f"From {_named(diff.from_)} to {_named(diff.to)}")
    if not diff.jobs:
        yield Text("No job's status, attempt or health changed.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("ID", justify="right", no_wrap=True, min_width=len(str(diff.jobs[-1].id)))
    for name, width in (("WAS", 11), ("BECAME", 11), ("WHY", 20)):
        table.add_column(name, overflow="fold", min_width=width)
    for job in diff.jobs:
        was = _stand(job.from_) if job.from_ else Text("not there", "dim")
        why = f"{plain(job.to.reason.message)} ({job.to.reason.code})"
        table.add_row(str(job.id), was, _stand(job.to), why)
    yield table


def _named(then: MomentAnswer) -> str:
    time = f"{moment(then.time)}, " if then.time else ""
    return f"{time}position {then.position}"


def _counts(counts: CountsAnswer) -> Text:
    line = Text()
    for status in JobStatus:
        line.append(f"{getattr(counts, status.value)} ", "bold")
        line.append(f"{status.value}   ", STYLES.get(status, ""))
    return line


def _row(job: FleetJobAnswer, now: datetime | None) -> tuple[Text | str, ...]:
    status = status_text(job.status)
    if job.health.verdict in ALARMING:
        status.append(f" ({job.health.verdict})", STYLES[job.health.verdict])
    progress = bar(job.progress.fraction, _SHORT_BAR, STYLES.get(job.status, ""))
    progress.append(f" {job.progress.epoch}/{job.progress.epochs}")
    return (
        str(job.id),
        status,
        progress,
        str(job.attempt),
        _age(job.since, now),
        _age(job.health.alive_at, now),
        plain(job.model_name),
        plain(job.dataset_id),
    )


def _age(at: datetime | None, now: datetime | None) -> str:
    return ago(at, now) if at and now else ""


def _stand(stand: StandingAnswer) -> Text:
    text = status_text(stand.status)
    if stand.status == "running":
        text.append(f" ({stand.health.verdict})", STYLES.get(stand.health.verdict, ""))
    if stand.attempt > 1:
        text.append(f", attempt {stand.attempt}")
    return text
