"""The commands about data sets: send one to the storage, check one here or there."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.text import Text

from service.dataset_files import DatasetFilesError, LocalFile, files_of, hash_all, pack
from service.dataset_inspection import Inspected, inspect
from service.dataset_storage import PLAIN_ID, DatasetDamagedError, DatasetStorage, Pushed
from service.figures import plural, size
from service.object_store import ObjectStoreError
from service.page import open_console, plain, print_json, print_page
from service.running import DONE, FAILED, CommandError, complain
from service.settings import Settings
from service.training_storage import training_storage

Form = Literal["zip", "manifest"]
Tell = Callable[[int], None]
SHOWN = 20
# The smallest model of each task that is not the usual one.
MODELS = {
    "segment": "yolov8n-seg",
    "classify": "yolov8n-cls",
    "pose": "yolov8n-pose",
    "obb": "yolov8n-obb",
}
# What unpacking a zip raises that is damaged, encrypted or none.
BROKEN = (
    shutil.ReadError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


async def push(
    settings: Settings,
    console: Console,
    *,
    source: Path,
    dataset_id: str,
    form: Form | None,
    task: str | None,
    verified: bool,
    all_again: bool,
    as_json: bool,
) -> int:
    """Check a data set and send it to the storage."""
    inspected = await inspect(source, task) if verified else None
    if inspected is not None and not inspected.passed:
        raise CommandError(
            f"{source} cannot be trained on: {inspected.refusal()};"
            f" `epochlog dataset verify {source}` shows more, --no-verify sends it nevertheless."
        )
    with _one_sentence():
        place = DatasetStorage(training_storage(settings), dataset_id)
        async with place.objects.held():
            form = form or await _usual_form(place)
            if form == "zip":
                told = await _push_zip(place, source)
            else:
                told = await _push_manifest(place, source, inspected, all_again=all_again)
    told = {"dataset_id": dataset_id, "form": form, **told}
    told["warnings"] = inspected.answer["warnings"] if inspected else None
    if as_json:
        print_json(told)
    else:
        print_page(console, _pushed(told, inspected))
    return DONE


async def _usual_form(place: DatasetStorage) -> Form:
    """Return the form in which the data set lies there; a new one becomes a zip."""
    there = await place.objects.sizes(place.manifest_name)
    return "manifest" if place.manifest_name in there else "zip"


async def _push_zip(place: DatasetStorage, source: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="epochlog-") as scratch:
        archive = source
        if await asyncio.to_thread(source.is_dir):
            archive = Path(scratch, "dataset.zip")
            files = await asyncio.to_thread(_files, source)
            with _progress("packing", sum(file.bytes for file in files)) as tell:
                await asyncio.to_thread(pack, files, archive, tell)
        length = (await asyncio.to_thread(archive.stat)).st_size
        with _progress("sending", length) as tell:
            await place.push_zip(archive, tell)
    return {"uri": f"{place.objects.url}/{place.zip_name}", "sent_files": 1, "sent_bytes": length}


async def _push_manifest(
    place: DatasetStorage, source: Path, inspected: Inspected | None, *, all_again: bool
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="epochlog-") as scratch:
        root = await asyncio.to_thread(_unpacked, source, Path(scratch))
        files = await asyncio.to_thread(_files, root)
        total = sum(file.bytes for file in files)
        with _progress("hashing", total) as tell:
            hashed = await asyncio.to_thread(hash_all, files, tell)
        with _progress("sending", total) as tell:
            metadata = inspected.metadata if inspected else {}
            pushed = await place.push_manifest(
                hashed, metadata, datetime.now(UTC), tell, all_again=all_again
            )
    return {
        "uri": f"{place.objects.url}/{place.manifest_name}",
        **_version(pushed),
        "files": len(files),
        "bytes": total,
    }


def _version(pushed: Pushed) -> dict[str, Any]:
    return {
        "version": pushed.version,
        "unchanged": pushed.unchanged,
        "sent_files": pushed.sent_files,
        "sent_bytes": pushed.sent_bytes,
    }


def _files(root: Path) -> list[LocalFile]:
    files = files_of(root)
    if not files:
        raise CommandError(f"{root} holds no files.")
    return files


def _unpacked(source: Path, scratch: Path) -> Path:
    """Return the folder of a data set, of a zip's content too."""
    if source.is_dir():
        return source
    try:
        shutil.unpack_archive(source, scratch / "dataset", "zip")
    except BROKEN as error:
        raise CommandError(f"{source} is not a zip that can be opened.") from error
    return scratch / "dataset"


def _pushed(told: Mapping[str, Any], inspected: Inspected | None) -> Iterator[Text]:
    yield from _warnings(inspected)
    name = told["dataset_id"]
    if told.get("unchanged"):
        yield Text(f"{name}: nothing has changed since version {told['version']}.")
    elif told["form"] == "zip":
        yield Text(f"{name}: sent {size(told['sent_bytes'])} as {told['uri']}.")
    else:
        sent = f"{plural(told['sent_files'], 'file')} of {told['files']}"
        yield Text(f"{name}: version {told['version']}, sent {sent}, {size(told['sent_bytes'])}.")
    model = MODELS.get(inspected.answer["task"] if inspected else "", "yolov8n")
    yield Text(f"Train on it: epochlog submit {name} {model} --epochs 50", style="dim")


