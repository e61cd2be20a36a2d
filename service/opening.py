"""The settings' database for a command that works on it itself, beside a service or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.embedded import EmbeddedPostgres
from service.errors import SettingsError, StateFolderInUseError
from service.settings import Settings
from service.state_folder import StateFolder

PATIENCE = 20.0
"""Seconds to wait while a short-lived service looks at the same folder."""


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncIterator[str]:
    """Yield the database's URL; the embedded server runs meanwhile, and stops where it did not.

    Raises SettingsError, StateFolderInUseError or EmbeddedPostgresError.
    """
    if settings.database_url:
        yield settings.database_url
        return
    folder = settings.state_dir / "postgres"
    if not folder.is_dir():
        raise SettingsError(
            f"EPOCHLOG_STATE_DIR needs a folder with a log: {settings.state_dir} holds no database"
            " yet; `epochlog demo` or `epochlog serve` makes one."
        )
    embedded = EmbeddedPostgres(folder)
    held = await _held(StateFolder(settings.state_dir))
    try:
        # Beside a service its server runs; starting it here could outlive both.
        yield embedded.url if held is None else await embedded.start()
    finally:
        if held is not None:
            await embedded.stop()
            held.release()


async def _held(folder: StateFolder) -> StateFolder | None:
    """Take the folder, or return None where a service runs on it."""
    end = time.monotonic() + PATIENCE
    while not folder.announced():
        try:
            folder.acquire()
        except StateFolderInUseError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)
        else:
            return folder
    return None
