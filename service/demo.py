"""A small real model, trained end to end on this machine: every part of the service at work."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
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
from service.dataset_storage import DatasetStorage
from service.demo_storage import DemoStorage, demo_storage
from service.errors import SettingsError
from service.local import log_of_attempt
from service.logs import configure_logs
from service.object_store import ObjectStoreError
from service.page import fact, heading, print_page
from service.running import CommandError
from service.serving import Serving, serving
from service.settings import ExecutorKind, Settings
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
ON_THIS_MACHINE = {
    "EPOCHLOG_EXECUTOR": ExecutorKind.LOCAL.value,
    "EPOCHLOG_PUBLIC_URL": "",
    "EPOCHLOG_COMPACT_AFTER": "0",  # the archive may lie behind another endpoint than the demo's
}


def demo_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, fit for a demo on this machine."""
    given = {name: value for name, value in environ.items() if value.strip()}
    return {**LIVELY, **given, **ON_THIS_MACHINE}


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
    variables = demo_variables(os.environ)
    state_dir = Settings.from_env(variables).state_dir
    async with AsyncExitStack() as stack:
        stack.enter_context(_logging_to(state_dir / "service.log"))
        with _doing(console, f"Starting the service on {state_dir}"):
            storage = stack.enter_context(demo_storage(variables))
            service = await stack.enter_async_context(serving(storage.settings, keys=storage.keys))
        client = Client(lambda: service.url, service.api_token)
        await stack.enter_async_context(client)
        console.print(f"Storage: {storage.announced}.", soft_wrap=True)
        data_set = await _data_set(console, storage, images)
        job = await _submit(console, client, data_set, epochs)
        stack.push_async_callback(_see_off, console, service, client, job.id, interruption)
        job = await watch(client, job.id, console)
        timeline = read(TimelineAnswer, await client.timeline(job.id))
    console.print()
    print_page(console, timeline_page(timeline, console.width))
    print_page(console, _places(storage, job, console.width))
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


async def _data_set(console: Console, storage: DemoStorage, images: int) -> str:
    """Draw the data set and send it to the storage, unless it lies there; return its id."""
    name = "demo-shapes" if images == IMAGES else f"demo-shapes-{images}"
    place = DatasetStorage(storage.objects, name)
    try:
        async with place.objects.held():
            if not await place.has_zip():
                with _doing(console, f"Drawing {images} images of coloured shapes"):
                    await _draw_into(place, images)
    except ObjectStoreError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"The data set cannot be written: {error}.") from error
    return name


async def _draw_into(place: DatasetStorage, images: int) -> None:
    with tempfile.TemporaryDirectory(prefix="epochlog-") as folder:
        drawn = Path(folder, "drawn.zip")
        await _draw(drawn, images)
        await place.push_zip(drawn)


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


def _places(storage: DemoStorage, job: JobAnswer, width: int) -> Iterator[RenderableType]:
    """Tell where everything lies and what to try next."""
    settings = storage.settings
    yield heading("Where everything lies")
    yield fact("database", settings.database_url or str(settings.state_dir / "postgres"), width)
    yield from _objects(storage, job, width)
    if job.mlflow_run_id:
        yield fact("MLflow", f"{settings.mlflow_tracking_uri} run {job.mlflow_run_id}", width)
    output = log_of_attempt(settings.state_dir, job.id, job.attempt)
    yield fact("trainer log", str(output), width)
    yield fact("service log", str(settings.state_dir / "service.log"), width)
    yield heading("What to try next")
    for command, what in (
        (f"status {job.id}", "the job: progress, metrics, health, files"),
        (f"explain {job.id}", "why it has its status: the events that decided it"),
        (f"timeline {job.id} --as-of 10", "its timeline as of the log's position 10"),
        ("serve", "the service itself, with its HTTP API"),
    ):
        yield Text.assemble(f"  {_ourselves()} {command:<24}", (what, "dim"))


def _objects(storage: DemoStorage, job: JobAnswer, width: int) -> Iterator[RenderableType]:
    """Tell where the data set and the artifacts are: by URI, and as files of this disk."""
    yield fact("storage", storage.described, width)
    place = DatasetStorage(storage.objects, job.dataset_id)
    data_set = f"{place.objects.url}/{place.zip_name}"
    artifacts = {artifact.name: artifact.uri for artifact in job.artifacts}
    for name, uri in {"data set": data_set, **artifacts}.items():
        for label, where in zip((name, ""), storage.places(uri), strict=False):
            yield fact(label, where, width)


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
