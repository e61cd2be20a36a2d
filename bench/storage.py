"""`python -m bench.storage`: what an event and a day of training take, online and archived.

A real service writes what our own trainer says, on a PostgreSQL of its own; the sizes are those of
the tables with their indexes (`pg_total_relation_size`) before and after `epochlog compact`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from projections.archives import Seal
from projections.decide import CreateJob, Report, ReportCallbacks
from projections.events import Callback, Created, Done, Heartbeat, TrainerEvent
from service.compaction import Compaction
from service.identifiers import new_event_id
from service.instance import Instance
from service.logs import configure_logs
from service.serving import serving
from service.settings import Settings
from service.storage_url import open_store

DAY = 86_400.0
START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "a made-up key of the measurement, long enough"
BATCH = 500


@dataclass(frozen=True, slots=True)
class Manner:
    """How a trainer reports: epochs of an hour, each of so many batches."""

    name: str
    batches: int
    batches_a_beat: float
    epochs: int = 24

    @property
    def beats(self) -> int:
        """How many heartbeats an epoch has."""
        return int(self.batches / self.batches_a_beat)


EVERY_30_S = Manner("a heartbeat every 30 s", batches=1_200, batches_a_beat=10)
EVERY_10_BATCHES = Manner("a heartbeat per 10 batches (every 5 s)", 7_200, 10)


def day_of(manner: Manner) -> Iterator[Report]:
    """Yield what a trainer says in a day, as ours does."""
    seq, seconds = 0, 0.0

    def said(callback: Callback) -> Report:
        nonlocal seq
        seq += 1
        at = START + timedelta(seconds=seconds, microseconds=seq)
        return Report(event=callback, event_id=new_event_id(), seq=seq, occurred_at=at)

    for epoch in range(1, manner.epochs + 1):
        for beat in range(manner.beats):
            seconds += DAY / manner.epochs / manner.beats
            yield said(_beat(manner, epoch, beat))
        metrics = {f"metrics/{name}": epoch / 100 for name in ("mAP50", "mAP50-95", "recall")}
        losses = {f"train/{name}_loss": 1 / epoch for name in ("box", "cls", "dfl")}
        data = {"epoch": epoch, "metrics": {**metrics, **losses}, "seconds": 3600.0}
        yield said(TrainerEvent(type="epoch_end", data=data))
        uri = f"s3://bucket/checkpoints/job-1/epoch-{epoch}.pt"
        saved = {"epoch": epoch, "uri": uri, "sha256": "0" * 64, "bytes": 6_000_000}
        yield said(TrainerEvent(type="checkpoint_saved", data=saved))
    yield said(Done(status="succeeded", metrics={"metrics/mAP50": 0.5}))


def _beat(manner: Manner, epoch: int, beat: int) -> Heartbeat:
    batch = int(beat * manner.batches_a_beat)
    return Heartbeat(
        epoch=epoch,
        epochs=manner.epochs,
        batch=batch,
        batches=manner.batches,
        progress=round((epoch - 1 + batch / manner.batches) / manner.epochs, 6),
        gpu={"allocated_bytes": 7_512_345_678 + beat, "reserved_bytes": 8_589_934_592},
        extra={"phase": "train"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the log takes for some whole days, in bytes."""

    days: int
    events: int
    left: int
    log: int
    ids: int
    slim_log: int
    slim_ids: int
    others: int
    archived: int
    content: int
    seconds: float


async def measure(manner: Manner, days: int, folder: Path) -> Sizes:
    """Write so many days, compact them, and return what they take."""
    settings = Settings.from_env(
        {
            "EPOCHLOG_STATE_DIR": str(folder),
            "EPOCHLOG_SECRET_KEY": KEY,
            "EPOCHLOG_PORT": "0",
            "EPOCHLOG_EXECUTOR": "external",
            "EPOCHLOG_ANCHOR_SECONDS": "0",
            "EPOCHLOG_PARTITION_EVENTS": str(days * (manner.epochs * (manner.beats + 2) + 3)),
        }
    )
    async with serving(settings) as service:
        instance = service.instance
        for _ in range(days):
            await _write_day(instance, manner)
        await _write_day(instance, manner)  # so that the range before it is complete
        connection = await asyncpg.connect(_url(folder))
        try:
            return await _sizes(instance, connection, days)
        finally:
            await connection.close()


