"""A thousand Jobs on a cluster: what following them costs, and how late the log hears of a fact."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from bench import ours
from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import LOAD
from bench.load import quantile
from bench.process import python, serving
from bench.stage import Stage
from tests.polling import eventually

JOBS, QUICK_JOBS = 1_000, 100
EVENTS, QUICK_EVENTS = 10_000, 1_000
EVENTS_A_SECOND = 1_000.0
FACTS_A_SECOND = 20.0
"""How many pods fail a second; as many run again."""
RELISTS = 3
START_SECONDS = 120.0
DRAIN_SECONDS = 10.0
SETTLE_SECONDS = 2.0
APART_SECONDS = 6.0
"""Between two relists: watches that end sooner than after 5 s are begun again ever later."""
NEW_JOB = {"dataset_id": "shapes", "model_name": "yolov8n", "epochs": 100, "max_retries": 100}
MIB = 1024 * 1024
CPU_TICK = 0.01
"""The least that a process' clock tells."""

Fact = tuple[str, int, int]
"""A type of event, a job and an attempt."""


@dataclass(slots=True)
class Crew:
    """A service whose trainings run on a cluster of the benchmark's."""

    service: ours.Service
    cluster_port: int
    jobs: int

    async def order(self, what: str, **given: Any) -> Any:
        """Have something happen in the cluster; what it answers."""
        url = f"http://127.0.0.1:{self.cluster_port}/{what}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=given, raise_for_status=True) as answer,
        ):
            return await answer.json()

    async def fill(self) -> None:
        """Have so many jobs run."""
        headers = {"Authorization": f"Bearer {self.service.api_token}"}
        url = f"http://127.0.0.1:{self.service.port}/v1/jobs"
        async with aiohttp.ClientSession(headers=headers) as session:
            for _ in range(self.jobs):
                async with session.post(url, json=NEW_JOB, raise_for_status=True):
                    pass
        await self.order("fill", number=self.jobs)
        await eventually(self._all_run, within=START_SECONDS)

    async def _all_run(self) -> bool:
        return await self.sample('epochlog_jobs{status="running"}') == self.jobs

    async def sample(self, name: str) -> float:
        """Return one of the service's metrics."""
        url = f"http://127.0.0.1:{self.service.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return _samples(await answer.text())[name]

    async def cpu_seconds(self) -> float:
        """Return how much the service has computed so far."""
        return await self.sample("process_cpu_seconds_total")


def _samples(text: str) -> dict[str, float]:
    return {
        sample.name + _labels(sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _labels(labels: dict[str, str]) -> str:
    told = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{told}}}" if told else ""


async def shared_crew(stage: Stage) -> Crew:
    """Return the one service whose jobs run on the one cluster of this part."""
    if "crew" not in stage.shared:
        kubeconfig = stage.folder / f"kubeconfig-{next(stage.numbers)}"
        words = python("bench.cluster", str(kubeconfig))
        cluster = serving(*words, log=stage.folder / "cluster.log", cores=LOAD)
        port = await stage.stack.enter_async_context(cluster)
        environ = {
            "EPOCHLOG_EXECUTOR": "kubernetes",
            "EPOCHLOG_KUBE_NAMESPACE": "training",
            "KUBECONFIG": str(kubeconfig),
            "EPOCHLOG_RETRY_BACKOFF": "0",
            "EPOCHLOG_HEARTBEAT_TIMEOUT": "86400",
            "EPOCHLOG_STALL_TIMEOUT": "86400",
        }
        service = await ours.start(stage, await stage.migrated(), "on-a-cluster", environ)
        crew = Crew(service, port, QUICK_JOBS if stage.pace.quick else JOBS)
        stage.shared["crew"] = crew
        await crew.fill()
    known: Crew = stage.shared["crew"]
    return known


async def _open_pass(stage: Stage) -> Measure:
    crew = await shared_crew(stage)

    async def measure() -> Measured:
        at_rest = await _at_rest(crew, stage.pace.seconds)
        costs = []
        for _ in range(RELISTS):
            before, began = await crew.cpu_seconds(), time.monotonic()
            await crew.order("relist")
            await asyncio.sleep(APART_SECONDS)
            passed = time.monotonic() - began
            costs.append(await crew.cpu_seconds() - before - at_rest * passed)
        costs.sort()
        whole = [max(0.0, cost) + at_rest for cost in costs]
        return Measured(
            rate=crew.jobs / quantile(whole, 0.5),
            p50_ms=quantile(whole, 0.5) * 1000,
            p99_ms=quantile(whole, 0.99) * 1000,
        )

    return measure


