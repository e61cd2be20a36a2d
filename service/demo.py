"""A small real model, trained end to end on this machine: every part of the service at work."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from projections.job import JobState, JobStatus
from projections.sighting import Alive
from service.answer_schemas import JobAnswer, TimelineAnswer
from service.client import Client, ClientError, read
from service.errors import SettingsError
from service.logs import configure_logs
from service.page import fact, heading, print_page
from service.running import CommandError
from service.serving import Serving, serving
from service.settings import ExecutorKind, Settings, StorageType
from service.timeline_page import timeline_page
from service.watching import INTERVAL, watch

IMAGES = 48
PICTURE = 160
# Ultralytics' defaults take hardly an optimizer step in three epochs of a few dozen images.
QUICK_LEARNING = {
    "nbs": 2,
    "warmup_epochs": 0.3,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "mosaic": 0.0,
    "cls": 2.0,
}
LABELS = {"demo": "true"}
FAREWELL = 30.0
"""Seconds that a trainer has to end by itself before it is killed."""
LAST_SECONDS = 5.0

REMEDY = "the trainer's libraries come with `pip install 'epochlog[trainer]'`"

LIVELY = {
    "EPOCHLOG_PORT": "0",
    "EPOCHLOG_HEARTBEAT_SECONDS": "1",
    "EPOCHLOG_CANCEL_GRACE": "10",
    "EPOCHLOG_RETRY_BACKOFF": "2",
    "EPOCHLOG_DONE_GRACE": "10",
}


def demo_settings(environ: Mapping[str, str]) -> Settings:
    """Return the environment's settings, fit for a demo on this machine."""
    given = {name: value for name, value in environ.items() if value.strip()}
    given |= {"EPOCHLOG_EXECUTOR": ExecutorKind.LOCAL.value, "EPOCHLOG_PUBLIC_URL": ""}
    settings = Settings.from_env({**LIVELY, **given})
    if settings.storage_type is not StorageType.LOCAL:
        raise SettingsError("EPOCHLOG_STORAGE_TYPE needs to be `local` for the demo.")
    return settings


@dataclass(slots=True)
class Interruption:
    """Ctrl-C or SIGTERM: the first unwinds the demo, another one hurries it."""

    signal: int = 0
    hurries: bool = False

    def listen(self) -> None:
        """Take both signals for the task that runs now."""
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._hear, number, task)

    def _hear(self, number: int, task: asyncio.Task[Any] | None) -> None:
        self.hurries = bool(self.signal)
        if not self.signal and task:
            self.signal = number
            task.cancel()


async def demo(console: Console, *, epochs: int, images: int) -> int:
    """Train, show the timeline and where everything lies; return the exit code."""
    interruption = Interruption()
    interruption.listen()
    try:
        return 0 if await _demo(console, epochs, images, interruption) else 1
    except asyncio.CancelledError:
        return 128 + interruption.signal


async def _demo(console: Console, epochs: int, images: int, interruption: Interruption) -> bool:
    settings = demo_settings(os.environ)
    service_log = settings.state_dir / "service.log"
    async with AsyncExitStack() as stack:
        stack.enter_context(_logging_to(service_log))
        with _doing(console, f"Starting the service on {settings.state_dir}"):
            service = await stack.enter_async_context(serving(settings))
        client = Client(lambda: service.url, service.api_token)
        await stack.enter_async_context(client)
        data_set = await _data_set(console, settings, images)
        job = await _submit(console, client, data_set, epochs)
        stack.push_async_callback(_see_off, console, service, client, job.id, interruption)
        job = await watch(client, job.id, console)
        timeline = read(TimelineAnswer, await client.timeline(job.id))
    console.print()
    print_page(console, timeline_page(timeline, console.width))
    print_page(console, _places(settings, service_log, job, console.width))
    return job.status is JobStatus.SUCCEEDED


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send what the service logs to a file, so that the screen stays the demo's."""
    with ExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            out = stack.enter_context(path.open("a"))
        except OSError as error:
            raise SettingsError(
                f"EPOCHLOG_STATE_DIR needs a folder that this user can write ({error.strerror})."
            ) from error
        with redirect_stderr(out):
            configure_logs("INFO")
            logging.basicConfig(stream=out, level=logging.WARNING)
        yield


@contextmanager
def _doing(console: Console, what: str) -> Iterator[None]:
    """Say what takes time while it does."""
    if not console.is_terminal:
        console.print(f"{what} ...", soft_wrap=True)
        yield
        return
    with console.status(f"{what} ..."):
        yield
    console.print(Text.assemble(("✓ ", "green"), what), soft_wrap=True)


async def _data_set(console: Console, settings: Settings, images: int) -> str:
    """Draw the data set unless it lies there; return its id."""
    name = "demo-shapes" if images == IMAGES else f"demo-shapes-{images}"
    target = Path(settings.bucket) / "datasets" / f"{name}.zip"
    if target.exists():
        return name
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    with _doing(console, f"Drawing {images} images of coloured shapes"):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            await _draw(aside, images)
            aside.replace(target)
        except OSError as error:
            raise CommandError(f"The data set cannot be written: {error}.") from error
        finally:
            aside.unlink(missing_ok=True)
    return name


