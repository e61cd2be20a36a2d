"""The watch: what happened since a version, then what happens, one line a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
from aiohttp import web

from tests.cluster.faults import Faults
from tests.cluster.objects import JOBS, PODS, Object, Resource
from tests.cluster.refusals import expired
from tests.cluster.selectors import Selector, parse
from tests.cluster.steps import Steps
from tests.cluster.store import Change
from tests.cluster.target import Target, says_yes

EMPTY: dict[Resource, Object] = {
    JOBS: {"spec": {"template": {"metadata": {}, "spec": {"containers": None}}}, "status": {}},
    PODS: {"spec": {"containers": None}, "status": {}},
}
LONGEST = 3600.0


class Watcher:
    """One client's stream of one kind."""

    def __init__(self, cluster: Steps, target: Target, request: web.Request) -> None:
        query = request.query
        self.resource = target.resource
        self.namespace = target.namespace
        self.selector: Selector = parse(
            query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        self.bookmarks = says_yes(request, "allowWatchBookmarks")
        self.ends_at = time.monotonic() + float(query.get("timeoutSeconds") or LONGEST)
        self.version = 0
        self.wake = asyncio.Event()
        self.wants_bookmark = False
        self._store = cluster.store
        self._given = query.get("resourceVersion", "")
        self._pending: list[Change] = []

    def notice(self, change: Change) -> None:
        """Take a change in, where it may concern this stream."""
        if change.entry.resource is self.resource:
            self._pending.append(change)
            self.wake.set()

    def begin(self) -> list[bytes]:
        """What is sent first: all there is, or what was missed; an ERROR if that is forgotten."""
        self._store.listeners.append(self.notice)
        if self._given in ("", "0"):
            self.version = self._store.version
            found = self._store.select(self.resource, self.namespace, self.selector)
            return [Change(0, "ADDED", entry, None).line("ADDED") for _, entry in found]
        self.version = int(self._given)
        missed = self._store.since(self.resource, self.version)
        if missed is None:
            raise expired(self.version, self._store.oldest(self.resource))
        self._pending[:0] = missed
        return []

    def end(self) -> None:
        self._store.listeners.remove(self.notice)

    def take(self, faults: Faults) -> list[bytes]:
        """The lines that wait to be sent."""
        pending, self._pending = self._pending, []
        self.wake.clear()
        newer = [change for change in pending if change.version > self.version]
        lines = [self._line(change) for change in faults.in_order(newer)]
        if pending:
            self.version = max(self.version, pending[-1].version)
        return [line for line in lines if line is not None]

    def bookmark(self) -> bytes:
        """A line that says only how far the stream is."""
        self.version = max(self.version, self._store.version)
        body = {
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version,
            "metadata": {"resourceVersion": str(self.version)},
            **EMPTY.get(self.resource, {}),
        }
        return orjson.dumps({"type": "BOOKMARK", "object": body}) + b"\n"

    def _line(self, change: Change) -> bytes | None:
        """The change as this stream sees it: an object may enter or leave the selection."""
        body = change.entry.body
        if self.namespace is not None and body["metadata"].get("namespace") != self.namespace:
            return None
        is_in = change.type != "DELETED" and self.selector.matches(body)
        was_in = change.before is not None and self.selector.matches(change.before)
        if is_in:
            return change.line("MODIFIED" if was_in else "ADDED")
        return change.line("DELETED") if was_in else None


class Watches:
    """All streams that are open now."""

    def __init__(self, cluster: Steps, faults: Faults) -> None:
        self._cluster = cluster
        self._faults = faults
        self._open: dict[Watcher, web.Request] = {}
        # Seconds between two bookmarks; a real server sends about one a minute.
        self.bookmark_every = 60.0

    def __len__(self) -> int:
        return len(self._open)

    def of(self, resource: Resource) -> int:
        """How many streams of that kind are open."""
        return sum(one.resource is resource for one in self._open)

    def send_bookmarks(self) -> None:
        """Send a bookmark into each stream that allows it, now."""
        for one in self._open:
            one.wants_bookmark = one.bookmarks
            one.wake.set()

    def poke(self) -> None:
        """Let every stream look again at what there is to send."""
        for one in self._open:
            one.wake.set()

    def cut_all(self) -> None:
        """Break every open stream off, as a dying connection does."""
        for request in list(self._open.values()):
            if request.transport is not None:
                request.transport.abort()

    async def serve(self, target: Target, request: web.Request) -> web.StreamResponse:
        """Send until the client goes, the time is over or the history is too short."""
        watcher = Watcher(self._cluster, target, request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._open[watcher] = request
        try:
            async for line in self._lines(watcher):
                await self._faults.until_thawed()
                if self._faults.takes_a_cut():
                    await _write_half(response, request, line)
                    break
                await response.write(line)
        except ConnectionResetError:
            pass
        finally:
            del self._open[watcher]
            watcher.end()
        return response

    async def _lines(self, watcher: Watcher) -> AsyncIterator[bytes]:
        try:
            first = watcher.begin()
        except Exception as refusal:
            body = getattr(refusal, "body", None)
            if body is None:
                raise
            yield orjson.dumps({"type": "ERROR", "object": body()}) + b"\n"
            return
        for line in first:
            yield line
        said = 0
        bookmark_at = time.monotonic() + self.bookmark_every
        while (now := time.monotonic()) < watcher.ends_at:
            for line in watcher.take(self._faults):
                yield line
            for line in self._faults.said(watcher.resource.plural, said):
                said += 1
                yield line
            if watcher.wants_bookmark or (watcher.bookmarks and now >= bookmark_at):
                watcher.wants_bookmark = False
                bookmark_at = now + self.bookmark_every
                yield watcher.bookmark()
            await _until(watcher, min(bookmark_at, watcher.ends_at))


async def _until(watcher: Watcher, moment: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, moment - time.monotonic())):
            await watcher.wake.wait()
    except TimeoutError:
        pass


async def _write_half(response: web.StreamResponse, request: web.Request, line: bytes) -> None:
    await response.write(line[: len(line) // 2])
    if request.transport is not None:
        request.transport.abort()
