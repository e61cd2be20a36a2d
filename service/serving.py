"""From settings to a running service, and back to nothing left running."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from projections.anchors import AnchorKeys
from projections.archives import Seal
from projections.version import PROJECTIONS_VERSION
from service.anchors import ANCHORS_NAME, Anchoring, AnchorsFile
from service.api_tokens import ApiTokens
from service.app import build_app
from service.batch import Outcome
from service.callback_tokens import CallbackTokens
from service.clusters import Clusters, clusters_of
from service.compaction import Compaction
from service.embedded import EmbeddedPostgres, EmbeddedPostgresError
from service.errors import SettingsError, StoreUnavailableError
from service.event_log import EventLog
from service.executor import Executor
from service.external import ExternalExecutor
from service.feed import Feed
from service.instance import Instance, policy_of
from service.lease import Candidate, holder_of
from service.local import LocalExecutor
from service.metrics import Metrics
from service.object_store import AccessKeys
from service.postgres import Database, migrate
from service.rebuilding import rebuild_if_old
from service.senses import Senses
from service.settings import ExecutorKind, Settings
from service.state_folder import StateFolder
from service.storage_url import open_store
from service.store import Store
from service.supervisor import Supervisor
from service.traced_log import TracedLog
from service.tracing import Tracing, open_tracing
from service.training_storage import Signing, signing_storage

DRAIN_SECONDS = 5.0
WATCH_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Serving:
    """A service that answers requests."""

    instance: Instance
    url: str
    api_token: str
    broken: asyncio.Event
    """Set when a part that must never end has ended."""


async def serve(settings: Settings, on_ready: Callable[[Serving], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; what runs then goes on and is taken over at the next start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as service:
        if on_ready:
            on_ready(service)
        waits = [asyncio.create_task(event.wait()) for event in (stop, service.broken)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        going_on = await _trainings_that_go_on(service.instance)
        log.info("stopping", signalled=stop.is_set(), trainings_go_on=going_on)
        if service.broken.is_set():
            raise RuntimeError("a part of the service ended; its log says why")


async def _trainings_that_go_on(instance: Instance) -> list[int]:
    """Return the jobs whose processes outlive this service, to be taken over by the next start."""
    try:
        watched = await instance.store.watched()
        return [job.id for job in watched.jobs.values() if job.was_started]
    except StoreUnavailableError:
        return []


@asynccontextmanager
async def serving(
    settings: Settings, *, drive: bool = True, keys: AccessKeys | None = None
) -> AsyncIterator[Serving]:
    """Run a service; without `drive` it only answers, and neither launches nor decides.

    `keys` are those of the bucket, where they are not in the environment.
    Raises SettingsError, StateFolderInUseError, EmbeddedPostgresError or StoreUnavailableError.
    """
    async with AsyncExitStack() as stack:
        folder = StateFolder(settings.state_dir)
        stack.enter_context(folder.lock())
        clusters = clusters_of(settings)
        executor = _executor(settings, folder, clusters)
        if drive:
            await asyncio.to_thread(executor.check)
        stack.push_async_callback(executor.close)
        broken = asyncio.Event()
        database = await _open_database(stack, settings, broken)
        store = Store(database)
        executor.log_id = await store.log_id()
        if drive:
            folder.serves(executor.log_id)
        api_token = settings.api_token or folder.api_token()
        policy = policy_of(settings)
        senses = Senses(policy, imported=await store.imported())
        tracing = open_tracing(os.environ, store) if drive else None
        kind_of_log = EventLog if tracing is None else TracedLog
        event_log = kind_of_log(
            database=database,
            policy=policy,
            senses=senses,
            partition_events=settings.partition_events,
        )
        feed = Feed(database=database, store=store, log=event_log)
        candidate = Candidate(database, holder_of(folder.identity()))
        metrics = Metrics(event_log, feed, candidate, executor)
        event_log.committed = partial(_note_commit, feed, metrics, tracing)
        instance = Instance(
            settings=settings,
            database=database,
            store=store,
            log=event_log,
            executor=executor,
            candidate=candidate,
            clusters=clusters,
            callback_tokens=CallbackTokens(
                settings.secret_key or folder.secret_key(),
                settings.secret_keys_old,
                ttl=settings.token_ttl,
                renewal=settings.token_renewal,
            ),
            api_tokens=ApiTokens(store, api_token),
            feed=feed,
            metrics=metrics,
            tracing=tracing,
            signing=await _signing(stack, settings, keys),
        )
        if drive and settings.anchor_seconds:
            await _start_anchoring(stack, instance, folder, broken)
        if tracing is not None:
            stack.push_async_callback(tracing.conclude)
            await _start(stack, tracing.run(), broken)
        await _start(stack, instance.log.run(), broken)
        await _start(stack, instance.feed.run(), broken)
        port = await _listen(stack, instance, settings.port if drive else 0)
        url = settings.local_url(port)
        if drive:
            supervisor = Supervisor(instance, settings.trainer_url(port))
            await _start(stack, supervisor.run(), broken)
            if settings.compact_after:
                await _start_compacting(stack, instance, folder, broken)
            folder.announce(url, os.getpid())
            stack.callback(folder.withdraw)
        log.info("serving", url=url, executor=executor.name, state_dir=str(settings.state_dir))
        yield Serving(instance, url, api_token, broken)


async def _start_anchoring(
    stack: AsyncExitStack, instance: Instance, folder: StateFolder, broken: asyncio.Event
) -> None:
    """Anchor the log from now on, and once more when everything that writes to it has ended."""
    settings = instance.settings
    key = settings.secret_key or folder.secret_key()
    anchoring = Anchoring(
        database=instance.database,
        keys=AnchorKeys(key, settings.secret_keys_old),
        file=AnchorsFile(settings.state_dir / ANCHORS_NAME),
        seconds=settings.anchor_seconds,
    )
    stack.push_async_callback(anchoring.conclude)
    await _start(stack, anchoring.run(), broken)


async def _signing(
    stack: AsyncExitStack, settings: Settings, keys: AccessKeys | None
) -> Signing | None:
    """Return the bucket for which addresses are signed, if they are."""
    signing = signing_storage(settings, keys)
    if signing is not None:
        await stack.enter_async_context(signing.reading.held())
        await stack.enter_async_context(signing.writing.held())
    return signing


async def _start_compacting(
    stack: AsyncExitStack, instance: Instance, folder: StateFolder, broken: asyncio.Event
) -> None:
    """Compact old ranges of the log from now on."""
    settings = instance.settings
    key = settings.secret_key or folder.secret_key()
    compaction = Compaction(
        database=instance.database,
        objects=open_store(settings.archive_url, settings.s3_endpoint),
        seal=Seal(key, settings.secret_keys_old),
        token_ttl=settings.token_reach,
    )
    await _start(stack, compaction.run(settings.compact_after), broken)


def _note_commit(
    feed: Feed,
    metrics: Metrics,
    tracing: Tracing | None,
    answers: Sequence[Outcome | Exception],
    seconds: float,
) -> None:
    """Count a commit, and wake who follows the log."""
    metrics.committed(answers, seconds)
    written = [one.records for one in answers if isinstance(one, Outcome) and one.records]
    if written:
        feed.wrote(written[-1][-1].position)
    if tracing is not None:
        tracing.committed(answers)


async def migrate_database(settings: Settings) -> list[str]:
    """Bring the settings' database up to date, the embedded one too; return what was done."""
    if settings.database_url:
        return await _migrate(settings.database_url)
    with StateFolder(settings.state_dir).lock():
        embedded = EmbeddedPostgres(settings.state_dir / "postgres")
        url = await embedded.start()
        try:
            return await _migrate(url)
        finally:
            await embedded.stop()


