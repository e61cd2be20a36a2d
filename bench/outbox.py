"""The trainer's outbox as a contender: filled while nobody listens, drained into the service."""

from __future__ import annotations

from pathlib import Path

from bench.contender import Contender, Measure, Measured
from bench.cores import LOAD
from bench.filling import Filled, Filling
from bench.floors import TOKEN, bare_server
from bench.ours import shared_service
from bench.process import output_of, python
from bench.stage import Stage

ITEMS = 100_000


async def _open_kept(stage: Stage) -> Measure:
    filling = Filling(kind="keep", items=stage.pace.scaled(ITEMS), folder=_folder(stage))

    async def measure() -> Measured:
        return (await _filled(filling)).measured()

    return measure


async def _open_drained(stage: Stage) -> Measure:
    service = await shared_service(stage)
    items, folder = stage.pace.scaled(ITEMS), _folder(stage)

    async def measure() -> Measured:
        job, before = await service.new_job(), await service.head()
        filling = Filling(
            kind="drain",
            items=items,
            folder=folder,
            port=service.port,
            job_id=job["id"],
            trace_id=job["trace_id"],
            token=job["callback_token"],
        )
        filled = await _filled(filling)
        lost = items - (await service.head() - before)
        return filled.measured({"not in the log": lost} if lost > 0 else {})

    return measure


async def _open_bare(stage: Stage) -> Measure:
    filling = Filling(
        kind="post",
        items=stage.pace.scaled(ITEMS),
        folder=_folder(stage),
        port=await bare_server(stage),
        token=TOKEN,
    )

    async def measure() -> Measured:
        return (await _filled(filling)).measured()

    return measure


def _folder(stage: Stage) -> Path:
    return stage.folder / f"outbox-{next(stage.numbers)}"


async def _filled(filling: Filling) -> Filled:
    """Let a process of its own do this: its memory is what is asked for."""
    given = filling.model_dump_json().encode()
    return Filled.model_validate_json(
        await output_of(*python("bench.filling"), cores=LOAD, given=given)
    )


KEPT = Contender(f"outbox, {ITEMS:,} callbacks kept", "callbacks/s", _open_kept)
DRAINED = Contender("outbox, drained into Epochlog", "callbacks/s", _open_drained)
BARE = Contender("requests, the same bodies to a bare aiohttp POST", "callbacks/s", _open_bare)
