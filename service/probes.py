"""The routes by which an orchestrator sees whether the service lives, and how it does."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from service.errors import SettingsError, StoreUnavailableError
from service.request_schemas import NoQuery
from service.routing import Call, Reply

READ_SECONDS = 2.0


async def healthz(_call: Call[None, NoQuery]) -> Reply:
    """Answer: that is all it takes to be alive."""
    return Reply(payload={"status": "ok"})


async def readyz(call: Call[None, NoQuery]) -> Reply:
    """Answer once the log can be read, and say what else is wrong.

    Without a cluster callbacks still count, so that is no reason to send them elsewhere.
    """
    instance = call.instance
    try:
        await instance.database.ready()
    except SettingsError as error:
        raise StoreUnavailableError(str(error)) from error
    problems = dict(instance.executor.problems())
    clusters = {
        name: {"heard_seconds_ago": contact.heard_seconds_ago, "problem": contact.problem}
        for name, contact in instance.executor.contacts().items()
    }
    told = {"problems": problems, "clusters": clusters, "leads": instance.candidate.leads}
    return Reply(payload={"status": "degraded" if problems else "ok", **told})


async def metrics(call: Call[None, NoQuery]) -> Reply:
    """Show the counters; without those of the log while that cannot be read."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            head = await call.instance.store.head()
    except (StoreUnavailableError, TimeoutError):
        head = None
    text = call.instance.metrics.text(head)
    return Reply(text=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
