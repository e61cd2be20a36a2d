"""The commands about incident bundles: export one, check one, load one."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from service.bundle import VIEWER
from service.figures import plural, size
from service.page import open_console, print_json
from service.reaching import reach
from service.running import DONE, CommandError, complain
from service.settings import Settings
from service.unpacking import Held, Unpacking

TO_STDOUT = "-"
NAMED = 5

Take = Callable[[bytes, int], None]


async def export(
    settings: Settings,
    console: Console,
    *,
    job_id: int,
    output: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Write a job's incident bundle to a file, which appears once it is whole and checked."""
    if output == TO_STDOUT:
        await _download(settings, job_id, sys.stdout.buffer)
        return DONE
    path = _free(Path(output or f"epochlog-job-{job_id}.zip"), force=force)
    told = {"file": str(path), **await _fetch(settings, job_id, path)}
    _warn(told)
    if as_json:
        print_json(told)
    else:
        what = f"{_named(told)}, {size(told['bytes'])}"
        console.print(f"{path}: {what}; {VIEWER} in it opens in any browser.", soft_wrap=True)
    return DONE


async def _fetch(settings: Settings, job_id: int, path: Path) -> dict[str, Any]:
    """Download a bundle beside the path, check it, and only then give it the name."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with _one_sentence(path):
        try:
            with aside.open("wb") as file:
                await _download(settings, job_id, file)
            told = _summary(aside, await asyncio.to_thread(_checked, aside))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    return told


async def import_bundle(
    settings: Settings, console: Console, *, path: Path, only_check: bool, as_json: bool
) -> int:
    """Load a bundle into the state folder's empty log, or only check it."""
    # What starts a database takes long to import, and the other commands need none.
    from service.importing import import_bundle as load  # noqa: PLC0415
    from service.logs import configure_logs  # noqa: PLC0415

    configure_logs("CRITICAL")
    held = await (asyncio.to_thread(_checked, path) if only_check else load(settings, path))
    told = _summary(path, held)
    if as_json:
        print_json({"file": str(path), "imported": not only_check, **told})
        return DONE
    number, what = told["job_id"], _named(told)
    if only_check:
        line = f"{path} is whole: {what}; every file and every event has the hash that it should."
    else:
        line = (
            f"{settings.state_dir} holds {what} now, with the positions and hashes of the log that"
            f" they come from; `epochlog explain {number}` or `epochlog serve` shows them."
        )
    console.print(line, soft_wrap=True)
    return DONE


def _free(path: Path, *, force: bool) -> Path:
    """Return the path if a file may be written there."""
    if path.is_dir():
        raise CommandError(f"{path} is a folder; -o needs the name of a file.")
    if path.exists() and not force:
        raise CommandError(f"{path} exists already; --force overwrites it.")
    return path


async def _download(settings: Settings, job_id: int, file: IO[bytes]) -> None:
    with _progress() as took:

        def take(chunk: bytes, total: int) -> None:
            with _one_sentence(getattr(file, "name", "the output")):
                file.write(chunk)
            took(chunk, total)

        async with reach(settings, reading=True) as service:
            await service.client.export(job_id, take)
    file.flush()


@contextmanager
def _progress() -> Iterator[Take]:
    """Show on a terminal how much has come, and leave nothing behind."""
    console = open_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("gathering …", total=None)

        def took(chunk: bytes, total: int) -> None:
            progress.update(task, description="writing …", total=total or None, advance=len(chunk))

        yield took


@contextmanager
def _one_sentence(what: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{what} cannot be written: {error.strerror}.") from error


def _named(told: dict[str, Any]) -> str:
    return f"job {told['job_id']} ({told['status']}), {plural(told['events'], 'event')}"


def _checked(path: Path) -> Held:
    with Unpacking(path) as bundle:
        return bundle.check()


def _summary(path: Path, held: Held) -> dict[str, Any]:
    manifest = held.manifest
    return {
        "bytes": path.stat().st_size,
        "job_id": manifest.job_id,
        "status": held.state.status.value,
        "events": held.events,
        "head": manifest.head.model_dump(),
        "log_id": manifest.log_id,
        "exported_at": manifest.exported_at,
        "product_version": manifest.product_version,
        "possible_secrets": manifest.possible_secrets,
        "redacted": manifest.redacted,
    }


def _warn(told: dict[str, Any]) -> None:
    """Say on stderr what may be too much to pass on."""
    if found := told["possible_secrets"]:
        named = ", ".join(map(str, found[:NAMED])) + (" …" if len(found) > NAMED else "")
        complain(
            f"Warning: {plural(len(found), 'event')} may hold a secret (position {named}). Events"
            " stay as they were recorded, for their hashes cover them: look before you pass it on."
        )
