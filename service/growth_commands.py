"""The commands that compact old ranges of the log, list what was archived and bring it back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from projections.archives import Seal
from service.archiving import check_archive
from service.compaction import Compacted, Compaction
from service.figures import moment, size
from service.logs import configure_logs
from service.object_store import ObjectStoreError
from service.opening import database_url
from service.page import print_json, print_page
from service.postgres import Database
from service.ranges import GrowthError, Range, ranges
from service.restoring import Restoration
from service.running import DONE, CommandError
from service.settings import Settings
from service.state_folder import StateFolder
from service.storage_url import open_store

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")


def seconds_in(text: str) -> float:
    """Return the seconds of `30d`, `12h`, `90` …; ValueError where it is no duration."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("needs a number with s, m, h, d or w behind it, such as 30d")
    return float(found[1]) * UNITS[found[2] or "s"]


async def compact(
    settings: Settings, console: Console, *, older_than: float, dry_run: bool, as_json: bool
) -> int:
    """Archive and slim every range that is old enough."""
    async with _opened(settings) as database:
        compaction = Compaction(
            database=database,
            objects=open_store(settings.archive_url, settings.s3_endpoint),
            seal=seal(settings),
            token_ttl=settings.token_reach,
        )
        done: list[Compacted] = []
        async for one in compaction.compacted(older_than, dry_run=dry_run):
            done.append(one)
            if not as_json:
                print_page(console, [_line(one)])
    if as_json:
        print_json({"dry_run": dry_run, "ranges": [_said(one) for one in done]})
    elif not done:
        console.print("No range is old enough that was not compacted yet.")
    return DONE


async def archives(settings: Settings, console: Console, *, check: bool, as_json: bool) -> int:
    """List the archived ranges, and read their files if that is asked for."""
    async with _opened(settings) as database, database.session() as session:
        found = [part for part in await ranges(session) if part.registered is not None]
    if check:
        store = open_store(settings.archive_url, settings.s3_endpoint)
        for part in found:
            if part.registered is not None:
                await _as_command_error(check_archive(store, part.registered.manifest))
    if as_json:
        print_json({"archives": [_archive(part) for part in found]})
    elif found:
        print_page(console, _archives(found))
    else:
        console.print("Nothing was archived yet; `epochlog compact` does it.")
    return DONE


async def restore(
    settings: Settings, console: Console, *, wanted: Sequence[str] | None, as_json: bool
) -> int:
    """Bring archived ranges back."""
    async with _opened(settings) as database:
        restoration = Restoration(
            database=database,
            objects=open_store(settings.archive_url, settings.s3_endpoint),
            seal=seal(settings),
        )
        back = [done async for done in restoration.restored(wanted)]
    if as_json:
        said = [{"range": part.name, "events": count} for part, count in back]
        print_json({"restored": said})
    for part, count in [] if as_json else back:
        console.print(f"{part.name}: {count} events are back in place of roll-ups.")
    if not back and not as_json:
        console.print("Nothing is left to restore.")
    return DONE


def seal(settings: Settings) -> Seal:
    """Return the seal of the service that these settings are for."""
    key = settings.secret_key or StateFolder(settings.state_dir).secret_key()
    return Seal(key, settings.secret_keys_old)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Database]:
    """Lend the settings' database; what stands in the way becomes the command's error."""
    configure_logs("CRITICAL")
    async with database_url(settings) as url:
        database = await Database.connect(url, size=2)
        try:
            await database.ready()
            yield database
        except (GrowthError, ObjectStoreError) as error:
            raise CommandError(str(error)) from error
        finally:
            await database.close()


async def _as_command_error(work: Any) -> None:
    try:
        await work
    except (GrowthError, ObjectStoreError) as error:
        raise CommandError(str(error)) from error


def _line(one: Compacted) -> Text:
    left = one.events - one.gone
    text = f"{one.part.name}: {one.events} events, {left} {'would stay' if _dry(one) else 'stay'}"
    if one.waiting:
        text += f" ({one.waiting} heartbeats wait for their attempts to end)"
    if one.manifest is not None and one.bytes_after is not None:
        text += f"; {size(one.part.size)} → {size(one.bytes_after)}"
        text += f", archived in {size(one.manifest.bytes)} as {one.manifest.file}"
    return Text(text)


def _dry(one: Compacted) -> bool:
    return one.manifest is None


def _said(one: Compacted) -> dict[str, Any]:
    return {
        "range": one.part.name,
        "first_position": one.part.first_position,
        "last_position": one.part.end_position - 1,
        "events": one.events,
        "events_after": one.events - one.gone,
        "roll_ups": one.roll_ups,
        "waiting": one.waiting,
        "bytes": one.part.size,
        "bytes_after": one.bytes_after,
        "archive": one.manifest and one.manifest.as_json(),
    }


def _archive(part: Range) -> dict[str, Any]:
    registered = part.registered
    return {
        "range": part.name,
        "state": registered and registered.state,
        "registered_at": part.registered_at,
        "newest_at": part.newest_at,
        "roll_ups": part.roll_ups,
        "bytes": part.size,
        "archive": registered and dict(registered.manifest),
    }


def _archives(found: Sequence[Range]) -> Iterator[RenderableType]:
    for part in found:
        manifest = part.registered.manifest if part.registered else {}
        state = part.registered.state if part.registered else ""
        yield Text.assemble(
            (f"{part.name:<24}", "bold"),
            f" {state:<4}  {manifest['events']} events until {moment(part.newest_at)},",
            f" {part.roll_ups} roll-ups; online {size(part.size)},",
            f" archived {size(manifest['bytes'])}",
            (f"  {manifest['file']}", "dim"),
        )