async def _open_rest(stage: Stage) -> Measure:
    crew = await shared_crew(stage)

    async def measure() -> Measured:
        at_rest = await _at_rest(crew, stage.pace.seconds)
        return Measured(rate=crew.jobs / at_rest, p50_ms=at_rest * 1000)

    return measure


async def _at_rest(crew: Crew, seconds: float) -> float:
    """Return the CPU seconds that a second takes in which nothing happens."""
    before, began = await crew.cpu_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    spent = await crew.cpu_seconds() - before
    return max(spent, CPU_TICK) / (time.monotonic() - began)


async def _open_stirred(stage: Stage) -> Measure:
    crew = await shared_crew(stage)
    events = QUICK_EVENTS if stage.pace.quick else EVENTS

    async def measure() -> Measured:
        memory = await crew.sample("process_resident_memory_bytes")
        at_rest = await _at_rest(crew, stage.pace.seconds)
        before, began = await crew.cpu_seconds(), time.monotonic()
        await crew.order("stir", events=events, rate=EVENTS_A_SECOND)
        await asyncio.sleep(SETTLE_SECONDS)
        spent = await crew.cpu_seconds() - before - at_rest * (time.monotonic() - began)
        grown = await crew.sample("process_resident_memory_bytes") - memory
        return Measured(rate=events / max(spent, CPU_TICK), mib=grown / MIB)

    return measure


@dataclass(slots=True)
class Ear:
    """When events arrived."""

    arrived: dict[Fact, float] = field(default_factory=dict)

    def hear(self, text: str, at: float) -> None:
        """Take a message of the stream."""
        for event in orjson.loads(text)["events"]:
            self.arrived.setdefault((event["type"], event["job_id"], event["attempt"]), at)


@asynccontextmanager
async def _listening(crew: Crew) -> AsyncIterator[Ear]:
    ear = Ear()
    url = f"http://127.0.0.1:{crew.service.port}/v1/stream?after={await crew.service.head()}"
    headers = {"Authorization": f"Bearer {crew.service.api_token}"}

    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url) as socket:

        async def listen() -> None:
            async for message in socket:
                ear.hear(message.data, time.time())

        task = asyncio.create_task(listen())
        try:
            yield ear
        finally:
            task.cancel()


def _delays(type_name: str) -> Any:
    async def open_(stage: Stage) -> Measure:
        crew = await shared_crew(stage)

        async def measure() -> Measured:
            async with _listening(crew) as ear:
                seconds = stage.pace.seconds
                facts = await crew.order("play", seconds=seconds, rate=FACTS_A_SECOND)
                wanted = {
                    (fact["type"], fact["job_id"], fact["attempt"]): fact["at"]
                    for fact in facts
                    if fact["type"] == type_name
                }
                with suppress(AssertionError):  # what has not arrived is an error of the figure
                    await eventually(
                        partial(wanted.keys().__le__, ear.arrived.keys()), within=DRAIN_SECONDS
                    )
            return _measured(wanted, ear, seconds)

        return measure

    return open_


def _measured(wanted: dict[Fact, float], ear: Ear, seconds: float) -> Measured:
    if not wanted:
        raise BenchError("nothing happened in the cluster")
    delays = sorted(ear.arrived[fact] - at for fact, at in wanted.items() if fact in ear.arrived)
    missed = len(wanted) - len(delays)
    return Measured(
        rate=len(delays) / seconds,
        p50_ms=quantile(delays, 0.50) * 1000,
        p99_ms=quantile(delays, 0.99) * 1000,
        errors={"not told": missed} if missed else {},
    )


PASS = Contender("CPU of a relist, and of a second of rounds", "jobs a CPU second", _open_pass)
REST = Contender("CPU of a second in which nothing happens", "jobs a CPU second", _open_rest)
STIRRED = Contender(f"{EVENTS:,} watch events", "events a CPU second", _open_stirred)
RUNNING = Contender("a pod runs, to its event's arrival", "facts/s", _delays("running"))
EXITED = Contender("a Job fails, to its event's arrival", "facts/s", _delays("exited"))
