"""A job's page and the table of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from projections.health import ALARMING
from service.answer_schemas import HealthAnswer, JobAnswer, JobsAnswer
from service.figures import ago, duration, moment, number, percent, plural, size
from service.page import STYLES, bar, fact, plain, status_text

_SHORT_BAR = 6
_RESULTS = re.compile(r"map|precision|recall|accuracy|fitness|f1", re.IGNORECASE)


def job_page(job: JobAnswer, width: int, *, past: bool = False) -> Iterator[RenderableType]:
    """Everything about a job, one labelled line a fact; of the past in moments, not ages."""
    yield headline(job)
    yield Text()
    for label, value in _facts(job, None if past else datetime.now(UTC)):
        yield fact(label, value, width)


def headline(job: JobAnswer) -> Text:
    """Return a job's status and why, in one line."""
    why = f" — {plain(job.reason.message)} ({job.reason.code})" if job.reason.code else ""
    return Text.assemble((f"Job {job.id}  ", "bold"), status_text(job.status), (why, ""))


def health_line(health: HealthAnswer, now: datetime | None) -> Text:
    """Return the verdict and its three clocks: as ages, or without `now` as moments."""
    clocks = (
        ("last callback", health.alive_at),
        ("last progress", health.advanced_at),
        ("last seen", health.reachable_at),
    )
    told = ", ".join(f"{name} {ago(at, now) if now else moment(at)}" for name, at in clocks if at)
    verdict = health.verdict.replace("_", " ")
    return Text.assemble((verdict, STYLES.get(health.verdict, "")), f"; {told}" if told else "")


def metrics_line(metrics: Mapping[str, float], room: int | None = None) -> str:
    """Return metrics as `name value` pairs, the telling ones first; without end or to fit."""
    pairs = [f"{plain(name)} {number(metrics[name])}" for name in in_order(metrics)]
    while room and len(", ".join(pairs)) > room and len(pairs) > 1:
        pairs.pop()
    return ", ".join(pairs)


def in_order(names: Iterable[str]) -> list[str]:
    """Return metrics' names: results first, then losses, learning rates last."""
    return sorted(names, key=_rank)


def _rank(name: str) -> int:
    if _RESULTS.search(name):
        return 0
    if name.startswith("lr"):
        return 4
    if "loss" not in name:
        return 3
    return 2 if name.startswith("val") else 1


def jobs_table(page: JobsAnswer) -> Iterator[RenderableType]:
    """One line a job, newest first."""
    if not page.jobs:
        yield Text("There is no such job.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("ID", justify="right", no_wrap=True, min_width=len(str(page.jobs[0].id)))
    table.add_column("STATUS", overflow="fold", min_width=11)
    table.add_column("PROGRESS", no_wrap=True)
    for name, width in (("TRY", 3), ("CREATED", 8), ("MODEL", 7), ("DATA SET", 8), ("LABELS", 6)):
        table.add_column(name, overflow="fold", min_width=width)
    now = datetime.now(UTC)
    for job in page.jobs:
        table.add_row(*_row(job, now))
    yield table
    if page.next_cursor:
        yield Text("There are more: --limit N or --all shows them.", style="dim")


def _row(job: JobAnswer, now: datetime) -> tuple[Text | str, ...]:
    status = status_text(job.status)
    if job.health.verdict in ALARMING:
        status.append(f" ({job.health.verdict})", STYLES[job.health.verdict])
    elif job.status == "failed":
        status.append(f" ({job.reason.code})", "red")
    progress = bar(job.progress.fraction, _SHORT_BAR, STYLES.get(job.status, ""))
    progress.append(f" {job.progress.epoch}/{job.epochs}")
    return (
        str(job.id),
        status,
        progress,
        str(job.attempt),
        ago(job.created_at, now),
        plain(job.model_name),
        plain(job.dataset_id),
        plain(_pairs(job.labels)),
    )


def _facts(job: JobAnswer, now: datetime | None) -> Iterator[tuple[str, str | Text]]:
    yield "training", _training(job)
    yield "progress", _progress(job)
    if job.progress.metrics:
        yield "metrics", metrics_line(job.progress.metrics)
    yield "attempt", _attempt(job)
    if job.cluster:
        yield "cluster", job.cluster
    yield "health", health_line(job.health, now)
    yield from _times(job, now)
    if job.params:
        yield "params", _pairs(job.params)
    if job.labels:
        yield "labels", _pairs(job.labels)
    if job.mlflow_run_id:
        yield "MLflow run", job.mlflow_run_id
    for artifact in job.artifacts:
        weight = f" ({size(artifact.bytes)})" if artifact.bytes is not None else ""
        yield "artifact", f"{artifact.name}{weight}  {artifact.uri}"
    if job.checkpoint:
        yield "checkpoint", job.checkpoint
    yield "trace", job.trace_id
    yield "log", f"version {job.version}, position {job.position}"


def _training(job: JobAnswer) -> str:
    sizes = (f", {job.imgsz} px" if job.imgsz else "", f", batch {job.batch}" if job.batch else "")
    return f"{job.model_name} on {job.dataset_id}, {plural(job.epochs, 'epoch')}{''.join(sizes)}"


def _progress(job: JobAnswer) -> Text:
    progress = job.progress
    line = bar(progress.fraction, style=STYLES.get(job.status, ""))
    line.append(f"  {percent(progress.fraction)}, epoch {progress.epoch} of {job.epochs}")
    if progress.batch is not None:
        line.append(f", batch {progress.batch}")
        line.append(f" of {progress.batches}" if progress.batches else "")
    return line


def _attempt(job: JobAnswer) -> str:
    asked = "; a cancel was requested" if job.cancel_requested else ""
    return (
        f"{job.attempt}; {job.retry_count} of {plural(job.max_retries, 'retry', 'retries')} used,"
        f" {plural(job.interruptions, 'interruption')}{asked}"
    )


def _times(job: JobAnswer, now: datetime | None) -> Iterator[tuple[str, str]]:
    age = f", {ago(job.created_at, now)}" if now else ""
    yield "created", f"{moment(job.created_at)}{age}"
    steps = (
        ("queued", job.queued_at, job.created_at),
        ("started", job.started_at, job.queued_at),
        ("completed", job.completed_at, job.started_at),
    )
    for name, at, before in steps:
        if at:
            after = f", {duration((at - before).total_seconds())} later" if before else ""
            yield name, f"{moment(at)}{after}"


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
