"""Two services on one database: one drives it, and neither takes the other's processes for gone."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsError
from service.postgres import migrate
from service.serving import serving
from service.settings import Settings
from tests.conftest import SECRET_KEY
from tests.http import Api
from tests.polling import eventually
from tests.processes import SCRIPTED, free_port


def settings_for(database: str, state: Path, port: int) -> Settings:
    return Settings.from_env(
        {
            "EPOCHLOG_STATE_DIR": str(state),
            "EPOCHLOG_DATABASE_URL": database,
            "EPOCHLOG_SECRET_KEY": SECRET_KEY,
            "EPOCHLOG_API_TOKEN": "the-same-token-for-both-of-them",
            "EPOCHLOG_PORT": str(port),
            "EPOCHLOG_TRAINER_COMMAND": f"{sys.executable} -P {SCRIPTED}",
        }
    )


async def test_only_one_drives_and_the_other_never_declares_its_processes_gone(
    database: str, tmp_path: Path
) -> None:
    first = settings_for(database, tmp_path / "first", free_port())
    second = settings_for(database, tmp_path / "second", free_port())
    async with AsyncExitStack() as stack, AsyncExitStack() as others:
        driving = await others.enter_async_context(serving(first))
        api = await stack.enter_async_context(Api(await stack.enter_async_context(serving(second))))
        job = await api.create_job(
            epochs=200, params={"notes": str(tmp_path), "seconds": 0.1}, max_retries=0
        )

        async def the_job() -> Any:
            return (await api.get(f"/v1/jobs/{job['id']}")).json

        async def runs() -> bool:
            return bool((await the_job())["status"] == "running")

        await eventually(runs)
        assert driving.url != api.service.url
        await others.aclose()

        async def is_unreachable() -> bool:
            return bool((await the_job())["health"]["verdict"] == "unreachable")

        await eventually(is_unreachable, within=20)  # the second one drives now, and cannot see it
        assert (await the_job())["status"] == "running"
        await stack.aclose()

    async with serving(first) as again, Api(again) as api:
        await api.post(f"/v1/jobs/{job['id']}/cancel")

        async def is_cancelled() -> bool:
            return bool((await api.get(f"/v1/jobs/{job['id']}")).json["status"] == "cancelled")

        await eventually(is_cancelled, within=60)
    launches = (tmp_path / "launches").read_text().splitlines()
    assert len(launches) == 1


async def test_a_state_folder_serves_one_database_only(
    database: str, empty_database: str, tmp_path: Path
) -> None:
    async with serving(settings_for(database, tmp_path / "state", 0)):
        pass
    await migrate(empty_database)
    other = settings_for(empty_database, tmp_path / "state", 0)

    with pytest.raises(SettingsError, match="EPOCHLOG_STATE_DIR needs a folder of its own"):
        async with serving(other):
            pass
