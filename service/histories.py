"""The whole log job by job, for whoever asks the same of every history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Protocol, TypeVar

from projections.events import Record
from service.postgres import Session
from service.records import record_of

PAGE = 2_000

Told_co = TypeVar("Told_co", covariant=True)
Tell = Callable[[int, int], None]
"""Called with how many events were read and how many there may be."""


class Telling(Protocol[Told_co]):
    """An answer in the making: takes a job's events in order."""

    def add(self, record: Record, /) -> None:
        """Take the next event."""

    def finished(self, now: datetime, /) -> Told_co:
        """Return the answer."""


async def of_each_job(
    session: Session, begin: Callable[[], Telling[Told_co]], *, since: datetime | None, tell: Tell
) -> AsyncIterator[Told_co]:
    """Yield the answer for each job, or for each that went on after `since`."""
    head, now = await session.value("log_position"), await session.value("clock")
    passed = 0 if since is None else await session.value("position_at_time", since)
    job_id, version, read = 0, 0, 0
    telling = begin()
    while rows := await session.rows("events_by_job", job_id, version, head, passed, PAGE):
        for record in map(record_of, rows):
            if record.job_id != job_id:
                if job_id:
                    yield telling.finished(now)
                telling, job_id = begin(), record.job_id
            telling.add(record)
            version = record.version
        read += len(rows)
        tell(read, max(head, read))
    if job_id:
        yield telling.finished(now)
