"""What a job's next attempt can go on from, read from the log."""

from __future__ import annotations

from projections.resume import Resume, Search
from service.store import Store

PAGE = 1_000


async def resume_of(store: Store, job_id: int) -> Resume:
    """Return what every attempt of the job has left behind; of a job that is unknown, nothing."""
    search, version = Search(), 0
    while page := await store.resume_page(job_id, version, limit=PAGE):
        for record in page:
            search.add(record)
        version = page[-1].version
        if len(page) < PAGE:
            break
    return search.finished()
