"""What `epochlog replay` answers about history: by other rules, by other limits, and where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from service.embedded import EmbeddedPostgres
from tests.command_line import epochlog
from tests.conftest import SECRET_KEY
from tests.http import Api
from tests.processes import ServiceProcess, living_in

RULES = '''
"""Rules that somebody would like to try."""

from dataclasses import replace

from projections.consequences import next_decision
from projections.events import AttemptFailed, FailureClass, Heartbeat
from projections.policy import Policy
from projections.status import evolve


class Strict:
    """Whatever runs out of memory once will do so again."""

    def next_decision(self, state, moment, policy):
        decision = next_decision(state, moment, policy)
        if isinstance(decision, AttemptFailed) and decision.reason == "oom":
            return replace(decision, failure_class=FailureClass.FATAL)
        return decision


class Patient:
    policy = Policy(retry_backoff=1.0)


strict, patient, no_rules = Strict(), Patient(), 7


def deaf(state, record):
    return state if isinstance(record.event, Heartbeat) and state.version else evolve(state, record)


def broken(state, record):
    raise ValueError("no such thing")
'''


@pytest.fixture
def environ(database: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "their_rules.py").write_text(RULES)
    return {
        "EPOCHLOG_DATABASE_URL": database,
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_STATE_DIR": str(tmp_path / "replay"),
        "PYTHONPATH": f"{Path.cwd()}:{Path(__file__).parents[2]}",
    }


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are started where the rules lie."""
    monkeypatch.chdir(tmp_path)


async def some_history(api: Api) -> None:
    for code in ("oom", "nan"):
        job = await api.create_job()
        await api.call_back(job, "heartbeat", {"epoch": 1})
        error = {"code": code, "message": "It failed.", "retryable": True}
        await api.call_back(job, "done", {"status": "failed", "error": error})


async def test_rules_that_decide_otherwise_name_the_jobs_and_where_they_part(
    api: Api, environ: dict[str, str]
) -> None:
    await some_history(api)

    told = await epochlog("replay", "--with", "their_rules:strict", "--json", environ=environ)
    page = await epochlog("replay", "--with", "their_rules:strict", environ=environ)

    assert (told.code, told.json["jobs"]) == (0, 2)
    [parting] = told.json["differing"]
    [failed] = await api.select("select position from events where type = 'attempt_failed' limit 1")
    assert (parting["job_id"], parting["position"]) == (1, failed["position"])
    sides = [(parting[side]["status"], parting[side]["reason"]) for side in ("recorded", "changed")]
    assert sides == [("queued", "retry_scheduled"), ("failed", "oom")]
    assert "1 of 2 jobs would have gone another way." in page.out
    assert "not_retryable" in page.out


async def test_a_difference_may_be_made_to_fail(api: Api, environ: dict[str, str]) -> None:
    await some_history(api)

    codes = [
        (await epochlog("replay", "--with", name, "--fail-on-difference", environ=environ)).code
        for name in ("their_rules:patient", "projections.status:evolve", "their_rules:deaf")
    ]

    assert codes == [1, 0, 0]  # a heartbeat that is missed changes no end