def _warnings(inspected: Inspected | None) -> Iterator[Text]:
    if inspected is None:
        return
    found = list(inspected.findings("warning"))
    for warning in found[:SHOWN]:
        yield Text.assemble(("warning", "yellow"), f"  {plain(warning)}")
    if (left := inspected.answer["warnings"] - len(found[:SHOWN])) > 0:
        yield Text(f"… and {plural(left, 'further warning')}.")


async def verify_here(
    _settings: Settings, console: Console, *, source: Path, task: str | None, as_json: bool
) -> int:
    """Check a folder or a zip on this disk."""
    inspected = await inspect(source, task)
    if as_json:
        print_json(inspected.answer)
    else:
        print_page(console, _inspected(source, inspected))
    if not inspected.passed:
        complain(f"{source} cannot be trained on: {inspected.refusal()}.")
    return DONE if inspected.passed else FAILED


def _inspected(source: Path, inspected: Inspected) -> Iterator[Text]:
    found = list(inspected.findings("error"))
    for error in found[:SHOWN]:
        yield Text.assemble(("error", "red"), f"    {plain(error)}")
    if (left := inspected.answer["errors"] - len(found[:SHOWN])) > 0:
        yield Text(f"… and {plural(left, 'further error')}.")
    yield from _warnings(inspected)
    answer = inspected.answer
    images = ", ".join(f"{count} in {name}" for name, count in answer["images"].items())
    classes = plural(len(answer["names"]), "class", "classes")
    yield Text(
        f"{source}: {answer['task'] or 'no task'}, images: {images or 'none'};"
        f" {plural(answer['objects'], 'object')} of {classes};"
        f" {plural(answer['errors'], 'error')}, {plural(answer['warnings'], 'warning')}"
    )


async def verify_there(
    settings: Settings, console: Console, *, dataset_id: str, deep: bool, as_json: bool
) -> int:
    """Check what lies in the storage under an id."""
    with _one_sentence():
        place = DatasetStorage(training_storage(settings, only_reads=True), dataset_id)
        async with place.objects.held():
            told = await _told_of(place, deep=deep)
    if as_json:
        print_json(told)
    else:
        print_page(console, _stored(told))
    if told["faults"]:
        complain(f"{dataset_id} is not whole in the storage: {told['findings'][0]}.")
    return FAILED if told["faults"] else DONE


async def _told_of(place: DatasetStorage, *, deep: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"dataset_id": place.dataset_id, "notes": []}
    try:
        manifest = await place.manifest()
    except DatasetDamagedError as error:
        return {**told, "form": "manifest", **_faults([str(error)])}
    if manifest is None:
        if not await place.has_zip():
            raise CommandError(f"There is no data set {place.dataset_id} in {place.objects.url}.")
        fault = await place.fault_of_zip(deep=deep)
        return {**told, "form": "zip", **_faults([fault] if fault else [])}
    if await place.has_zip():
        told["notes"] = [f"there is also {place.zip_name}, which nobody reads beside a manifest"]
    total = sum(file["bytes"] for file in manifest["files"])
    with _progress("reading", total) as tell:
        faults = await place.faults_of_files(manifest, tell, deep=deep)
    about = {name: manifest.get(name) for name in ("version", "created_at", "metadata")}
    counts = {"files": len(manifest["files"]), "bytes": total}
    return {**told, "form": "manifest", **about, **counts, **_faults(faults)}


def _faults(found: list[str]) -> dict[str, Any]:
    return {"whole": not found, "faults": len(found), "findings": found[:SHOWN]}


def _stored(told: Mapping[str, Any]) -> Iterator[Text]:
    for fault in told["findings"]:
        yield Text.assemble(("broken", "red"), f"  {plain(fault)}")
    for note in told["notes"]:
        yield Text.assemble(("note", "yellow"), f"  {plain(note)}")
    state = ("whole", "bold green") if told["whole"] else ("broken", "bold red")
    what = str(told["form"])
    if "version" in told:
        files = f"{plural(told['files'], 'file')}, {size(told['bytes'])}"
        what = f"version {told['version']}, {files}"
    yield Text.assemble(state, f": {told['dataset_id']}, {what}")


def is_id(name: str) -> bool:
    """Return whether a data set may be called so."""
    return PLAIN_ID.fullmatch(name) is not None


def id_for(source: Path, wanted: str | None) -> str | None:
    """Return the id to push under: the wanted one or the source's name; None for no plain name."""
    name = wanted or (source.resolve().name if source.is_dir() else source.stem)
    return name if is_id(name) else None


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except (DatasetFilesError, ObjectStoreError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"The data set cannot be read: {error}.") from error


@contextmanager
def _progress(what: str, total: int) -> Iterator[Tell]:
    """Show how far it is, where somebody looks; told after its end, it ends a thread's work."""
    console, ended = open_console(stderr=True), threading.Event()
    columns = (TextColumn(what), BarColumn(), DownloadColumn())
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(what, total=total)

        def tell(count: int) -> None:
            if ended.is_set():
                raise InterruptedError(f"{what} was interrupted")
            progress.advance(task, count)

        try:
            yield tell
        finally:
            ended.set()
