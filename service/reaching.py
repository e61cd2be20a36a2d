"""Which service answers a command: the one that runs, or a short-lived one on the same folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from service.client import Client, ClientError
from service.errors import StateFolderInUseError
from service.settings import Settings
from service.state_folder import StateFolder

if TYPE_CHECKING:
    from service.serving import Serving

PATIENCE = 20.0
"""Seconds to wait while another short-lived service looks at the same folder."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A service that answers, and whether it also launches and decides."""

    client: Client
    drives: bool


@asynccontextmanager
async def reach(settings: Settings, *, reading: bool) -> AsyncIterator[Reached]:
    """Reach the running service; where none runs, reading is answered from the folder itself.

    Raises ClientError, or what `serving` raises.
    """
    if _names_a_service(settings) or not reading or _announced(settings):
        async with Client(lambda: address(settings), token(settings)) as client:
            yield Reached(client, drives=True)
        return
    if not (settings.state_dir / "postgres").is_dir():
        raise ClientError(
            f"There is nothing to read: {settings.state_dir} holds no database yet;"
            " `epochlog demo` or `epochlog serve` makes one."
        )
    async with _answering(settings) as reached:
        yield reached


def address(settings: Settings) -> str:
    """Return where the service is that runs now, or raise ClientError."""
    if settings.public_url:
        return settings.public_url
    if announced := _announced(settings):
        return announced
    if settings.database_url and settings.port:
        return settings.local_url(settings.port)
    raise ClientError(
        f"No service runs on the state folder {settings.state_dir}; start it with `epochlog serve`."
    )


def token(settings: Settings) -> str:
    """Return the API token to show, or raise ClientError where none is known."""
    if settings.api_token:
        return settings.api_token
    if not (settings.state_dir / "api-token").exists():
        address(settings)  # that no service runs is the better sentence
        raise ClientError(
            "EPOCHLOG_API_TOKEN needs a token of the service,"
            f" as the state folder {settings.state_dir} holds none."
        )
    return StateFolder(settings.state_dir).api_token()


@asynccontextmanager
async def _answering(settings: Settings) -> AsyncIterator[Reached]:
    """Answer from the folder's own database, one command after the other."""
    # A whole service takes long to import, and most commands find one that runs.
    from service.logs import configure_logs  # noqa: PLC0415
    from service.serving import serving  # noqa: PLC0415

    configure_logs("CRITICAL")
    async with AsyncExitStack() as stack:
        service = await _enter(stack, settings, partial(serving, settings, drive=False))
        client = Client(lambda: service.url, service.api_token)
        yield Reached(await stack.enter_async_context(client), drives=False)


async def _enter(
    stack: AsyncExitStack,
    settings: Settings,
    serving: Callable[[], AbstractAsyncContextManager[Serving]],
) -> Serving:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await stack.enter_async_context(serving())
        except StateFolderInUseError:
            if _announced(settings) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def _announced(settings: Settings) -> str | None:
    return StateFolder(settings.state_dir).announced()


def _names_a_service(settings: Settings) -> bool:
    return bool(settings.public_url or settings.database_url)