async def _write_day(instance: Instance, manner: Manner) -> None:
    created = Created(
        dataset_id="coco-2026", model_name="yolo11m", epochs=manner.epochs, labels={"team": "a"}
    )
    job = (await instance.log.handle(None, CreateJob(created=created))).state.id
    reports = list(day_of(manner))
    for first in range(0, len(reports), BATCH):
        command = ReportCallbacks(attempt=1, reports=tuple(reports[first : first + BATCH]))
        await instance.log.handle(job, command)


async def _sizes(instance: Instance, connection: Any, days: int) -> Sizes:
    before = await _tables(connection)
    events, ids = await _counts(connection)
    compaction = Compaction(
        database=instance.database,
        objects=open_store(instance.settings.archive_url),
        seal=Seal(KEY),
        token_ttl=0,
    )
    start = asyncio.get_running_loop().time()
    (done,) = [one async for one in compaction.compacted(0)]
    seconds = asyncio.get_running_loop().time() - start
    await connection.execute("vacuum full event_ids")  # what is deleted is room for what follows
    after = await _tables(connection)
    left, slim_ids = await _counts(connection)
    if done.manifest is None:
        raise RuntimeError("nothing was archived")
    return Sizes(
        days=days,
        events=events,
        left=left,
        log=before["events_from_1"],
        ids=round(before["event_ids"] * events / ids),
        slim_log=after["events_from_1"],
        slim_ids=round(after["event_ids"] * _share(slim_ids, ids - events)),
        others=after["jobs"] + after["job_spans"],
        archived=done.manifest.bytes,
        content=done.manifest.content_bytes,
        seconds=seconds,
    )


def _share(kept: int, of_others: int) -> float:
    """How much of the ids that are left belongs to the compacted range."""
    return max(kept - of_others, 0) / kept if kept else 0.0


async def _counts(connection: Any) -> tuple[int, int]:
    events = await connection.fetchval("select count(*) from events_from_1")
    return events, await connection.fetchval("select count(*) from event_ids")


async def _tables(connection: Any) -> dict[str, int]:
    names = ("events_from_1", "event_ids", "jobs", "job_spans")
    return {
        name: await connection.fetchval("select pg_total_relation_size($1::regclass)", name)
        for name in names
    }


def _url(folder: Path) -> str:
    from service.embedded import EmbeddedPostgres  # noqa: PLC0415 - only its name for the server

    return EmbeddedPostgres(folder / "postgres").url


def show(manner: Manner, sizes: Sizes) -> Table:
    """Return what was measured of one manner of reporting."""
    table = Table(title=f"{manner.name}: {sizes.events // sizes.days} events a job-day")
    for name in ("", "bytes an event", "bytes a job-day", "of that"):
        table.add_column(name, justify="left" if not name else "right")
    full = sizes.log + sizes.ids
    for name, amount in (
        ("online, as recorded: the event and its indexes", sizes.log),
        ("online, as recorded: its id", sizes.ids),
        ("online, as recorded", full),
        ("online, compacted", sizes.slim_log + sizes.slim_ids),
        ("archived: JSON lines", sizes.content),
        ("archived: packed", sizes.archived),
    ):
        a_day = amount / sizes.days
        table.add_row(name, f"{amount / sizes.events:.1f}", f"{a_day:,.0f}", f"{amount / full:.1%}")
    table.caption = (
        f"{sizes.events} events became {sizes.left} in {sizes.seconds:.1f} s"
        f" ({sizes.events / sizes.seconds:,.0f} events/s). The job's own rows stay:"
        f" {sizes.others / (sizes.days + 1):,.0f} bytes a job."
    )
    return table


def main(
    days: Annotated[int, typer.Option(help="Job-days of the sparser manner.", min=1)] = 60,
) -> None:
    """Measure both manners of reporting."""
    configure_logs("CRITICAL")
    console = Console(width=120)
    for manner, count in ((EVERY_30_S, days), (EVERY_10_BATCHES, max(days // 5, 1))):
        with tempfile.TemporaryDirectory(prefix="epochlog-storage-") as folder:
            sizes = asyncio.run(measure(manner, count, Path(folder)))
        console.print(show(manner, sizes))


if __name__ == "__main__":
    typer.run(main)
