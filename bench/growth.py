"""The same questions on logs of different sizes: what costs more as the log grows, and how much."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from bench import ours
from bench.as_of import asked, moments
from bench.contender import BenchError, Contender, Measure, Measured
from bench.loading import history
from bench.stage import Stage

SIZES = (10_000, 70_000, 1_100_000)
LARGEST_QUICK = 100_000
EVENTS_A_JOB = 500
CONNECTIONS = 32


def callbacks(events: int) -> Contender:
    """Return our service on a log of this size; each slice begins with a fresh copy of it."""

    async def open_(stage: Stage) -> Measure:
        await _history(stage, events)  # made once, outside of what is measured

        async def measure() -> Measured:
            async with AsyncExitStack() as stack:
                own = replace(stage, stack=stack, shared={})
                service = await ours.start(own, await _history(own, events), f"grown_{events}")
                told = await ours.told(own, service, "heartbeats", CONNECTIONS)
                return await told()

        return measure

    return Contender(f"Epochlog, heartbeats behind {events:,} events", "requests/s", open_)


def as_of(events: int) -> Contender:
    """Return the question where one job stood, asked of a log of this size."""

    async def open_(stage: Stage) -> Measure:
        service = await ours.start(stage, await _history(stage, events), f"past_{events}")
        questions = await moments(service.database)
        paths = [f"/v1/jobs/{job}?as_of={position}" for job, position in questions]
        return await asked(stage, service, paths)

    return Contender(f"Epochlog, one job as of, in {events:,} events", "answers/s", open_)


async def _history(stage: Stage, events: int) -> str:
    if stage.pace.quick and events > LARGEST_QUICK:
        raise BenchError("left out of a quick run.")
    return await history(stage, events, events // EVENTS_A_JOB)


CALLBACKS = tuple(callbacks(size) for size in SIZES)
AS_OF = tuple(as_of(size) for size in SIZES)
