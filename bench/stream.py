"""How long after a callback's answer its event reaches the subscribers of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import LOAD
from bench.floors import bare_server, bare_trainers
from bench.load import Load, Seen, quantile
from bench.ours import send, shared_service
from bench.process import output_of, python
from bench.stage import Stage
from bench.subscribers import Heard, Watch
from bench.traffic import Trainer

SUBSCRIBERS = 100
EVENTS_A_SECOND = 1000.0
CONNECTIONS = 32
CONNECT_SECONDS = 2.0
DRAIN_SECONDS = 5.0
"""What has not arrived so long after the last answer counts as not told."""


async def _open_ours(stage: Stage) -> Measure:
    service = await shared_service(stage)
    await service.hire(CONNECTIONS)

    async def measure() -> Measured:
        path = f"/v1/stream?after={await service.head()}"
        watch = _watch(stage, service.port, path, service.api_token)
        return await _delays(stage, watch, lambda: service.fresh_trainers(CONNECTIONS))

    return measure


async def _open_bare(stage: Stage) -> Measure:
    port = await bare_server(stage)

    async def measure() -> Measured:
        watch = _watch(stage, port, "/v1/stream", "none")
        return await _delays(stage, watch, lambda: bare_trainers(CONNECTIONS))

    return measure


def _watch(stage: Stage, port: int, path: str, token: str) -> Watch:
    seconds = CONNECT_SECONDS + stage.pace.warm_up + stage.pace.seconds + DRAIN_SECONDS
    return Watch(port=port, path=path, token=token, subscribers=SUBSCRIBERS, seconds=seconds)


async def _delays(stage: Stage, watch: Watch, trainers: Callable[[], list[Trainer]]) -> Measured:
    """Let the subscribers listen while trainers call back by the clock; compare both."""
    listening = asyncio.create_task(_listen(watch))
    await asyncio.wait([listening], timeout=CONNECT_SECONDS)  # an early end is a refusal
    if not listening.done():
        seen = await send(
            Load(
                port=watch.port,
                connections=CONNECTIONS,
                seconds=stage.pace.seconds,
                warm_up=stage.pace.warm_up,
                kind="heartbeats",
                pace=EVENTS_A_SECOND,
                trainers=trainers(),
            )
        )
    heard = await listening
    if heard.refused:
        raise BenchError(f"not yet: the service answers {heard.refused} to {watch.path}.")
    return _compared(seen, heard)


async def _listen(watch: Watch) -> Heard:
    words = python("bench.subscribers")
    said = await output_of(*words, cores=LOAD, given=watch.model_dump_json().encode())
    return Heard.model_validate_json(said.removeprefix("ready\n"))


def _compared(seen: Seen, heard: Heard) -> Measured:
    answered = dict(seen.positions)
    delays = sorted(
        at - answered[position] for position, at in heard.arrivals if position in answered
    )
    missed = sum(max(0, seen.answers_in_all - told) for told in heard.told)
    wrong = {"not told": missed, "told twice or out of order": heard.disordered}
    return Measured(
        rate=len(answered) / seen.seconds,
        p50_ms=quantile(delays, 0.50) * 1000,
        p99_ms=quantile(delays, 0.99) * 1000,
        errors={**seen.errors, **{name: count for name, count in wrong.items() if count}},
        said=seen.said,
    )


OURS = Contender(f"Epochlog, answer to arrival, {SUBSCRIBERS} subscribers", "events/s", _open_ours)
BARE = Contender(
    f"bare aiohttp WebSocket, answer to arrival, {SUBSCRIBERS} subscribers", "events/s", _open_bare
)
