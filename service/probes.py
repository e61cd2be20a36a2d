"""The routes by which an orchestrator sees whether the service lives and can work."""

from __future__ import annotations

from service.errors import SettingsError, StoreUnavailableError
from service.request_schemas import NoQuery
from service.routing import Call, Reply


async def healthz(_call: Call[None, NoQuery]) -> Reply:
    """Answer: that is all it takes to be alive."""
    return Reply(payload={"status": "ok"})


async def readyz(call: Call[None, NoQuery]) -> Reply:
    """Answer once the log can be read."""
    try:
        await call.instance.database.ready()
    except SettingsError as error:
        raise StoreUnavailableError(str(error)) from error
    return Reply(payload={"status": "ok"})