async def test_rules_that_fail_are_told_in_a_sentence(api: Api, environ: dict[str, str]) -> None:
    await some_history(api)

    ran = await epochlog("replay", "--with", "their_rules:broken", environ=environ)

    assert ran.failed_with("evolve failed at position 1 (job 1): ValueError('no such thing')")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--with", "their_rules"], "has not the form MODULE:ATTRIBUTE"),
        (["--with", "no_such_module:x"], "ModuleNotFoundError: No module named 'no_such_module'."),
        (["--with", "their_rules:nothing"], "cannot be imported"),
        (["--with", "their_rules:no_rules"], "is no rule set"),
        (["--quick"], "--quick needs --check"),
        (["--fail-on-difference"], "needs --with"),
        (["--since", "2026-01-01"], "--since needs --with or a limit"),
        (["--since", "yesterday", "--stall-timeout", "9"], "--since needs a time such as 2026"),
        (["--since", "0001-01-01", "--stall-timeout", "9"], "--since needs a time such as 2026"),
        (["--check", "--heartbeat-timeout", "9"], "exclude each other"),
        (["--with", "their_rules:strict", "--retry-backoff", "9"], "exclude each other"),
        (["--heartbeat-timeout", "0"], "--heartbeat-timeout"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_what_does_not_go_together_is_wrong_usage(
    environ: dict[str, str], words: list[str], sentence: str
) -> None:
    assert (await epochlog("replay", *words, environ=environ)).failed_with(sentence, code=2)


async def test_a_back_test_says_what_a_shorter_timeout_would_have_done(
    api: Api, database: str, environ: dict[str, str]
) -> None:
    for code in ("ended", "back"):
        job = await api.create_job()
        await api.call_back(job, "heartbeat", {"epoch": 1})
        if code == "back":
            await api.call_back(job, "heartbeat", {"epoch": 2})
        error = {"code": "x", "message": "It failed.", "retryable": False}
        await api.call_back(job, "done", {"status": "failed", "error": error})
    await spread_out(database, {1: [0, 1, 500, 501], 2: [0, 1, 301, 310, 311]})

    told = await epochlog("replay", "--heartbeat-timeout", "60", "--json", environ=environ)
    page = await epochlog("replay", "--heartbeat-timeout", "60", environ=environ)

    assert (told.code, told.json["attempts"]) == (0, 2)
    assert told.json["present"]["kills"] == 0
    other = told.json["other"]
    assert (other["kills"], len(other["false_kills"]), other["detections"]) == (2, 2, [])
    assert [kill["job_id"] for kill in other["false_kills"]] == [1, 2]
    assert other["wasted_hours"] == pytest.approx(240 / 3600)
    assert "wrongly: called back later" in page.out


async def test_a_back_test_may_leave_out_what_is_long_ago(
    api: Api, database: str, environ: dict[str, str]
) -> None:
    await some_history(api)
    [row] = await api.select("select max(recorded_at) as last from events where job_id = 1")
    job = await api.create_job()
    await api.call_back(job, "heartbeat")

    since = row["last"].isoformat()
    told = await epochlog(
        *("replay", "--stall-timeout", "60", "--json", "--since", since), environ=environ
    )

    assert told.code == 0, told
    assert told.json["attempts"] == 2


async def spread_out(url: str, seconds: dict[int, list[int]]) -> None:
    """Move the events of a job apart, behind the triggers' back: nobody can wait for so long."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("alter table events disable trigger all")
        for (table,) in await connection.fetch("select name from log_partitions"):
            await connection.execute(f"alter table {table} disable trigger all")
        for job_id, times in seconds.items():
            rows = await connection.fetch(
                "select position, type from events where job_id = $1 order by version", job_id
            )
            spread = [*times, *[times[-1]] * len(rows)]
            for row, second in zip(rows, spread, strict=False):
                await connection.execute(
                    "update events set recorded_at = '2026-01-01Z'::timestamptz"
                    " + make_interval(secs => $2) where position = $1",
                    *(row["position"], second),
                )
    finally:
        await connection.close()


# On a state folder


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


async def test_a_folder_is_replayed_beside_its_service_and_without_it(
    service: ServiceProcess,
) -> None:
    nothing = await epochlog("replay", environ=service.environ)
    assert nothing.failed_with("holds no database yet")
    service.start()
    job_id = service.submit(epochs=200, params={"seconds": 0.02})["id"]
    service.wait_for(job_id, "running")

    beside = [
        await epochlog("replay", environ=service.environ),
        await epochlog("replay", "--check", environ=service.environ),
    ]
    service.wait_for(job_id, "succeeded")
    service.wait_for_event(job_id, "exited")
    assert service.stop() == 0
    alone = [
        await epochlog("replay", environ=service.environ),
        await epochlog("replay", "--check", "--quick", environ=service.environ),
        await epochlog("replay", "--heartbeat-timeout", "5", environ=service.environ),
    ]

    assert [(one.code, one.err) for one in (*beside, *alone)] == [(0, "")] * 5
    assert all("equal" in one.out for one in (*beside, *alone[:2]))
    assert not living_in(service.state)


async def test_a_service_mends_what_an_older_build_has_folded_when_it_starts(
    service: ServiceProcess,
) -> None:
    service.start()
    job_id = service.submit(epochs=2)["id"]
    service.wait_for(job_id, "succeeded")
    await on(service, "update projections set version = 0; delete from job_spans")
    service.kill()

    service.start()

    assert "rebuilding_projections" in service.log()
    checked = await epochlog("replay", "--check", environ=service.environ)
    assert (checked.code, checked.err) == (0, "")


async def on(service: ServiceProcess, statement: str) -> None:
    connection = await asyncpg.connect(await EmbeddedPostgres(service.state / "postgres").start())
    await connection.execute(statement)
    await connection.close()
