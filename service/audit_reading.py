"""Pages of events for an audit: everything that stands there, whatever it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from operator import itemgetter

from projections.events import Record, Source, Unrecognised
from service.postgres import Session
from service.records import Row

PAGE = 2_000
LOWEST = -(2**63)

Rows = Sequence[Row]

_sources = {source.value: source for source in Source}
_needed = itemgetter(
    "job_id", "version", "attempt", "event_id", "type", "trace_id", "occurred_at", "recorded_at",
    "hash",
)  # fmt: skip


async def all_events(session: Session, after: int, upto: int | None) -> AsyncGenerator[Rows, None]:
    """Yield every event behind a position, up to another or to the end of the log.

    By ranges and not by counts, so that nothing hides behind another of the same position.
    """
    after = after or LOWEST  # no position is 0 or less, unless somebody made it so
    while (first := await session.value("next_position", after)) is not None:
        if upto is not None and first > upto:
            return
        last = first + PAGE - 1 if upto is None else min(first + PAGE - 1, upto)
        yield await session.rows("audit_events", first - 1, last)
        after = last


async def events_of(session: Session, job_id: int) -> AsyncGenerator[Rows, None]:
    """Yield every event of a job, by versions."""
    after = LOWEST
    while (first := await session.value("next_version", job_id, after)) is not None:
        last = first + PAGE - 1
        yield await session.rows("audit_job_events", job_id, first - 1, last)
        after = last


async def ahead(pages: AsyncIterator[Rows]) -> AsyncGenerator[Rows, None]:
    """Yield the pages, each while the database is at work on the next."""
    reading = asyncio.ensure_future(anext(pages, None))
    try:
        while (page := await reading) is not None:
            reading = asyncio.ensure_future(anext(pages, None))
            yield page
    finally:
        if not reading.done():
            reading.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reading


def record_to_audit(row: Row) -> Record | None:
    """Return the event that a row holds, with its data as it lies; None where it can be none."""
    source, data = _sources.get(row["source"]), row["data"]
    if source is None or type(data) is not dict or None in _needed(row):
        return None
    return Record(
        position=row["position"],
        job_id=row["job_id"],
        version=row["version"],
        attempt=row["attempt"],
        event_id=str(row["event_id"]),
        source=source,
        trace_id=str(row["trace_id"]),
        seq=row["seq"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        event=Unrecognised(type=row["type"], data=data),
        rule=row["rule"],
        hash=row["hash"].hex(),
        stored=data,
    )
