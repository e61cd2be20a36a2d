"""Our service as a contender: one process, a fresh log, real tokens, every answer counted."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from bench.contender import Contender, Measure, Measured
from bench.cores import LOAD, SERVER
from bench.load import Load, Seen
from bench.process import output_of, python, serving
from bench.stage import Connection, Stage
from bench.traffic import EPOCHS, Trainer

SEQS_A_SLICE = 1_000_000
"""More than a job can say in one slice."""
NEW_JOB = {"dataset_id": "shapes", "model_name": "yolov8n", "epochs": EPOCHS, "max_retries": 0}


@dataclass(slots=True)
class Service:
    """A running `epochlog serve`, a way into its database, and its jobs' trainers."""

    port: int
    api_token: str
    database: Connection
    trainers: list[Trainer]
    slices: int = 0

    def fresh_trainers(self, number: int) -> list[Trainer]:
        """Return so many trainers, each with a `seq` that it has not used."""
        self.slices += 1
        seq = self.slices * SEQS_A_SLICE
        return [trainer.model_copy(update={"seq": seq}) for trainer in self.trainers[:number]]

    async def head(self) -> int:
        """Return the log's last position."""
        position = await self.database.fetchval("select max(position) from events")
        return int(position or 0)

    async def hire(self, number: int) -> None:
        """Make jobs until there are so many trainers."""
        while len(self.trainers) < number:
            job = await self.new_job()
            self.trainers.append(Trainer(job_id=job["id"], token=job["callback_token"]))

    async def new_job(self) -> Any:
        """Make a job; return it, with its callback token."""
        headers = {"Authorization": f"Bearer {self.api_token}"}
        url = f"http://127.0.0.1:{self.port}/v1/jobs"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(url, json=NEW_JOB, raise_for_status=True) as response,
        ):
            return await response.json()


async def start(
    stage: Stage, url: str, name: str = "ours", settings: Mapping[str, str] | None = None
) -> Service:
    """Serve the log of this database until the part ends."""
    api_token = secrets.token_urlsafe(32)
    environ = {
        "EPOCHLOG_DATABASE_URL": url,
        "EPOCHLOG_STATE_DIR": str(stage.folder / f"{name}-{next(stage.numbers)}"),
        "EPOCHLOG_SECRET_KEY": secrets.token_urlsafe(32),
        "EPOCHLOG_API_TOKEN": api_token,
        "EPOCHLOG_EXECUTOR": "external",
        "EPOCHLOG_PORT": "0",
        "EPOCHLOG_LOG_LEVEL": "WARNING",
        **(settings or {}),
    }
    server = serving(
        *python("service"),
        "serve",
        log=stage.folder / f"{name}.log",
        cores=SERVER,
        environ=environ,
    )
    port = await stage.stack.enter_async_context(server)
    return Service(port, api_token, await stage.connect(url), [])


async def shared_service(stage: Stage) -> Service:
    """Return the one service, on a fresh log, that contenders of this part measure in turn."""
    if "ours" not in stage.shared:
        stage.shared["ours"] = await start(stage, await stage.migrated())
    service: Service = stage.shared["ours"]
    return service


def heartbeats(connections: int) -> Contender:
    """Return our service under single heartbeats."""

    async def open_(stage: Stage) -> Measure:
        return await told(stage, await shared_service(stage), "heartbeats", connections)

    return Contender(f"Epochlog, heartbeats, {connections} connections", "requests/s", open_)


def callbacks(size: int, connections: int) -> Contender:
    """Return our service under requests of many callbacks."""

    async def open_(stage: Stage) -> Measure:
        return await told(stage, await shared_service(stage), "callbacks", connections, size)

    return Contender(
        f"Epochlog, {size} events a request, {connections} connections", "events/s", open_
    )


async def told(
    stage: Stage,
    service: Service,
    kind: Literal["heartbeats", "callbacks"],
    connections: int,
    size: int = 1,
) -> Measure:
    """Return the measure of what this service records; each connection speaks for its own job."""
    await service.hire(connections)

    async def measure() -> Measured:
        before = await service.head()
        load = Load(
            port=service.port,
            connections=connections,
            seconds=stage.pace.seconds,
            warm_up=stage.pace.warm_up,
            kind=kind,
            size=size,
            trainers=service.fresh_trainers(connections),
        )
        seen = await send(load)
        lost = seen.answers_in_all * size - (await service.head() - before)
        return seen.measured(size, {"answered, not stored": lost} if lost > 0 else {})

    return measure


async def send(load: Load) -> Seen:
    """Let the load generator's process do this."""
    said = await output_of(*python("bench.load"), cores=LOAD, given=load.model_dump_json().encode())
    return Seen.model_validate_json(said)
