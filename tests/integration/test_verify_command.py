"""`epochlog verify` as a person or a cron job runs it: beside a service, without one, anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.serving import serving
from service.settings import Settings
from tests.command_line import epochlog
from tests.conftest import SECRET_KEY
from tests.http import Api
from tests.processes import ServiceProcess, living_in
from tests.tampering import Superuser

Environ = dict[str, str]


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess(EPOCHLOG_EXECUTOR="external") as process:
        yield process


async def test_a_folder_is_verified_beside_its_service_and_without_it(
    service: ServiceProcess,
) -> None:
    service.start()
    jobs = [service.submit()["id"] for _ in range(2)]
    beside = await epochlog("verify", environ=service.environ)
    assert (beside.code, beside.err) == (0, "")
    assert service.is_ready()
    service.stop()

    alone = await epochlog("verify", environ=service.environ)
    one = await epochlog("verify", str(jobs[1]), "--json", environ=service.environ)

    assert (alone.code, alone.err) == (0, "")
    assert alone.out.startswith("whole: ")
    assert "of 2 jobs" in alone.out
    assert str(service.state / "anchors.jsonl") in " ".join(alone.out.split())
    assert one.code == 0
    assert one.json["whole"] is True
    assert (one.json["job_id"], one.json["jobs"]) == (jobs[1], 1)
    assert one.json["anchored_position"] >= one.json["position"] > 0
    assert not living_in(service.state)


@pytest.fixture
async def written(database: str, tmp_path: Path) -> Environ:
    """What a person's shell holds, beside a log that a stopped service has left."""
    environ = {
        "EPOCHLOG_STATE_DIR": str(tmp_path / "state"),
        "EPOCHLOG_DATABASE_URL": database,
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_PORT": "0",
        "EPOCHLOG_EXECUTOR": "external",
    }
    async with serving(Settings.from_env(environ)) as service, Api(service) as api:
        for _ in range(3):
            job = await api.create_job()
            await api.call_back(job, "heartbeat", {"epoch": 1})
            await api.call_back(job, "done", {"status": "succeeded"})
    return environ


async def test_a_broken_log_fails_and_the_first_fault_is_named(written: Environ) -> None:
    async with Superuser(written["EPOCHLOG_DATABASE_URL"]) as superuser:
        place = await superuser.connection.fetchval(
            "select position from events where job_id = 2 and type = 'heartbeat'"
        )
        await superuser.run("update events set data = '{}' where position = $1", place)

    told = await epochlog("verify", environ=written)
    as_json = await epochlog("verify", "--json", environ=written)
    other = await epochlog("verify", "1", environ=written)

    assert told.code == as_json.code == 1
    assert told.err == as_json.err
    assert told.err.count("\n") == 1
    assert told.err.startswith("epochlog: The log is broken: hash_differs: Version ")
    assert f"of job 2, at position {place}," in told.err
    assert told.out.startswith("broken: 1 fault in ")
    [finding] = as_json.json["findings"]
    assert finding["fault"] == "hash_differs"
    assert (finding["job_id"], finding["position"]) == (2, place)
    assert (as_json.json["whole"], as_json.json["faults"]) == (False, 1)
    assert other.code == 0


async def test_a_copy_of_the_anchors_shows_that_the_end_is_cut_off(
    written: Environ, tmp_path: Path
) -> None:
    own = tmp_path / "state" / "anchors.jsonl"
    copy = own.rename(tmp_path / "shipped.jsonl")
    async with Superuser(written["EPOCHLOG_DATABASE_URL"]) as superuser:
        end = await superuser.connection.fetchval("select max(position) from events") - 2
        await superuser.end_log_at(end)
        await superuser.run("delete from anchors where (line::jsonb ->> 'position')::int > $1", end)

    blind = await epochlog("verify", environ=written)
    seeing = await epochlog("verify", "--anchors", str(copy), environ=written)
    copy.rename(own)
    by_itself = await epochlog("verify", environ=written)

    assert blind.code == 0
    assert "no copy" in blind.out or "no anchor" in blind.out
    assert seeing.code == by_itself.code == 1
    assert "The log is cut off: anchor" in seeing.err
    assert seeing.err == by_itself.err


async def test_a_copy_in_the_folder_of_another_log_is_not_compared(
    written: Environ, tmp_path: Path
) -> None:
    (tmp_path / "state" / "log-id").write_text("01990000-0000-7000-8000-000000000000")

    told = await epochlog("verify", environ=written)

    assert told.code == 0
    assert told.err.startswith("epochlog: Warning: ")


async def test_wrong_usage_and_nothing_to_verify(written: Environ, tmp_path: Path) -> None:
    for words in (("x",), ("0",), ("1", "2"), ("--anchors", str(tmp_path / "none"))):
        assert (await epochlog("verify", *words, environ=written)).code == 2

    missing = await epochlog("verify", "99", environ=written)
    nowhere = await epochlog("verify", environ={"EPOCHLOG_STATE_DIR": str(tmp_path / "none")})

    assert missing.failed_with("There is no job 99.")
    assert nowhere.failed_with("EPOCHLOG_STATE_DIR")
