"""The loop that drives jobs from their log, in whichever service holds the lease.

It keeps nothing that matters between two rounds: a service that was killed goes on from the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from service.attending import Attending
from service.errors import FencedError, ServiceError, StoreUnavailableError
from service.instance import Instance
from service.lease import Lease
from service.store import Watched
from service.sweeper import Sweeper

ROUND_SECONDS = 0.5
OUTAGE_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Supervisor:
    """Looks after every job that is not over."""

    instance: Instance
    service_url: str
    """Where trainers call back."""
    _watched: Watched | None = None
    """The jobs as they stood when the log was last read."""

    async def run(self) -> None:
        """Lead until cancelled, whenever no other service does; no error ends it."""
        while True:
            lease = Lease(term=0)
            try:
                async with self.instance.candidate.leading() as lease, self._beside(lease):
                    await self._lead(lease)
            except FencedError:
                log.warning("leads_no_more", term=lease.term)
            except StoreUnavailableError:
                self.instance.log.senses.deaf()
            except Exception:
                log.exception("round_failed")
            self.instance.log.senses.forget_all_but(set())
            await asyncio.sleep(OUTAGE_SECONDS)

    @asynccontextmanager
    async def _beside(self, lease: Lease) -> AsyncIterator[None]:
        """Have the executor follow its attempts meanwhile, and what is left behind swept up."""
        tasks = [
            asyncio.create_task(self.instance.executor.follow()),
            asyncio.create_task(Sweeper(self.instance, lease).run()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _lead(self, lease: Lease) -> None:
        """Make rounds until the lease is lost; an outage that it outlasts only delays them.

        What the executor has news about is looked at between two rounds.
        """
        attending = Attending(self.instance, self.service_url, lease)
        self._watched = None
        while True:
            lease.check()
            try:
                await self._round(attending)
                until = time.monotonic() + ROUND_SECONDS
                while (left := until - time.monotonic()) > 0:
                    if news := await self.instance.executor.news.take(left):
                        lease.check()
                        await self._attend(attending, await self._refresh(), news)
            except StoreUnavailableError:
                self.instance.log.senses.deaf()
                await asyncio.sleep(ROUND_SECONDS)

    async def _round(self, attending: Attending) -> None:
        """Look at every watched job once."""
        watched = await self._refresh()
        job_ids = set(watched.jobs)
        self.instance.log.senses.hears(watched.now)
        self.instance.log.senses.forget_all_but(job_ids)
        attending.forget_all_but(job_ids)
        self.instance.executor.keep(watched.jobs.values())
        await self._attend(attending, watched, watched.jobs)

    async def _refresh(self) -> Watched:
        """Read which jobs are watched, and how those stand that have changed."""
        self._watched = await self.instance.store.watched(self._watched)
        return self._watched

    async def _attend(self, attending: Attending, watched: Watched, job_ids: Iterable[int]) -> None:
        """Look after these jobs, as many at a time as the executor can be asked about."""
        turns = asyncio.Semaphore(self.instance.executor.at_once)
        lost: list[BaseException] = []

        async def attend(job_id: int) -> None:
            async with turns:
                if job_id in watched.jobs and not lost:
                    try:
                        await attending.look_after(watched.jobs[job_id], watched.now)
                    except (StoreUnavailableError, FencedError) as error:
                        lost.append(error)
                    except ServiceError as error:
                        log.warning("job_skipped", job_id=job_id, error=error.detail)
                    except Exception:
                        # One that cannot be looked after must not keep the others waiting.
                        log.exception("job_skipped", job_id=job_id)

        await asyncio.gather(*map(attend, job_ids))
        if lost:
            raise lost[0]
