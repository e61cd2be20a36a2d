"""Follows one cluster: lists, then watches, and lists again whenever it cannot be sure.

No version outlives the process, no silence is taken for peace, and no object or error ends it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from math import inf

import structlog

from projections.objects import Object, part, uid_of, version_of
from service.cluster_client import (
    JOBS,
    PODS,
    ClusterClient,
    ClusterForbidsError,
    ClusterRefusesError,
    ClusterUnavailableError,
    HistoryIsOverError,
    Kind,
)
from service.cluster_view import ClusterView

RELIST_SECONDS = 480.0
SHORTEST_WAIT, LONGEST_WAIT = 0.5, 30.0
FORBIDDEN_SECONDS = 30.0
STEADY_SECONDS = 5.0
"""A watch that ends after so long was good: it is begun again without an alarm."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Contact:
    """How we stand with one list of a cluster."""

    listed: bool = False
    """It was read as a whole since the last doubt."""
    listed_at: float = -inf
    """When that was, by the monotonic clock."""
    heard_at: float = field(default_factory=time.monotonic)
    """When the cluster last said anything, by the monotonic clock."""
    problem: str | None = None
    """Why it cannot be read now."""


@dataclass(slots=True)
class ClusterWatch:
    """Keeps a view of one cluster up to date."""

    name: str
    client: ClusterClient
    changed: Callable[[set[str]], None]
    """Told the uids of Jobs of which something is new."""
    view: ClusterView = field(default_factory=ClusterView)
    jobs: Contact = field(default_factory=Contact)
    pods: Contact = field(default_factory=Contact)
    malformed: int = 0
    """How many objects could not be understood."""
    restarts: int = 0
    """How often a list or a watch had to be begun anew."""
    follows: bool = False
    """Somebody has it run now."""

    @property
    def problem(self) -> str | None:
        """Why what is known of the cluster may be old; None where it is fresh."""
        if not self.follows:
            return "Nobody follows the cluster now."
        for contact, plural in ((self.jobs, "jobs"), (self.pods, "pods")):
            if contact.problem is not None:
                return contact.problem
            if not contact.listed:
                return f"The cluster's {plural} were not listed yet."
        return None

    @property
    def heard_seconds_ago(self) -> float | None:
        """For how long the cluster has said nothing; None where nobody listens."""
        if not self.follows:
            return None
        return time.monotonic() - min(self.jobs.heard_at, self.pods.heard_at)

    async def run(self) -> None:
        """Follow Jobs and pods until cancelled; what was known before is old until it is listed."""
        self.jobs.listed = self.pods.listed = False
        self.jobs.heard_at = self.pods.heard_at = time.monotonic()
        self.follows = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(JOBS, self.jobs))
                group.create_task(self._follow(PODS, self.pods))
        finally:
            self.follows = False

    async def _follow(self, kind: Kind, contact: Contact) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._list_and_watch(kind, contact)
                failures = 0
                continue
            except HistoryIsOverError:
                failures = _failures(failures, contact, began)
                wait = random.uniform(0, min(failures - 1, 10))  # noqa: S311
            except ClusterForbidsError as error:
                self._note_problem(kind, contact, f"No {kind.plural} may be listed. {error}")
                wait = FORBIDDEN_SECONDS
            except (ClusterUnavailableError, ClusterRefusesError) as error:
                failures = _failures(failures, contact, began)
                if failures > 1 or contact.listed_at < began or getattr(error, "silent", False):
                    self._note_problem(kind, contact, str(error))
                wait = _wait(failures, getattr(error, "retry_after", None))
            except Exception:
                failures = _failures(failures, contact, began)
                log.exception("watch_failed", cluster=self.name, kind=kind.plural)
                contact.problem = "The watch failed by a mistake of the service; its log says more."
                wait = _wait(failures, None)
            self.restarts += 1
            await asyncio.sleep(wait)

    async def _list_and_watch(self, kind: Kind, contact: Contact) -> None:
        version = await self._list(kind, contact)
        relist_at = time.monotonic() + RELIST_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
        while time.monotonic() < relist_at:
            began = time.monotonic()
            try:
                version = await self._watch(kind, contact, version, until=relist_at)
            except ClusterForbidsError:  # as long as lists are allowed, they must do
                await asyncio.sleep(FORBIDDEN_SECONDS)
                return
            if time.monotonic() - began < SHORTEST_WAIT:  # a server that closes at once
                await asyncio.sleep(SHORTEST_WAIT)

    async def _watch(self, kind: Kind, contact: Contact, version: str, until: float) -> str:
        """Take what the server tells until it ends the stream, or it is time to list; how far."""
        async with aclosing(self.client.watch(kind, version)) as events:
            async for event in events:
                contact.heard_at = time.monotonic()
                version = version_of(part(event, "object")) or version
                self._take(kind, event)
                if contact.heard_at >= until:
                    break
        return version

    async def _list(self, kind: Kind, contact: Contact) -> str:
        objects, version = await self.client.list_all(kind)
        listing = self.view.list_jobs if kind is JOBS else self.view.list_pods
        self._tell(listing(objects))
        if contact.problem is not None:
            log.info("cluster_answers_again", cluster=self.name, kind=kind.plural)
        contact.listed, contact.problem = True, None
        contact.listed_at = contact.heard_at = time.monotonic()
        return version

    def _take(self, kind: Kind, event: Object) -> None:
        """Take what happened to one object; one that cannot be understood is counted and left."""
        try:
            self._tell(filter(None, [self._news(kind, event)]))
        except Exception:
            self.malformed += 1
            log.exception("object_left_out", cluster=self.name, kind=kind.plural)

    def _news(self, kind: Kind, event: Object) -> str | None:
        seen = part(event, "object")
        match event.get("type"), kind is JOBS:
            case (("ADDED" | "MODIFIED"), True):
                return self.view.see_job(seen)
            case "DELETED", True:
                return self.view.lose_job(uid_of(seen))
            case (("ADDED" | "MODIFIED"), False):
                return self.view.see_pod(seen)
            case "DELETED", False:
                return self.view.lose_pod(seen)
            case _:  # a bookmark, or what a newer API may say
                return None

    def _tell(self, uids: Iterable[str]) -> None:
        news = set(uids)
        if news:
            self.changed(news)

    def _note_problem(self, kind: Kind, contact: Contact, problem: str) -> None:
        if contact.problem != problem:
            log.warning("cluster_problem", cluster=self.name, kind=kind.plural, problem=problem)
        contact.problem = problem


def _failures(before: int, contact: Contact, began: float) -> int:
    """Return how often in a row it has failed: a watch that was good for a while ends a row."""
    was_good = contact.listed_at >= began
    return 1 if was_good and time.monotonic() - contact.listed_at > STEADY_SECONDS else before + 1


def _wait(failures: int, asked: float | None) -> float:
    """Return how long to wait: as long as the server asks, or ever longer, with full jitter."""
    if asked is not None:
        return min(asked, LONGEST_WAIT) + random.uniform(0, SHORTEST_WAIT)  # noqa: S311
    longest = min(LONGEST_WAIT, SHORTEST_WAIT * 2.0 ** min(failures, 10))
    return random.uniform(SHORTEST_WAIT / 2, longest)  # noqa: S311
