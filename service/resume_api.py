"""The route on which a trainer asks what it can go on from."""

from __future__ import annotations

from service.errors import JobNotFoundError
from service.request_schemas import NoQuery
from service.resuming import resume_of
from service.routing import Call, Reply


async def resume(call: Call[None, NoQuery]) -> Reply:
    """Show the checkpoints of the job's attempts, the newest first, and how far it was."""
    if await call.instance.store.job(call.job_id) is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    found = await resume_of(call.instance.store, call.job_id)
    return Reply(
        payload={
            "attempt": call.caller.attempt,
            "checkpoints": found.checkpoints,
            "epochs_reported": found.epochs_reported,
            "mlflow_run_id": found.mlflow_run_id,
        }
    )