async def _draw(target: Path, images: int) -> None:
    size = ("--images", str(images), "--size", str(PICTURE), "--seed", "0")
    drawing = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "trainer.shapes", str(target), *size),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await drawing.communicate()
    finally:
        if drawing.returncode is None:
            drawing.kill()
            await drawing.wait()
    if drawing.returncode:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise CommandError(f"The data set cannot be drawn ({last}); {REMEDY}.")


async def _submit(console: Console, client: Client, data_set: str, epochs: int) -> JobAnswer:
    await _clear_earlier(console, client)
    new = {"dataset_id": data_set, "model_name": "yolov8n", "epochs": epochs, "labels": LABELS}
    size = {"imgsz": PICTURE, "batch": 2, "params": QUICK_LEARNING, "max_retries": 1}
    job = read(JobAnswer, await client.submit(new | size))
    console.print(f"Job {job.id} trains yolov8n on {data_set} for {epochs} epochs:")
    return job


async def _clear_earlier(console: Console, client: Client) -> None:
    """Cancel what an earlier demo left behind when it was killed."""
    labels = [f"{name}={value}" for name, value in LABELS.items()]
    for status in (JobStatus.PENDING, JobStatus.QUEUED, JobStatus.RUNNING):
        page = await client.jobs(status=status, labels=labels, limit=100)
        for job in page["jobs"]:
            console.print(f"Job {job['id']} of an earlier demo is cancelled.")
            with suppress(ClientError):  # it ended just now
                await client.cancel(job["id"], "another demo starts")


async def _see_off(
    console: Console, service: Serving, client: Client, job_id: int, interruption: Interruption
) -> None:
    """Cancel the job unless it has ended, and wait until its process is gone."""
    deadline = time.monotonic() + FAREWELL
    with suppress(ClientError):  # it has ended
        await client.cancel(job_id, "the demo was interrupted")
        console.print("Interrupted: the trainer is told to end; once more kills it.")
    while True:
        job = read(JobAnswer, await client.job(job_id))
        attempt = JobState(id=job_id, attempt=job.attempt)
        seen = await service.instance.executor.observe(attempt, job.attempt, datetime.now(UTC))
        if job.status.is_final and not isinstance(seen, Alive):
            return
        if interruption.hurries or time.monotonic() > deadline:
            await _kill(service, job)
            return
        await asyncio.sleep(INTERVAL / 5)


async def _kill(service: Serving, job: JobAnswer) -> None:
    executor, deadline = service.instance.executor, time.monotonic() + LAST_SECONDS
    attempt = JobState(id=job.id, attempt=job.attempt)
    await executor.stop(attempt, job.attempt, force=True)
    while time.monotonic() < deadline:
        seen = await executor.observe(attempt, job.attempt, datetime.now(UTC))
        if not isinstance(seen, Alive):
            return
        await asyncio.sleep(INTERVAL / 5)


def _places(
    settings: Settings, service_log: Path, job: JobAnswer, width: int
) -> Iterator[RenderableType]:
    """Tell where everything lies and what to try next."""
    output = settings.state_dir / "logs" / f"job-{job.id}" / f"attempt-{job.attempt}.log"
    datasets = Path(settings.bucket) / "datasets"
    yield heading("Where everything lies")
    yield fact("database", settings.database_url or str(settings.state_dir / "postgres"), width)
    yield fact("data set", str(datasets / f"{job.dataset_id}.zip"), width)
    for artifact in job.artifacts:
        yield fact(artifact.name, artifact.uri.removeprefix("file://"), width)
    if job.mlflow_run_id:
        yield fact("MLflow", f"{settings.mlflow_tracking_uri} run {job.mlflow_run_id}", width)
    yield fact("trainer log", str(output), width)
    yield fact("service log", str(service_log), width)
    yield heading("What to try next")
    for command, what in (
        (f"status {job.id}", "the job: progress, metrics, health, files"),
        (f"explain {job.id}", "why it has its status: the events that decided it"),
        (f"timeline {job.id} --as-of 10", "its timeline as of the log's position 10"),
        ("serve", "the service itself, with its HTTP API"),
    ):
        yield Text.assemble(f"  {_ourselves()} {command:<24}", (what, "dim"))


def _ourselves() -> str:
    """Return how this program is called from here."""
    state_dir = os.environ.get("EPOCHLOG_STATE_DIR", "").strip()
    where = f"EPOCHLOG_STATE_DIR={shlex.quote(state_dir)} " if state_dir else ""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{where}python -m service"
    known = shutil.which(program.name)
    if known and Path(known).resolve() == program.resolve():
        return where + program.name
    near = os.path.relpath(program)
    return where + shlex.quote(str(program.absolute()) if near.startswith("..") else near)
