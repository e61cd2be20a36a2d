"""Looks, now and then, for what was left behind in the clusters; the service that leads runs it.

What is an orphan at two looks in a row is told of: in the log of the service, in a metric, and once
in the log of the job that it names. The choice is made in `service.orphans`; whatever is deleted
is deleted under the lease.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import NAMESPACE_OID, uuid5

import structlog

from projections.decide import Note
from projections.events import Evidence
from service.errors import FencedError, ServiceError, StoreUnavailableError
from service.executor import ExecutorUnavailableError, Found
from service.instance import Instance
from service.lease import Lease
from service.orphans import (
    Kind,
    Launched,
    Orphan,
    attempt_of,
    is_current,
    is_over,
    launches,
    orphan_of,
)
from service.store import Snapshot

SWEEP_SECONDS = 60.0
BIGINT_DIGITS = 18

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Sweeper:
    """Finds orphans, tells of them, and ends those that are ours and over."""

    instance: Instance
    lease: Lease
    _suspects: set[tuple[str, Kind]] = field(default_factory=set)
    """What was an orphan at the last look, by its uid."""
    _told: set[tuple[str, Kind]] = field(default_factory=set)
    _launched: dict[str, Found] = field(default_factory=dict)
    """The Jobs of this log that were seen, by their uids, until nothing of them is left."""

    async def run(self) -> None:
        """Sweep until cancelled, or until the lease is lost."""
        try:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                await self._sweep()
        except FencedError:
            return
        finally:
            self.instance.metrics.sweeps_no_more()

    async def _sweep(self) -> None:
        """Sweep once; whatever goes wrong is tried again at the next look."""
        try:
            await self.sweep()
        except FencedError:
            raise
        except StoreUnavailableError:
            log.info("not_swept", error="the database is away")
        except ServiceError as error:
            log.warning("not_swept", error=error.detail)
        except Exception:
            log.exception("not_swept")

    async def sweep(self) -> None:
        """Look at everything once, then at what the log says of it: in this order."""
        found = self.instance.executor.finds()
        if not found:  # there is no cluster, or none that can be looked at
            return
        named = [one for things in found.values() for one in things if self._may_be_ours(one)]
        gone = self._gone(found)
        states = await self._states([*named, *gone])
        orphans = await self._orphans(named, states)
        again = [one for one in orphans if _key(one) in self._suspects]
        self._suspects = set(map(_key, orphans))
        self._told &= self._suspects
        counts = Counter((one.found.cluster, one.kind.value) for one in again)
        self.instance.metrics.swept(counts)
        for orphan in again:
            await self._tell(orphan)
            if orphan.may_go:
                await self._remove(orphan)
        self._launched |= {one.uid: one for one in named if one.is_job}
        for one in gone:
            await self._clear(one, states)

    def _may_be_ours(self, found: Found) -> bool:
        """Return whether it names this log, or a job where such a thing names no log."""
        if found.log_id is None:
            return _job_id(found) > 0
        return found.log_id == self.instance.executor.log_id

    def _gone(self, found: Mapping[str, Sequence[Found]]) -> list[Found]:
        """Return what was there, and is not at a place that can be looked at."""
        uids = {one.uid for things in found.values() for one in things}
        return [
            one for one in self._launched.values() if one.place in found and one.uid not in uids
        ]

    async def _states(self, found: Iterable[Found]) -> dict[int, Snapshot]:
        return await self.instance.store.jobs_named({_job_id(one) for one in found})

    async def _orphans(
        self, named: Iterable[Found], states: Mapping[int, Snapshot]
    ) -> list[Orphan]:
        name_of = self.instance.executor.launched_as
        orphans = []
        for found in named:
            known = states.get(_job_id(found))
            if known is None or not is_current(found, known.state, name_of):
                told = await self._launches(found, known)
                orphans.append(orphan_of(found, known, told, name_of))
        return [one for one in orphans if one is not None]

    async def _launches(self, found: Found, known: Snapshot | None) -> Mapping[int, Launched]:
        """Return what the log says of the launches of the job; nothing where that is no matter."""
        if known is None or not found.is_job or not found.lives:
            return {}
        return launches(await self.instance.store.launches(known.state.id))

    async def _tell(self, orphan: Orphan) -> None:
        """Tell of an orphan once, and in the log of its job once for all."""
        if _key(orphan) in self._told:
            return
        found = orphan.found
        log.warning(
            "orphan",
            kind=orphan.kind.value,
            cluster=found.cluster,
            name=found.name,
            uid=found.uid,
            job_id=found.job_id,
            trace_id=found.trace_id,
            message=orphan.message,
        )
        if orphan.attempt is not None:
            await self._note(orphan, orphan.attempt)
        self._told.add(_key(orphan))

    async def _note(self, orphan: Orphan, attempt: int) -> None:
        found = orphan.found
        job_id = _job_id(found)
        event_id = str(uuid5(NAMESPACE_OID, f"{found.trace_id}/{found.uid}/orphan/{orphan.kind}"))
        noted = await self.instance.store.events(job_id, after=0, type_name="evidence", limit=1000)
        if any(record.event_id == event_id for record in noted):
            return
        data = {
            "kind": orphan.kind.value,
            "place": found.place,
            "name": found.name,
            "uid": found.uid,
            "message": orphan.message,
        }
        evidence = Evidence(kind="orphan", data=data)
        note = Note(attempt=attempt, evidence=evidence, event_id=event_id)
        await self.instance.log.handle(job_id, note, self.lease.term)

    async def _remove(self, orphan: Orphan) -> None:
        self.lease.check()
        found = orphan.found
        try:
            await self.instance.executor.remove(found)
        except ExecutorUnavailableError as error:
            log.warning("orphan_stays", name=found.name, uid=found.uid, error=str(error))
        else:
            log.warning("orphan_deleted", name=found.name, uid=found.uid, cluster=found.cluster)

    async def _clear(self, found: Found, states: Mapping[int, Snapshot]) -> None:
        """Remove the token of an attempt that is over and whose Job is gone."""
        known = states.get(_job_id(found))
        attempt = attempt_of(found, known, self.instance.executor.launched_as)
        if known is not None and attempt is not None:
            if not is_over(known.state, attempt):
                return
            self.lease.check()
            try:
                if not await self.instance.executor.clear(found, attempt):
                    return
            except ExecutorUnavailableError as error:
                log.info("token_stays", name=found.name, error=str(error))
                return
        del self._launched[found.uid]


def _key(orphan: Orphan) -> tuple[str, Kind]:
    return orphan.found.uid, orphan.kind


def _job_id(found: Found) -> int:
    """Return the id of the job that it names; 0 where that is none."""
    digits = found.job_id.isascii() and found.job_id.isdigit() and len(found.job_id)
    return int(found.job_id) if digits and digits <= BIGINT_DIGITS else 0
