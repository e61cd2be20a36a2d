"""The command line on a state folder: what it reads there after the service has stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.command_line import epochlog, started
from tests.polling import eventually
from tests.processes import ServiceProcess, living_in


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


async def test_a_stopped_service_can_still_be_asked(service: ServiceProcess) -> None:
    service.start()
    job_id = service.submit(epochs=3)["id"]
    service.wait_for(job_id, "succeeded")
    service.wait_for_event(job_id, "exited")
    going_on = service.submit(epochs=1000, params={"seconds": 0.1})["id"]
    service.wait_for(going_on, "running")
    second = await epochlog("serve", environ=service.environ)
    assert second.code == 1
    assert "Another service" in second.err.splitlines()[-1]
    logs = await epochlog("logs", str(job_id), "--follow", environ=service.environ)
    assert logs.code == 0
    cancelled = await epochlog("cancel", str(going_on), "--wait", environ=service.environ)
    assert (cancelled.code, "cancelled" in cancelled.out) == (0, True)
    explained = service.call("GET", f"/v1/jobs/{job_id}/explain")

    assert service.stop() == 0
    assert "Epochlog serves at http://127.0.0.1:" in service.log()
    explain = await epochlog("explain", str(job_id), "--json", environ=service.environ)
    watch = await epochlog("watch", str(job_id), environ=service.environ)
    submit = await epochlog("submit", "a", "b", "--epochs", "1", environ=service.environ)

    assert explain.json == explained
    assert watch.code == 0
    assert "Epoch 3 complete" in watch.out
    assert submit.failed_with("start it with `epochlog serve`")


async def test_commands_at_once_wait_for_each_other(service: ServiceProcess) -> None:
    migrated = await epochlog("migrate", environ=service.environ)
    again = await epochlog("migrate", environ=service.environ)
    assert migrated.out.startswith("applied 0001")
    assert "up to date" in again.out

    ran = await asyncio.gather(*(epochlog("jobs", environ=service.environ) for _ in range(3)))

    assert [(one.code, one.out, one.err) for one in ran] == [(0, "There is no such job.\n", "")] * 3
    assert not living_in(service.state)


async def test_watch_outlives_a_restart_of_the_service(service: ServiceProcess) -> None:
    service.start()
    job_id = service.submit(epochs=20, params={"seconds": 0.1})["id"]
    service.wait_for(job_id, "running")
    async with started("watch", str(job_id), environ=service.environ) as watch:
        assert watch.stdout is not None
        await asyncio.wait_for(watch.stdout.readuntil(b"runs as"), 30)
        service.kill()
        await asyncio.wait_for(watch.stdout.readuntil(b"Trying again"), 30)
        service.spawn()
        out, err = await asyncio.wait_for(watch.communicate(), 60)

    assert (watch.returncode, err) == (0, b"")
    assert b"The service answers again." in out
    assert b"Epoch 20 complete" in out
    assert await eventually(lambda: service.job(job_id)["status"] == "succeeded")
