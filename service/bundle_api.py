"""The route of the incident bundle: one job, whole, as it stands now, in a zip."""

from __future__ import annotations

import asyncio
from typing import IO

from projections.job import JobState
from service.errors import JobNotFoundError
from service.executor import ExecutorUnavailableError
from service.instance import Instance
from service.packing import Packing
from service.request_schemas import NoQuery
from service.routing import Call, Reply

LOG_LINES = 5_000
MEDIA_TYPE = "application/zip"


async def export_bundle(call: Call[None, NoQuery]) -> Reply:
    """Answer with a job's incident bundle; it is made on disk before the first byte is sent."""
    job = await call.instance.store.job(call.job_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    bundle = await _pack(call.instance, job.state)
    named = f'attachment; filename="epochlog-job-{job.state.id}.zip"'
    return Reply(file=bundle, media_type=MEDIA_TYPE, headers={"Content-Disposition": named})


async def _pack(instance: Instance, job: JobState) -> IO[bytes]:
    """Return the bundle of the job as it stands at this version, whatever is recorded meanwhile.

    The folding and squeezing is done beside the event loop, which has heartbeats to answer.
    """
    store = instance.store
    with await asyncio.to_thread(Packing, instance.policy) as packing:
        async for page in store.history(job.id, position=job.position):
            await asyncio.to_thread(packing.add, page)
        for attempt in range(1, job.attempt + 1):
            text = await _log_of(instance, job.id, attempt)
            if text is not None:
                await asyncio.to_thread(packing.add_log, attempt, text)
        now = await store.now()
        return await asyncio.to_thread(
            packing.finish,
            log_id=await _log_of_job(instance, job.id),
            exported_at=now,
            moment=instance.log.senses.moment_of(job, now),
        )


async def _log_of_job(instance: Instance, job_id: int) -> str:
    """Return the log that the job's events were recorded in, which need not be this one."""
    if instance.imported is not None and instance.imported.job_id == job_id:
        return instance.imported.log_id
    return await instance.store.log_id()


async def _log_of(instance: Instance, job_id: int, attempt: int) -> str | None:
    try:
        return await instance.executor.logs(job_id, attempt, LOG_LINES)
    except ExecutorUnavailableError as error:
        return f"The output of this attempt could not be read when this was exported: {error}\n"