async def _migrate(url: str) -> list[str]:
    """Apply the migrations, and make the projections again that an older build has folded."""
    applied = [f"applied {name}" for name in await migrate(url)]
    rebuilt = await rebuild_if_old(url, partial(log.warning, "rebuilding_projections"))
    return [*applied, "rebuilt the projections from the log"] if rebuilt else applied


def _executor(settings: Settings, folder: StateFolder, clusters: Clusters) -> Executor:
    match settings.executor:
        case ExecutorKind.LOCAL:
            return LocalExecutor(
                folder=settings.state_dir,
                command=settings.trainer_command,
                slots=settings.local_slots,
                identity=folder.identity(),
            )
        case ExecutorKind.KUBERNETES:
            # Importing the library takes most of a second, which no other executor needs.
            from service.kubernetes import KubernetesExecutor  # noqa: PLC0415

            return KubernetesExecutor(
                clusters,
                image=settings.trainer_image,
                policy=policy_of(settings),
                kubeconfig=settings.kubeconfig,
            )
        case ExecutorKind.EXTERNAL:
            return ExternalExecutor()


async def _open_database(
    stack: AsyncExitStack, settings: Settings, broken: asyncio.Event
) -> Database:
    if settings.database_url:
        database = await Database.connect(settings.database_url)
        stack.push_async_callback(_close, database)
        await database.ready()
        await _refuse_old_projections(database)
        return database
    embedded = EmbeddedPostgres(settings.state_dir / "postgres")
    url = await embedded.start()
    stack.push_async_callback(embedded.stop)
    await _migrate(url)
    database = await Database.connect(url)
    stack.push_async_callback(_close, database)
    await _start(stack, _keep_up(embedded, database), broken)
    return database


async def _refuse_old_projections(database: Database) -> None:
    """Raise SettingsError where what this build would go on with was folded by an older one."""
    async with database.session() as session:
        version = await session.value("projections_version")
    if version < PROJECTIONS_VERSION:
        raise SettingsError(
            "EPOCHLOG_DATABASE_URL needs projections of this build, and those there were folded by"
            " an older one: run `epochlog migrate`, which makes them again from the log."
        )


async def _close(database: Database) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(database.close(), DRAIN_SECONDS)


async def _keep_up(embedded: EmbeddedPostgres, database: Database) -> None:
    """Start the embedded server again whenever it is gone."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            await database.ready()
        except StoreUnavailableError:
            await _start_again(embedded)
        except Exception:
            log.exception("database_unusable")


async def _start_again(embedded: EmbeddedPostgres) -> None:
    try:
        await embedded.start()
    except EmbeddedPostgresError as error:
        log.warning("database_does_not_start", error=str(error))
    else:
        log.info("database_started_again")


async def _start(stack: AsyncExitStack, work: Any, broken: asyncio.Event) -> None:
    """Run `work` in the background until the stack unwinds; its end before that breaks us."""
    task = asyncio.create_task(work)

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            log.error("part_ended", error=repr(task.exception()))
            broken.set()

    task.add_done_callback(ended)

    async def end() -> None:
        while not task.done():  # wait_for, in the pool's acquire, may swallow a cancel
            task.cancel()
            await asyncio.wait([task], timeout=1)

    stack.push_async_callback(end)


async def _listen(stack: AsyncExitStack, instance: Instance, port: int) -> int:
    runner = web.AppRunner(
        build_app(instance), access_log=None, shutdown_timeout=DRAIN_SECONDS, handle_signals=False
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, instance.settings.host, port)
    try:
        await site.start()
    except OSError as error:
        raise SettingsError(
            f"EPOCHLOG_PORT needs a port that is free on {instance.settings.host}: {error.strerror}"
        ) from error
    listening: int = runner.addresses[0][1]
    return listening
