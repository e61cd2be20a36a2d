"""The loop that drives jobs from their log, in whichever service holds the lease.

It keeps nothing that matters between two rounds: a service that was killed goes on from the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from service.attending import Attending
from service.errors import FencedError, ServiceError, StoreUnavailableError
from service.executor import Executor
from service.instance import Instance
from service.lease import Lease
from service.logs import about
from service.store import Watched
from service.sweeper import Sweeper
from service.turns import Turns, end_all

ROUND_SECONDS = 0.5
OUTAGE_SECONDS = 2.0
FEW = 20
"""Jobs that are read one by one; of more it is quicker to ask which of all have changed."""

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
            asyncio.create_task(self._executor.follow()),
            asyncio.create_task(Sweeper(self.instance, lease).run()),
        ]
        try:
            yield
        finally:
            await end_all(tasks)

    async def _lead(self, lease: Lease) -> None:
        """Make rounds until the lease is lost; an outage that it outlasts only delays them.

        What the executor has news about is looked at between two rounds.
        """
        attending = Attending(self.instance, self.service_url, lease)
        self._watched = None
        turns = Turns(partial(self._attend, attending), self._place_of, self._executor.at_once)
        try:
            while True:
                lease.check()
                try:
                    await self._round(attending, turns)
                    await self._listen(lease, turns)
                except StoreUnavailableError:
                    self.instance.log.senses.deaf()
                    await asyncio.sleep(ROUND_SECONDS)
        finally:
            await turns.end()

    async def _round(self, attending: Attending, turns: Turns) -> None:
        """Look at every watched job once."""
        watched = await self._refresh()
        job_ids = set(watched.jobs)
        self.instance.log.senses.hears(watched.now)
        self.instance.log.senses.forget_all_but(job_ids)
        attending.forget_all_but(job_ids)
        self._executor.keep(watched.jobs.values())
        await turns.give_each(watched.jobs, seconds=ROUND_SECONDS)

    async def _listen(self, lease: Lease, turns: Turns) -> None:
        """Until the next round, look at those about which the executor has news."""
        until = time.monotonic() + ROUND_SECONDS
        while (left := until - time.monotonic()) > 0:
            if news := await self._executor.news.take(left):
                lease.check()
                turns.check()
                turns.begin(await self._read(news))

    async def _refresh(self) -> Watched:
        """Read which jobs are watched, and how those stand that have changed."""
        self._watched = await self.instance.store.watched(self._watched)
        return self._watched

    async def _read(self, job_ids: set[int]) -> set[int]:
        """Read how these stand now; return those that are looked after."""
        watched = self._watched
        if watched is None or len(job_ids) > FEW:
            return job_ids & (await self._refresh()).jobs.keys()
        looked_after = job_ids & watched.jobs.keys()
        for known in (await self.instance.store.jobs_named(looked_after)).values():
            watched.learn([known.state], known.now)
        return looked_after

    def _place_of(self, job_id: int) -> str:
        """Return where the job is looked after, by a name that other places do not have."""
        job = self._watched.jobs.get(job_id) if self._watched else None
        return (job.place or f"to {job.cluster}") if job is not None else ""

    async def _attend(self, attending: Attending, job_id: int) -> None:
        """Look after a job, as it stood when the log was last read."""
        watched = self._watched
        if watched is None or job_id not in watched.jobs:
            return
        known = watched.jobs[job_id]
        try:
            with about(job_id, known.trace_id):
                state = await attending.look_after(known, watched.now)
        except (StoreUnavailableError, FencedError):
            raise
        except ServiceError as error:
            log.warning("job_skipped", job_id=job_id, error=error.detail)
        except Exception:
            # One that cannot be looked after must not keep the others waiting.
            log.exception("job_skipped", job_id=job_id)
        else:
            if self._watched is not None:  # for a second look, before the log is read again
                self._watched.learn([state])

    @property
    def _executor(self) -> Executor:
        return self.instance.executor
