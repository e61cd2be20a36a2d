"""What every executor promises, whichever it is."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from projections.job import JobState
from projections.sighting import Alive, Gone, Unseen
from service.executor import Executor, Launch
from service.external import ExternalExecutor
from service.local import LocalExecutor
from tests.given import START
from tests.polling import eventually

JOB = JobState(id=7)
WAITS = "import sys, time; print('hello'); time.sleep(60)"


def local(folder: Path) -> Executor:
    return LocalExecutor(folder=folder, command=[sys.executable, "-S", "-c", WAITS], slots=2)


def external(folder: Path) -> Executor:
    return ExternalExecutor()


@pytest.fixture(params=[local, external], ids=["local", "external"])
async def executor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Executor]:
    made: Executor = request.param(tmp_path)
    yield made
    for attempt in (1, 2):
        await made.stop(JOB, attempt, force=True)
        await eventually(partial(absent, made, attempt))
    await made.close()


async def absent(executor: Executor, attempt: int) -> bool:
    return isinstance(await executor.observe(JOB, attempt, START), Unseen | Gone)


def attempt(number: int = 1) -> Launch:
    return Launch(job_id=7, attempt=number, environment={"JOB_ID": "7"})


def test_it_has_a_name_and_its_check_passes_where_it_can_work(executor: Executor) -> None:
    assert executor.name in {"local", "external"}
    executor.check()


async def test_what_was_never_launched_is_unseen_and_has_no_logs(executor: Executor) -> None:
    assert await executor.observe(JOB, 1, START) == Unseen()
    assert await executor.logs(7, 1, None) is None
    assert await executor.logs(7, 1, 10) is None


@pytest.mark.parametrize("force", [False, True], ids=["gently", "with force"])
async def test_stopping_what_is_absent_does_nothing(executor: Executor, force: bool) -> None:
    await executor.stop(JOB, 1, force=force)
    assert await executor.observe(JOB, 1, START) == Unseen()


async def test_launching_twice_is_launching_once(executor: Executor) -> None:
    await executor.launch(attempt())
    first = await executor.observe(JOB, 1, START)
    await executor.launch(attempt())
    assert await executor.observe(JOB, 1, START) == first


async def test_attempts_are_apart(executor: Executor) -> None:
    await executor.launch(attempt(1))
    assert await executor.observe(JOB, 2, START) == Unseen()
    await executor.stop(JOB, 2, force=True)
    assert not isinstance(await executor.observe(JOB, 1, START), Gone)


async def test_a_launched_attempt_takes_one_of_the_slots_if_they_are_counted(
    executor: Executor,
) -> None:
    before = await executor.free_slots()
    await executor.launch(attempt())
    after = await executor.free_slots()
    assert (before is None and after is None) or (before, after) == (2, 1)


async def test_what_was_seen_alive_is_seen_gone_after_a_forced_stop(executor: Executor) -> None:
    await executor.launch(attempt())
    if not isinstance(await executor.observe(JOB, 1, START), Alive):
        return  # it sees nothing, so it promises nothing
    await executor.stop(JOB, 1, force=True)
    await eventually(partial(absent, executor, 1))
    assert isinstance(await executor.observe(JOB, 1, START), Gone)


async def test_closing_lets_running_attempts_go_on(executor: Executor) -> None:
    await executor.launch(attempt())
    before = await executor.observe(JOB, 1, START)
    await executor.close()
    assert await executor.observe(JOB, 1, START) == before
