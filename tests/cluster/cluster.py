"""A cluster for tests: its API over HTTP, its controllers, and what may happen to both."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from tests.cluster.access import ADMIN, Access
from tests.cluster.faults import Faults
from tests.cluster.nodes import NodeSteps
from tests.cluster.objects import NAMESPACES, SECRETS, Clock, real_time
from tests.cluster.server import Asked, Server
from tests.cluster.watching import Watches


class Cluster(NodeSteps):
    """Everything in one: the steps, `faults`, `admission`, roles and the server."""

    def __init__(
        self,
        *,
        namespace: str = "training",
        nodes: tuple[str, ...] = ("node-1", "node-2", "node-3"),
        history: int = 5000,
        clock: Clock = real_time,
    ) -> None:
        super().__init__(namespace=namespace, nodes=nodes, history=history, clock=clock)
        self.faults = Faults()
        self.access = Access()
        # The administrator's.
        self.token = "token-of-the-administrator"
        self.access.add(self.token, ADMIN, "", None)
        self.server = Server(self, self.access, self.faults)
        for name in dict.fromkeys(("default", "kube-system", namespace)):
            self.add_namespace(name)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def watches(self) -> Watches:
        return self.server.watches

    @property
    def requests(self) -> list[Asked]:
        """Every request so far, answered or not; a test may clear the list."""
        return self.server.requests

    def asked(self, verb: str, resource: str) -> list[Asked]:
        """The requests of that verb about that resource: `asked("create", "jobs")`."""
        return [one for one in self.requests if (one.verb, one.resource) == (verb, resource)]

    def add_namespace(self, name: str) -> None:
        body = {
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        self.store.create(NAMESPACES, body)

    def add_secret(self, name: str, **values: str) -> None:
        """Make a Secret as `kubectl create secret` does, without HTTP."""
        data = {key: b64encode(value.encode()).decode() for key, value in values.items()}
        meta = {"name": name, "namespace": self.namespace}
        self.store.create(SECRETS, {"metadata": meta, "type": "Opaque", "data": data})

    def give_role(self, rules: Iterable[dict[str, Any]], account: str = "epochlog") -> str:
        """Bind a Role's rules to a service account of this namespace; its token."""
        token = f"token-of-{account}"
        name = f"system:serviceaccount:{self.namespace}:{account}"
        self.access.add(token, name, self.namespace, rules)
        return token

    def take_away(self, token: str, verb: str, resource: str) -> None:
        """Take one verb on one resource out of the Role, while everything runs."""
        self.access.take_away(token, verb, resource)

    def forget_history(self) -> None:
        """Make every watch that starts from a version known so far get 410."""
        self.store.forget_history()

    def say(self, plural: str, line: bytes | str) -> None:
        """Send any text as a line into every watch of `jobs` or `pods`, now."""
        self.faults.say(plural, line)
        self.watches.poke()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
        """Read paths as the administrator, as plain JSON."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as session:

            async def read(path: str) -> Any:
                async with session.get(URL(path, encoded=True)) as answer:
                    return await answer.json()

            yield read

    async def stop(self) -> None:
        """The API server is away; the cluster goes on."""
        await self.server.stop()

    async def start_server(self) -> None:
        await self.server.start()

    async def restart(self, *, lost_history: bool = True, versions_from: int | None = None) -> None:
        """The API server comes back on the same port, without its history.

        `versions_from` numbers every object anew from there: etcd restored, versions in the past.
        """
        await self.server.stop()
        if lost_history:
            self.store.forget_history()
        if versions_from is not None:
            self.store.go_back(versions_from)
        await self.server.start()


@asynccontextmanager
async def running_cluster(**options: Any) -> AsyncIterator[Cluster]:
    """A cluster that serves inside the block."""
    cluster = Cluster(**options)
    await cluster.server.start()
    try:
        yield cluster
    finally:
        cluster.faults.clear()
        await cluster.server.stop()
