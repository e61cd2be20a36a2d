"""A cluster for the benchmark: the tests' own, as a process that is told what to let happen.

`python -m bench.cluster KUBECONFIG` writes how to reach it and says where it is told.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from service.job_template import names
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS, PODS, Object, is_running, name_of
from tests.cluster.selectors import Selector
from tests.polling import eventually

HISTORY = 5_000
POLL_SECONDS = 0.01
WITHIN_SECONDS = 60.0
AT_ONCE = 50
"""How many changes are made before the watches may be served."""


@dataclass(slots=True)
class Theatre:
    """Lets things happen, and says when they did."""

    cluster: Cluster
    facts: list[dict[str, Any]] = field(default_factory=list)

    async def fill(self, number: int) -> None:
        """Wait for so many Jobs and have all their pods run."""
        started: set[str] = set()
        while len(started) < number:
            for job in self._all(JOBS):
                if name_of(job) not in started:
                    started.add(name_of(job))
                    self._start(name_of(job))
            await asyncio.sleep(POLL_SECONDS)

    async def play(self, seconds: float, rate: float) -> list[dict[str, Any]]:
        """Let pods fail at this rate, and run again in their next attempt; return what was when."""
        self.facts = []
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(self._running()):
                if number / rate >= seconds:
                    break
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                self._note("exited", name)
                self.cluster.exit(name, 1)
                group.create_task(self._follow(name))
        for fact in self.facts:
            if fact["type"] == "exited":
                self.cluster.expire_ttl(names(fact["job_id"], fact["attempt"]).job)
        return self.facts

    async def stir(self, events: int, rate: float) -> None:
        """Change pods in what concerns nobody."""
        began, done = time.monotonic(), 0
        while done < events:
            for pod in self._all(PODS)[: events - done]:
                done += 1
                self._stir(name_of(pod), str(done))
                if done % AT_ONCE == 0:
                    await asyncio.sleep(max(0.0, began + done / rate - time.monotonic()))

    def _stir(self, name: str, value: str) -> None:
        def change(pod: Object) -> None:
            pod["metadata"].setdefault("annotations", {})["stirred"] = value

        self.cluster.store.update(PODS, self.cluster.namespace, name, change)

    async def relist(self) -> None:
        """Have whoever watches list everything anew, and wait until that is done."""
        before = self._lists()
        self.cluster.forget_history()
        self.cluster.watches.cut_all()
        await eventually(lambda: self._lists() >= before + 2, within=WITHIN_SECONDS)
        await eventually(lambda: len(self.cluster.watches) >= 2, within=WITHIN_SECONDS)

    async def _follow(self, name: str) -> None:
        """Start the attempt after this one as soon as it is there."""
        then, namespace = _next(name), self.cluster.namespace
        await eventually(
            lambda: self.cluster.store.find(JOBS, namespace, then), within=WITHIN_SECONDS
        )
        await asyncio.sleep(0.1)  # so that it is seen waiting first
        self._note("running", then)
        self._start(then)

    def _start(self, name: str) -> None:
        self.cluster.schedule(name)
        self.cluster.start(name)

    def _note(self, type_name: str, name: str) -> None:
        job_id, attempt = _numbers(name)
        self.facts.append(
            {"type": type_name, "job_id": job_id, "attempt": attempt, "at": time.time()}
        )

    def _running(self) -> Iterator[str]:
        for pod in self._all(PODS):
            if is_running(pod):
                yield pod["metadata"]["labels"]["job-name"]

    def _all(self, kind: Any) -> list[Object]:
        return [entry.body for _, entry in self.cluster.store.select(kind, None, Selector())]

    def _lists(self) -> int:
        found = [*self.cluster.asked("list", "jobs"), *self.cluster.asked("list", "pods")]
        return len(found)


def _numbers(name: str) -> tuple[int, int]:
    job_id, _, attempt = name.removeprefix("train-").partition("-")
    return int(job_id), int(attempt or 1)


def _next(name: str) -> str:
    job_id, attempt = _numbers(name)
    return names(job_id, attempt + 1).job


def app_of(theatre: Theatre) -> web.Application:
    """Return what takes orders."""

    async def order(request: web.Request) -> web.Response:
        given = await request.json()
        answer = await getattr(theatre, request.match_info["order"])(**given)
        return web.json_response(answer)

    app = web.Application()
    app.router.add_post("/{order:fill|play|stir|relist}", order)
    return app


async def serve(kubeconfig: Path) -> None:
    """Serve both, until the process is ended; its own pauses are not to be measured."""
    gc.disable()
    async with running_cluster(history=HISTORY) as cluster:
        write_kubeconfig(kubeconfig, bench=cluster)
        runner = web.AppRunner(app_of(Theatre(cluster)), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
