"""One process at a time supervises: the one that holds the lease, as long as it renews it.

Whether a lease is free is for the database's clock to say. Its holder knows by its own clock how
long it may act: less than the database grants, counted from before it asked. So it stops before
another can begin, also where it hears nothing any more; and what it had under way when it was
stopped itself is refused by the log, for the next holder has opened a new term there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog

from service.errors import FencedError, StoreUnavailableError
from service.postgres import Database, Session

NAME = "supervisor"
SECONDS = 10.0
"""For how long the database grants a lease; another takes over so long after the last renewal."""
MARGIN = 0.2
"""The part of that in which its holder does not act any more, and another not yet."""
RENEWALS = 0.3
"""The part of that between two renewals, so that two of them may be missed."""
POLL_SECONDS = 1.0
PATIENCE = 2.0
"""How long a statement may take; a renewal that hangs is tried again while there is time."""
RETRY_SECONDS = 0.5

log = structlog.get_logger(__name__)


def machine_seconds() -> float:
    """Return the time by a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(slots=True)
class Lease:
    """The right to supervise in one term. Once it was lost it is never held again."""

    term: int
    until: float = -inf
    """When, by the clock, its holder stops."""
    clock: Callable[[], float] = machine_seconds

    @property
    def holds(self) -> bool:
        """Whether its holder may act now."""
        return self.clock() < self.until

    def check(self) -> None:
        """Raise FencedError where its holder may not act any more."""
        if not self.holds:
            raise FencedError

    def extend(self, until: float) -> None:
        """Hold it for longer, unless that comes too late."""
        if self.holds:
            self.until = until

    def lose(self) -> None:
        """Hold it no more."""
        self.until = -inf


@dataclass(slots=True)
class Candidate:
    """A process that would supervise, and does while it holds the lease."""

    database: Database
    holder: UUID
    seconds: float = SECONDS
    lease: Lease | None = None
    """The lease that this process has, or had until lately."""
    _succeeds: bool = True
    """Nobody else has our state folder: whoever had it and the lease before us is dead, so we need
    not wait. That is asked for once, in case a copy of the folder is in use after all."""
    _waits: bool = field(default=False, init=False)

    @property
    def leads(self) -> bool:
        """Whether this process supervises now."""
        return self.lease is not None and self.lease.holds

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Lease]:
        """Wait for the lease, lend it, and give it back, so that another need not wait for its end.

        Who holds it looks at `Lease.holds` by itself. Raises StoreUnavailableError.
        """
        self.lease = lease = await self._taken()
        log.info("leads", term=lease.term)
        keeping = asyncio.create_task(self._keep(lease))
        try:
            yield lease
        finally:
            lease.lose()
            while not keeping.done():  # wait_for, in the pool's acquire, may swallow a cancel
                keeping.cancel()
                await asyncio.wait([keeping], timeout=1)
            await self._release(lease)

    async def _taken(self) -> Lease:
        """Ask for the lease until it is ours."""
        async with self.database.working_session() as session:
            while (lease := await self._take(session)) is None:
                if not self._waits:
                    log.info("waiting_for_the_other_supervisor")
                self._waits = True
                await asyncio.sleep(POLL_SECONDS)
        self._waits = False
        return lease

    async def _take(self, session: Session) -> Lease | None:
        """Take the lease where it is free."""
        asked_at = machine_seconds()
        granted = timedelta(seconds=self.seconds)
        asked = (NAME, self.holder, granted, self._succeeds)
        term = await session.value("take_lease", *asked, timeout=PATIENCE)
        self._succeeds = False
        return None if term is None else Lease(term, self._acts_until(asked_at))

    async def _keep(self, lease: Lease) -> None:
        """Renew the lease again and again, over another session where one is lost."""
        pause = self.seconds * RENEWALS
        while lease.holds:
            await asyncio.sleep(pause)
            try:
                async with self.database.working_session() as session:
                    while lease.holds:
                        await self._renew(session, lease)
                        await asyncio.sleep(self.seconds * RENEWALS)
            except StoreUnavailableError:
                pause = min(RETRY_SECONDS, self.seconds * RENEWALS)
            except Exception:
                log.exception("lease_not_renewed", term=lease.term)
                pause = RETRY_SECONDS
        log.warning("lease_lost", term=lease.term)

    async def _renew(self, session: Session, lease: Lease) -> None:
        if not lease.holds:
            return
        asked_at = machine_seconds()
        asked = (NAME, self.holder, lease.term, timedelta(seconds=self.seconds))
        if await session.value("renew_lease", *asked, timeout=PATIENCE) is None:
            lease.lose()
        else:
            lease.extend(self._acts_until(asked_at))

    async def _release(self, lease: Lease) -> None:
        """Give the lease back; where the database is away it ends by itself."""
        with suppress(StoreUnavailableError):
            async with self.database.working_session() as session:
                asked = (NAME, self.holder, lease.term)
                await session.value("release_lease", *asked, timeout=PATIENCE)

    def _acts_until(self, asked_at: float) -> float:
        """Return until when to act on what was asked for now, whenever it was granted."""
        return asked_at + self.seconds * (1 - MARGIN)


def holder_of(identity: str) -> UUID:
    """Return the name by which the service of a state folder holds the lease."""
    return uuid5(NAMESPACE_OID, identity)
