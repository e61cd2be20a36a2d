"""Brings a bundle's job into an empty log of one's own: whole and as it was, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from projections.chain import GENESIS, link
from projections.events import Heartbeats
from projections.job import JobState
from service.bundle import BundleError, Manifest
from service.embedded import EmbeddedPostgres
from service.errors import SettingsError
from service.local import log_of_attempt
from service.postgres import Database, RefusedDataError, Session, migrate
from service.records import event_columns, job_columns, record_of
from service.refolding import Refold
from service.settings import Settings
from service.state_folder import StateFolder
from service.unpacking import PAGE, Held, Unpacking
from service.writing import StoredJob, Writer, span_columns

SPARE_POSITIONS = 1_000_000


async def import_bundle(settings: Settings, path: Path) -> Held:
    """Load a bundle into the state folder's own database, which must hold no event yet.

    Raises BundleError, SettingsError, StateFolderInUseError or what the database raises.
    """
    if settings.database_url:
        raise SettingsError(
            "EPOCHLOG_DATABASE_URL needs to be unset for an import: a bundle is loaded into the"
            " database of a state folder, never into a shared one."
        )
    with Unpacking(path) as bundle:
        held = await asyncio.to_thread(bundle.check)
        with StateFolder(settings.state_dir).lock():
            async with _own_database(settings.state_dir / "postgres") as session:
                await _load(session, bundle)
            await asyncio.to_thread(_keep_logs, settings.state_dir, bundle)
    return held


@asynccontextmanager
async def _own_database(folder: Path) -> AsyncIterator[Session]:
    embedded = EmbeddedPostgres(folder)
    url = await embedded.start()
    try:
        await migrate(url)
        database = await Database.connect(url, size=1)
        try:
            async with database.working_session() as session:
                yield session
        finally:
            await database.close()
    finally:
        await embedded.stop()


async def _load(session: Session, bundle: Unpacking) -> None:
    """Write everything in one transaction, and commit only what reads back as it was."""
    refold = Refold()
    try:
        async with session.transaction():
            await _claim(session, bundle.manifest.head.position)
            for page in bundle.pages():
                refold.add(page)
                await session.run("import_events", *event_columns(page))
            [job], last = refold.jobs.values(), page[-1]
            counts = dict(refold.counts)
            await session.run("import_head", last.position, last.job_id, last.recorded_at, counts)
            columns = (*job_columns([job.state], [job.hash]), *span_columns(refold.spans))
            await session.run("append_spans", *columns)
            await _note(session, bundle.manifest, job.state)
            await _read_back(session, job)
    except RefusedDataError as error:
        said = str(error).partition("\n")[0]
        raise BundleError(f"The bundle holds what no log can hold: {said}.") from error


async def _claim(session: Session, last_position: int) -> None:
    """Keep other writers out of the log, which must be empty, and make room for the events."""
    if await session.value("lock_log_head") != 0:
        raise SettingsError(
            "EPOCHLOG_STATE_DIR needs a folder whose log is empty for an import, and this one's"
            " is not; name a new folder."
        )
    head = await Writer(session).head()
    if last_position >= head.end_position:
        missing = last_position + 1 - head.end_position
        await session.run("add_log_partition", missing + SPARE_POSITIONS)


async def _note(session: Session, manifest: Manifest, state: JobState) -> None:
    """Note that everything in the log so far comes from another one."""
    await session.run(
        "import_note",
        state.id,
        manifest.log_id,
        state.first_position,
        state.position,
        manifest.moment.model_dump(mode="json"),
    )


async def _read_back(session: Session, job: StoredJob) -> None:
    """Raise BundleError unless the events can be read as their hashes say."""
    version, previous = 0, GENESIS
    while rows := await session.rows("history_page", job.state.id, version, None, PAGE):
        for row in rows:
            record = record_of(row)
            rolled_up = isinstance(record.event, Heartbeats)
            if not rolled_up and link(record, previous) != record.hash:
                raise BundleError(
                    f"Event {record.version} of the bundle cannot be stored as its hash says."
                )
            version, previous = record.version, record.hash
    if (version, previous) != (job.state.version, job.hash):
        raise BundleError("The bundle's events cannot all be read back.")


def _keep_logs(state_dir: Path, bundle: Unpacking) -> None:
    """Put the logs' ends where a local service looks for the output of an attempt."""
    for attempt, text in bundle.logs():
        path = log_of_attempt(state_dir, bundle.manifest.job_id, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
