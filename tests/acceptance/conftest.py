"""A launcher of trainers, with the service they call back to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.callback_server import CallbackServer
from tests.launcher import Launcher


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    server = CallbackServer()
    await server.start()
    launcher = Launcher(server, tmp_path)
    yield launcher
    for process in launcher.started:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await server.stop()
