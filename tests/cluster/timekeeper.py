"""Deadlines and times to live, as a clock that may run faster than ours makes them pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster.objects import JOBS, Object, is_deleting, is_finished, uid_of
from tests.cluster.steps import Steps
from tests.cluster.store import Change


class Timekeeper:
    """Ends Jobs that are active for too long, and removes those that ended long ago."""

    def __init__(self, cluster: Steps, speed: float) -> None:
        self._cluster = cluster
        self._speed = speed
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def notice(self, change: Change) -> None:
        job = change.entry.body
        if change.entry.resource is not JOBS or change.type == "DELETED":
            return
        started = job["status"].get("startTime")
        deadline = job["spec"].get("activeDeadlineSeconds")
        if started is not None and deadline is not None and not is_finished(job):
            self._set(job, f"deadline {started}", deadline, self._expire_deadline)
        lifetime = job["spec"].get("ttlSecondsAfterFinished")
        if lifetime is not None and is_finished(job):
            self._set(job, "lifetime", lifetime, self._expire_ttl)

    def end(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _set(
        self, job: Object, what: str, seconds: float, then: Callable[[Object, str], None]
    ) -> None:
        key = (uid_of(job), what)
        if key not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(seconds / self._speed, self._fire, key, then)

    def _fire(self, key: tuple[str, str], then: Callable[[Object, str], None]) -> None:
        uid, what = key
        job = self._cluster.store.by_uid(uid)
        if job is not None and not is_deleting(job):
            then(job, what)

    def _expire_deadline(self, job: Object, what: str) -> None:
        still = f"deadline {job['status'].get('startTime')}" == what
        if still and not is_finished(job):
            self._cluster.expire_deadline(job)

    def _expire_ttl(self, job: Object, what: str) -> None:
        self._cluster.expire_ttl(job)


@contextmanager
def time_passes(cluster: Steps, *, speed: float = 1.0) -> Iterator[Timekeeper]:
    """Inside the block deadlines and times to live pass, so many times faster than ours."""
    keeper = Timekeeper(cluster, speed)
    cluster.store.listeners.append(keeper.notice)
    try:
        yield keeper
    finally:
        cluster.store.listeners.remove(keeper.notice)
        keeper.end()
