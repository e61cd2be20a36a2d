"""The API server: real HTTP on a free port, with authentication, authorization and faults."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.cluster import reading, writing
from tests.cluster.access import Access, User, refuse_unless_allowed
from tests.cluster.faults import Faults, Trouble, page
from tests.cluster.objects import ACCESS_REVIEWS
from tests.cluster.refusals import Refusal, method_not_allowed
from tests.cluster.steps import Steps
from tests.cluster.target import Target, target_of
from tests.cluster.watching import Watches

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2026-06-09T12:00:00Z",
    "goVersion": "go1.26.3",
    "compiler": "gc",
    "platform": "linux/amd64",
}
OPEN = frozenset({"/livez", "/readyz", "/healthz", "/version"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as tests count them."""

    method: str
    path: str
    query: dict[str, str]
    verb: str = ""
    resource: str = ""


class Server:
    """Serves one cluster; may be stopped and started again on the same port."""

    def __init__(self, cluster: Steps, access: Access, faults: Faults) -> None:
        self.requests: list[Asked] = []
        self.watches = Watches(cluster, faults)
        self.port = 0
        self._cluster = cluster
        self._access = access
        self._faults = faults
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._trouble, refusals_as_status])
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End every connection and refuse new ones."""
        if self._runner is not None:
            self.watches.cut_all()
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path in OPEN:
            return web.json_response(VERSION) if path == "/version" else web.Response(text="ok")
        user = self._access.user(request.headers.get("Authorization"))
        target = target_of(request)
        if target.resource is ACCESS_REVIEWS:
            return await writing.review_access(user, request)
        refuse_unless_allowed(user, target.wish(), target.resource)
        try:
            return await self._do(user, target, request)
        finally:
            self._cluster.settle()

    async def _do(self, user: User, target: Target, request: web.Request) -> web.StreamResponse:
        cluster = self._cluster
        match target.verb:
            case "get" if target.subresource == "log":
                return await reading.log(cluster, target, request)
            case "get":
                return reading.get(cluster, target)
            case "list":
                return reading.list_(cluster, target, request)
            case "watch":
                return await self.watches.serve(target, request)
            case "create":
                return await writing.create(cluster, target, request)
            case "update":
                return await writing.replace(cluster, target, request)
            case "patch":
                return await writing.patch(cluster, target, request)
            case "delete":
                return await writing.delete(cluster, target, request)
            case "deletecollection":
                return await writing.delete_many(cluster, target, request)
            case _:
                raise method_not_allowed()

    def _note(self, request: web.Request) -> None:
        verb = resource = ""
        with suppress(Refusal):
            wish = target_of(request).wish()
            verb, resource = wish.verb, wish.resource
        query = dict(request.query)
        self.requests.append(Asked(request.method, request.path, query, verb, resource))

    @web.middleware
    async def _trouble(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the request meet the faults that wait for it."""
        self._note(request)
        await self._faults.until_thawed()
        trouble = self._faults.next_for(request)
        if trouble is None:
            return await handler(request)
        match trouble.kind:
            case "answer":
                return page(trouble)
            case "cut":
                return _cut(request)
            case "slow":
                await asyncio.sleep(trouble.seconds)
                return await handler(request)
            case "lose_answer":
                return await self._lose_answer(trouble, request, handler)

    async def _lose_answer(
        self, trouble: Trouble, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        await handler(request)
        await asyncio.sleep(trouble.seconds)
        return _cut(request)


@web.middleware
async def refusals_as_status(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return web.json_response(refusal.body(), status=refusal.status, headers=refusal.headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
