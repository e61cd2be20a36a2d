"""Questions about the past: one job of some 500 events, and the whole fleet over a million."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import aiohttp

from bench import ours
from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import SERVER, here
from bench.load import Load, quantile
from bench.loading import history
from bench.stage import Connection, Stage, sql

EVENTS, JOBS = 1_000_000, 2_000
QUESTIONS = 2_000
"""How many different ones there are."""


async def shared_history(stage: Stage) -> str:
    """Return the URL of the one large log that contenders of this part ask."""
    if "history" not in stage.shared:
        events, jobs = stage.pace.scaled(EVENTS), stage.pace.scaled(JOBS)
        stage.shared["history"] = await history(stage, events, jobs)
    url: str = stage.shared["history"]
    return url


async def _shared_service(stage: Stage) -> ours.Service:
    if "past" not in stage.shared:
        stage.shared["past"] = await ours.start(stage, await shared_history(stage), "past")
    service: ours.Service = stage.shared["past"]
    return service


async def moments(database: Connection) -> list[tuple[int, int]]:
    """Return jobs of about 500 events, each with a position within its story."""
    rows = await database.fetch(sql("jobs_of_500"))
    dice = random.Random(1)  # noqa: S311 - the same questions every time
    chosen = [dice.choice(rows) for _ in range(QUESTIONS)]
    return [(row["id"], dice.randint(row["first"], row["last"])) for row in chosen]


async def asked(stage: Stage, service: ours.Service, paths: list[str]) -> Measure:
    """Return the measure of these questions, one after the other over one connection."""
    await _check(service, paths[0])
    load = Load(
        port=service.port,
        connections=1,
        seconds=stage.pace.seconds,
        warm_up=stage.pace.warm_up,
        kind="reads",
        paths=paths,
        token=service.api_token,
    )

    async def measure() -> Measured:
        seen = await ours.send(load)
        return seen.measured()

    return measure


async def _check(service: ours.Service, path: str) -> None:
    """Raise BenchError where the service does not know such a question."""
    url = f"http://127.0.0.1:{service.port}{path}"
    headers = {"Authorization": f"Bearer {service.api_token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        if answer.status != 200:
            raise BenchError(f"not yet: the service answers {answer.status} to GET {path}.")


async def _open_job(stage: Stage) -> Measure:
    service = await _shared_service(stage)
    questions = await moments(service.database)
    paths = [f"/v1/jobs/{job}?as_of={position}" for job, position in questions]
    return await asked(stage, service, paths)


async def _open_job_floor(stage: Stage) -> Measure:
    database = await stage.connect(await shared_history(stage))
    questions, statement = await moments(database), sql("read_job")

    async def ask() -> None:
        await database.fetch(statement, *random.choice(questions))  # noqa: S311 - no secret

    return _timed(stage, ask)


async def _open_fleet(stage: Stage) -> Measure:
    service = await _shared_service(stage)
    head = await service.head()
    paths = [f"/v1/fleet?as_of={head * number // QUESTIONS}" for number in range(1, QUESTIONS)]
    return await asked(stage, service, paths)


async def _open_fleet_floor(stage: Stage) -> Measure:
    database = await stage.connect(await shared_history(stage))
    head = await database.fetchval("select max(position) from events")
    statement = sql("count_statuses")

    async def ask() -> None:
        await database.fetch(statement, random.randint(1, head))  # noqa: S311 - no secret

    return _timed(stage, ask)


def _timed(stage: Stage, ask: Callable[[], Awaitable[None]]) -> Measure:
    """Return the measure of asking the database itself, again and again."""

    async def measure() -> Measured:
        taken: list[float] = []
        with here(SERVER):
            end = time.perf_counter() + stage.pace.seconds
            while (start := time.perf_counter()) < end:
                await ask()
                taken.append(time.perf_counter() - start)
        taken.sort()
        p50, p99 = quantile(taken, 0.50) * 1000, quantile(taken, 0.99) * 1000
        return Measured(len(taken) / sum(taken), p50, p99)

    return measure


JOB = Contender("Epochlog, one job as of a position", "answers/s", _open_job)
JOB_FLOOR = Contender("asyncpg, reading that job's events", "answers/s", _open_job_floor)
FLEET = Contender("Epochlog, the fleet as of a position", "answers/s", _open_fleet)
FLEET_FLOOR = Contender("SQL over the events up to there", "answers/s", _open_fleet_floor)
