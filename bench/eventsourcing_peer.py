"""The library `eventsourcing` as a contender: appending, and replaying a log."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import orjson

from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import ALL
from bench.load import quantile
from bench.process import output_of, python
from bench.stage import Stage

THREADS = 8


def appending(*, functions: bool) -> Contender:
    """Return its recorder under single appends, plain or through its database functions."""

    async def open_(stage: Stage) -> Measure:
        url = await stage.database()
        work = {"url": url, "what": "append", "threads": THREADS, "functions": functions}
        await _do(work)

        async def measure() -> Measured:
            taken = await _do({**work, "seconds": stage.pace.seconds})
            rate = len(taken) / stage.pace.seconds
            return Measured(rate, quantile(taken, 0.50) * 1000, quantile(taken, 0.99) * 1000)

        return measure

    way = "database functions" if functions else "plain"
    return Contender(f"eventsourcing, {way}, {THREADS} threads", "events/s", open_)


def replaying(events: int, jobs: int) -> Contender:
    """Return its notification log read from the start and folded to each job's status."""

    async def open_(stage: Stage) -> Measure:
        number = stage.pace.scaled(events)
        work = {"url": await stage.database(), "events": number, "jobs": jobs, "threads": 1}
        await _do({**work, "what": "fill", "functions": True})

        async def measure() -> Measured:
            return Measured(number / (await _do({**work, "what": "replay"}))[0])

        return measure

    return Contender("eventsourcing, notification log", "events/s", open_)


async def _do(work: dict[str, Any]) -> list[float]:
    """Let its process do this; return how long each took, in order of size."""
    if find_spec("eventsourcing") is None:
        raise BenchError("eventsourcing is not installed: it comes with the extra `bench`.")
    words = python("bench.eventsourcing_log")
    said = await output_of(*words, cores=ALL, given=orjson.dumps(work))
    return sorted(orjson.loads(said)["taken"])


PLAIN, WITH_FUNCTIONS = appending(functions=False), appending(functions=True)
