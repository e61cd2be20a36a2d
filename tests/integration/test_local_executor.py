"""The local executor with real processes: what survives, what is seen, what is never said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from projections.job import JobState
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen
from service import local, shim
from service.errors import SettingsError
from service.executor import ExecutorUnavailableError, Launch, LaunchRefusedError
from service.local import LocalExecutor
from tests.given import START
from tests.polling import eventually

JOB = JobState(id=7)
WAITS = "import time; print('started', flush=True); time.sleep(60)"
SECRET = "do-not-tell-0123456789"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

Make = Callable[..., LocalExecutor]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Executors over one folder; whatever they leave running is ended."""

    def made(code: str = WAITS, **options: Any) -> LocalExecutor:
        return LocalExecutor(folder=tmp_path, command=python(code), **options)

    yield made
    await eventually(lambda: not left_running(tmp_path))


def left_running(folder: Path) -> list[Path]:
    """The runs that live; each has just been told to end."""
    runs = [path.parent for path in folder.glob("run/*/*/claim")]
    for run in runs:
        local.end(run, force=True)
    return [run for run in runs if isinstance(local.sight(run), Alive)]


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def attempt(number: int = 1, **environment: str) -> Launch:
    return Launch(job_id=7, attempt=number, environment=environment)


def run_of(folder: Path, number: int = 1) -> Path:
    return folder / "run" / "job-7" / f"attempt-{number}"


def facts(folder: Path, name: str = "process.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_of(folder) / name).read_bytes())
    return found


async def gone(executor: LocalExecutor, number: int = 1) -> Gone:
    async def seen() -> Gone | None:
        sighting = await executor.observe(JOB, number, START)
        return sighting if isinstance(sighting, Gone) else None

    found = await eventually(seen)
    assert found is not None
    return found


async def output(executor: LocalExecutor, number: int = 1) -> str:
    """What it has written, from the first whole line on."""

    async def said() -> str | None:
        text = await executor.logs(7, number, None)
        return text if text and text.endswith("\n") else None

    found = await eventually(said)
    assert found is not None
    return found


def write_facts(folder: Path, name: str, **given: Any) -> None:
    run_of(folder).mkdir(parents=True, exist_ok=True)
    known = {"boot": shim.boot_id(), "at": time.time()} | given
    shim.record(run_of(folder) / name, known)


def waiting() -> subprocess.Popen[bytes]:
    """A process with nothing of ours about it."""
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


def dead() -> dict[str, Any]:
    """The identity of a process that is no more."""
    process = waiting()
    identity = shim.identity(process.pid)
    kill(process)
    return identity


# How an attempt ends


@pytest.mark.parametrize("code", [0, 1, 3, 255])
async def test_the_exit_code_is_seen(make: Make, code: int) -> None:
    executor = make(f"raise SystemExit({code})")
    await executor.launch(attempt())
    assert await gone(executor) == Gone(exit_code=code)


async def test_a_trainer_killed_from_outside_is_gone_by_that_signal(
    make: Make, tmp_path: Path
) -> None:
    executor = make()
    await executor.launch(attempt())
    os.kill(facts(tmp_path)["trainer"]["pid"], signal.SIGKILL)
    assert await gone(executor) == Gone(signal=signal.SIGKILL)


async def test_a_gentle_stop_asks_the_trainer_and_leaves_the_rest_to_it(make: Make) -> None:
    executor = make(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    await executor.launch(attempt())
    await output(executor)
    await executor.stop(JOB, 1, force=False)
    assert await gone(executor) == Gone(exit_code=42)


async def test_force_ends_a_trainer_that_will_not_hear(make: Make) -> None:
    executor = make(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(60)"
    )
    await executor.launch(attempt())
    await output(executor)
    await executor.stop(JOB, 1, force=False)
    assert isinstance(await executor.observe(JOB, 1, START), Alive)
    await executor.stop(JOB, 1, force=True)
    assert await gone(executor) == Gone(signal=signal.SIGKILL)


async def test_workers_end_with_their_trainer_in_whatever_session(make: Make) -> None:
    apart = "True" if sys.platform == "linux" else "False"
    executor = make(
        "import subprocess\n"
        "one = subprocess.Popen(['sleep', '60'])\n"
        f"two = subprocess.Popen(['sleep', '60'], start_new_session={apart})\n"
        "print(one.pid, two.pid, flush=True)\n"
        "import os; os._exit(0)"
    )
    await executor.launch(attempt())
    assert (await gone(executor)).exit_code == 0
    workers = [int(pid) for pid in (await output(executor)).split()]
    assert len(workers) == 2
    assert [shim.started(pid) for pid in workers] == [None, None]


async def test_where_orphans_cannot_be_adopted_the_group_ends_with_its_trainer(
    tmp_path: Path,
) -> None:
    code = (
        "import os, subprocess\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
        "os._exit(0)"
    )
    step = "shim.orphans = lambda trainer: []; shim.adopt_orphans = lambda: None"
    run = run_of(tmp_path)
    assert altered(run, step, code).wait() == 0
    worker = int((run / "log").read_bytes())
    await eventually(lambda: shim.started(worker) is None)
    assert local.sight(run) == Gone(exit_code=0)


async def test_a_command_that_is_not_there_ends_like_in_a_shell(tmp_path: Path) -> None:
    executor = LocalExecutor(folder=tmp_path, command=["/no/such/trainer"])
    await executor.launch(attempt())
    seen = await gone(executor)
    assert (seen.exit_code, seen.refused) == (127, True)
    assert "No such file or directory: /no/such/trainer." in seen.message


async def test_a_command_that_may_not_run_ends_like_in_a_shell(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("not executable")
    executor = LocalExecutor(folder=tmp_path, command=[str(program)])
    await executor.launch(attempt())
    seen = await gone(executor)
    assert (seen.exit_code, seen.refused) == (126, True)


async def test_an_end_that_cannot_be_written_at_once_is_written_later(
    make: Make, tmp_path: Path
) -> None:
    executor = make("import time; time.sleep(0.1); raise SystemExit(5)")
    await executor.launch(attempt())
    trainer = facts(tmp_path)["trainer"]["pid"]
    away = run_of(tmp_path).rename(tmp_path / "away")
    await eventually(lambda: shim.started(trainer) is None)
    run_of(tmp_path).parent.mkdir(exist_ok=True)
    away.rename(run_of(tmp_path))
    assert await gone(executor) == Gone(exit_code=5)


# At most once


async def test_two_executors_at_once_start_it_once(make: Make) -> None:
    one, two = make(slots=9), make(slots=9)
    for number in range(1, 6):
        launch = attempt(number)
        await asyncio.gather(one.launch(launch), two.launch(launch), one.launch(launch))
        assert await one.observe(JOB, number, START) == await two.observe(JOB, number, START)
        assert await output(one, number) == "started\n"


async def test_three_services_at_once_start_it_once(make: Make, tmp_path: Path) -> None:
    services = [service(tmp_path) for _ in range(3)]
    for each in services:
        await launched(each)
        kill(each)
    assert await output(make()) == "started\n"
    assert isinstance(await make().observe(JOB, 1, START), Alive)


async def test_launching_what_has_ended_starts_nothing(make: Make) -> None:
    executor = make("print('once')")
    await executor.launch(attempt())
    first = await gone(executor)
    await executor.launch(attempt())
    assert await executor.observe(JOB, 1, START) == first
    assert await output(executor) == "once\n"


async def test_a_second_shim_leaves_at_once_and_touches_nothing(make: Make, tmp_path: Path) -> None:
    await make().launch(attempt())
    before = written(run_of(tmp_path))
    again = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.shim", str(run_of(tmp_path))
    )
    assert await asyncio.wait_for(again.wait(), 10) == 0
    assert written(run_of(tmp_path)) == before


def written(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.iterdir()}


# Crashes


def service(folder: Path) -> subprocess.Popen[bytes]:
    """A process that launches attempt 1 of job 7 and then waits to be killed."""
    code = (
        "import asyncio, sys, time\n"
        "from pathlib import Path\n"
        "from service.executor import Launch\n"
        "from service.local import LocalExecutor\n"
        "folder, *command = sys.argv[1:]\n"
        "executor = LocalExecutor(folder=Path(folder), command=command)\n"
        "asyncio.run(executor.launch(Launch(job_id=7, attempt=1, environment={})))\n"
        "print('launched', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(folder), *python(WAITS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


async def launched(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"launched\n"


def kill(process: subprocess.Popen[bytes]) -> None:
    with process:
        os.killpg(process.pid, signal.SIGKILL)


async def test_an_attempt_outlives_a_killed_service_and_its_end_is_seen_by_the_next(
    make: Make, tmp_path: Path
) -> None:
    crashed = service(tmp_path)
    await launched(crashed)
    kill(crashed)
    successor = make()
    seen = await successor.observe(JOB, 1, START)
    assert isinstance(seen, Alive)
    assert seen.handle == f"pid {facts(tmp_path)['trainer']['pid']}"
    assert await successor.free_slots() == 0
    await successor.stop(JOB, 1, force=False)
    assert await gone(successor) == Gone(signal=signal.SIGTERM)
    assert await successor.free_slots() == 1


async def test_an_end_that_no_service_saw_is_still_known(make: Make, tmp_path: Path) -> None:
    crashed = service(tmp_path)
    await launched(crashed)
    kill(crashed)
    os.kill(facts(tmp_path)["trainer"]["pid"], signal.SIGUSR1)
    await eventually((run_of(tmp_path) / "exit.json").exists)
    assert await make().observe(JOB, 1, START) == Gone(signal=signal.SIGUSR1)


async def test_without_its_shim_a_trainer_goes_on_and_later_nobody_saw_its_end(
    make: Make, tmp_path: Path
) -> None:
    executor = make()
    await executor.launch(attempt())
    await output(executor)
    os.kill(facts(tmp_path)["shim"]["pid"], signal.SIGKILL)
    await eventually(lambda: shim.started(facts(tmp_path)["shim"]["pid"]) is None)
    assert isinstance(await executor.observe(JOB, 1, START), Alive)
    assert await executor.free_slots() == 0
    await executor.stop(JOB, 1, force=True)
    seen = await gone(executor)
    assert (seen.exit_code, seen.signal, seen.machine_lost) == (None, None, False)
    assert "nobody saw its end" in seen.message


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("shim.claim = die", "Unseen"),
        ("shim.adopt_orphans = die", "launch was interrupted"),
        ("shim.record = die", "launch was interrupted"),
        ("shim.record = lambda *given: (record(*given), die())", "nobody saw its end"),
        ("shim.wait = die", "Alive"),
    ],
    ids=["unclaimed", "claimed", "forked", "written down", "let go"],
)
async def test_a_shim_killed_at_any_step_never_leaves_a_trainer_unseen(
    make: Make, tmp_path: Path, step: str, expected: str
) -> None:
    run = run_of(tmp_path)
    altered(run, step, WAITS).wait()
    said = (run / "log").read_bytes
    await eventually(lambda: b"started" in said() or not naming(run))
    assert expected in repr(await make().observe(JOB, 1, START))
    assert (expected == "Alive") == (b"started" in said())


def altered(run: Path, step: str, trainer: str) -> subprocess.Popen[bytes]:
    """A shim with one step of its work replaced."""
    run.mkdir(parents=True)
    shim.record(run / "launch.json", {"command": [*python(trainer), str(run)]})
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from service import shim\n"
        "record = shim.record\n"
        "def die(*given): os.kill(os.getpid(), 9)\n"
        f"{step}\n"
        "shim.keep(Path(sys.argv[1]))\n"
    )
    with (run / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=log)


def naming(run: Path) -> list[int]:
    """The processes that have the run folder in their command line: shim, held child, trainer."""
    every = psutil.process_iter(["cmdline"])
    return [each.pid for each in every if str(run) in (each.info["cmdline"] or [])]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_shim_that_is_told_to_end_stays_with_its_trainer(
    make: Make, tmp_path: Path, number: signal.Signals
) -> None:
    executor = make()
    await executor.launch(attempt())
    os.kill(facts(tmp_path)["shim"]["pid"], number)
    await executor.stop(JOB, 1, force=True)
    assert await gone(executor) == Gone(signal=signal.SIGKILL)


async def test_between_the_trainers_death_and_its_written_end_it_is_alive(
    make: Make, tmp_path: Path
) -> None:
    executor = make()
    await executor.launch(attempt())
    process = facts(tmp_path)
    os.kill(process["shim"]["pid"], signal.SIGSTOP)
    os.kill(process["trainer"]["pid"], signal.SIGKILL)
    await eventually(lambda: shim.started(process["trainer"]["pid"]) is None)
    assert isinstance(await executor.observe(JOB, 1, START), Alive)
    os.kill(process["shim"]["pid"], signal.SIGCONT)
    assert await gone(executor) == Gone(signal=signal.SIGKILL)


async def test_an_end_written_while_we_look_is_seen(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_facts(tmp_path, "process.json", trainer=dead(), shim=shim.identity(os.getpid()))

    def leaves_as_we_look(pid: int) -> str | None:
        if pid == os.getpid():
            write_facts(tmp_path, "exit.json", exit_code=4, signal=None)
        return None

    monkeypatch.setattr(shim, "started", leaves_as_we_look)
    assert await make().observe(JOB, 1, START) == Gone(exit_code=4)


async def test_a_claim_whose_shim_is_gone_was_an_interrupted_launch(
    make: Make, tmp_path: Path
) -> None:
    write_facts(tmp_path, "claim", shim=dead())
    executor = make()
    await executor.launch(attempt())
    seen = await executor.observe(JOB, 1, START)
    assert isinstance(seen, Gone)
    assert "launch was interrupted" in seen.message
    assert await executor.free_slots() == 1


async def test_a_claim_whose_shim_lives_is_alive(make: Make, tmp_path: Path) -> None:
    write_facts(tmp_path, "claim", shim=shim.identity(os.getpid()))
    assert isinstance(await make().observe(JOB, 1, START), Alive)
    (run_of(tmp_path) / "claim").unlink()


@pytest.mark.parametrize("text", ["", "{", "[]"], ids=["empty", "cut short", "strange"])
async def test_a_damaged_claim_was_an_interrupted_launch(
    make: Make, tmp_path: Path, text: str
) -> None:
    run_of(tmp_path).mkdir(parents=True)
    (run_of(tmp_path) / "claim").write_text(text)
    seen = await make().observe(JOB, 1, START)
    assert isinstance(seen, Gone)
    assert "launch was interrupted" in seen.message


async def test_a_recycled_pid_is_not_ours_and_is_never_signalled(
    make: Make, tmp_path: Path
) -> None:
    stranger = waiting()
    impostor = shim.identity(stranger.pid) | {"start": "1"}
    write_facts(tmp_path, "process.json", trainer=impostor, shim=impostor)
    executor = make()
    assert isinstance(await executor.observe(JOB, 1, START), Gone)
    await executor.stop(JOB, 1, force=False)
    await executor.stop(JOB, 1, force=True)
    assert shim.started(stranger.pid) is not None
    kill(stranger)
    assert stranger.returncode == -signal.SIGKILL


async def test_a_zombie_is_gone(make: Make, tmp_path: Path) -> None:
    process = waiting()
    write_facts(tmp_path, "process.json", trainer=shim.identity(process.pid), shim=dead())
    executor = make()
    assert isinstance(await executor.observe(JOB, 1, START), Alive)
    os.killpg(process.pid, signal.SIGKILL)
    assert "nobody saw its end" in (await gone(executor)).message
    assert process.returncode is None  # nobody has reaped it: it is one
    process.wait()


async def test_after_a_restart_of_the_machine_it_is_lost_even_if_the_numbers_fit(
    make: Make, tmp_path: Path
) -> None:
    me = shim.identity(os.getpid())
    write_facts(tmp_path, "process.json", trainer=me, shim=me, boot="another")
    executor = make()
    seen = await executor.observe(JOB, 1, START)
    assert isinstance(seen, Gone)
    assert seen.machine_lost
    await executor.stop(JOB, 1, force=True)


async def test_without_a_boot_id_the_time_of_the_boot_tells(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shim, "boot_id", lambda: None)
    me = shim.identity(os.getpid())
    write_facts(tmp_path, "process.json", trainer=me, shim=me, at=psutil.boot_time() - 60)
    seen = await make().observe(JOB, 1, START)
    assert isinstance(seen, Gone)
    assert seen.machine_lost


async def test_an_end_written_before_the_restart_counts(make: Make, tmp_path: Path) -> None:
    write_facts(tmp_path, "process.json", trainer=dead(), shim=dead(), boot="another")
    write_facts(tmp_path, "exit.json", exit_code=0, signal=None, boot="another")
    assert await make().observe(JOB, 1, START) == Gone(exit_code=0)


async def test_files_that_cannot_be_read_say_nothing_about_the_process(
    make: Make, tmp_path: Path
) -> None:
    (run_of(tmp_path) / "exit.json").mkdir(parents=True)
    assert isinstance(await make().observe(JOB, 1, START), Unreachable)


@linux
async def test_ps_and_proc_agree_on_who_lives() -> None:
    assert shim.started_by_ps(os.getpid())
    assert shim.started_by_ps(os.getpid()) == shim.started_by_ps(os.getpid())
    zombie = waiting()
    os.killpg(zombie.pid, signal.SIGKILL)
    await eventually(lambda: shim.started_by_ps(zombie.pid) is None)
    assert shim.started(zombie.pid) is None
    zombie.wait()
    assert shim.started_by_ps(zombie.pid) is None


# What the trainer gets


async def test_the_service_keeps_its_secrets_and_settings_to_itself(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_KEY", "SECRET_KEYS_OLD", "API_TOKEN", "DATABASE_URL", "PORT"):
        monkeypatch.setenv(f"EPOCHLOG_{name}", SECRET)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    executor = make("import json, os; print(json.dumps(dict(os.environ)))")
    await executor.launch(attempt(JOB_ID="7", CALLBACK_TOKEN="t"))
    await gone(executor)
    got = json.loads(await output(executor))
    assert SECRET not in got.values()
    assert not [name for name in got if name.startswith("EPOCHLOG_")]
    assert (got["JOB_ID"], got["CALLBACK_TOKEN"], got["CUDA_VISIBLE_DEVICES"]) == ("7", "t", "1")
    assert got["WORK_DIR"] == str(tmp_path / "work" / "job-7" / "attempt-1")
    assert got["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize("access", ["keys", "presigned"])
async def test_with_signed_addresses_a_trainer_sees_no_key_of_ours(
    make: Make, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    for name in ("R2_SECRET_ACCESS_KEY", "R2_WRITE_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "the service")
    executor = make("import json, os; print(json.dumps(dict(os.environ)))")

    await executor.launch(attempt(STORAGE_ACCESS=access, R2_ENDPOINT="https://r2.example.org"))

    await gone(executor)
    got = json.loads(await output(executor))
    assert (SECRET in got.values()) == (access == "keys")
    assert got["R2_ENDPOINT"] == "https://r2.example.org"
    assert "OTEL_SERVICE_NAME" not in got


async def test_no_secret_is_in_a_file_or_a_command_line(make: Make, tmp_path: Path) -> None:
    executor = make()
    await executor.launch(attempt(CALLBACK_TOKEN=SECRET))
    await output(executor)
    process = facts(tmp_path)
    lines = [psutil.Process(process[who]["pid"]).cmdline() for who in ("shim", "trainer")]
    assert SECRET not in str(lines)
    texts = contents(tmp_path)
    assert set(texts) == {"launch.json", "claim", "process.json", "attempt-1.log"}
    assert SECRET.encode() not in b"".join(texts.values())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_the_shims_command_line_is_not_mistaken_for_the_trainers(
    make: Make, tmp_path: Path
) -> None:
    await make().launch(attempt())
    line = psutil.Process(facts(tmp_path)["shim"]["pid"]).cmdline()
    assert WAITS not in line
    assert line[-2:] == [shim.__file__, str(run_of(tmp_path))]


async def test_the_trainer_starts_clean(make: Make) -> None:
    executor = make(
        "import json, os, signal, sys\n"
        "names = 'SIGHUP', 'SIGTERM'\n"
        "print(json.dumps({\n"
        "    'blocked': len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),\n"
        "    'default': [signal.getsignal(getattr(signal, n)) == 0 for n in names],\n"
        "    'leads': os.getpid() == os.getpgid(0) == os.getsid(0),\n"
        "    'stdin': sys.stdin.read(),\n"
        "    'fds': [fd for fd in range(3, 64) if os.path.exists(f'/dev/fd/{fd}')],\n"
        "}))"
    )
    await executor.launch(attempt())
    await gone(executor)
    got = json.loads(await output(executor))
    assert got["blocked"] == 0
    assert got["default"] == [True, True]
    assert got["leads"]
    assert not got["stdin"]
    assert not got["fds"]


async def test_scratch_is_there_while_it_lives_and_removed_when_it_is_gone(
    make: Make, tmp_path: Path
) -> None:
    executor = make(
        "import os, pathlib, time\n"
        "(pathlib.Path(os.environ['WORK_DIR']) / 'dataset').write_text('big')\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    await executor.launch(attempt())
    await output(executor)
    scratch = tmp_path / "work" / "job-7" / "attempt-1"
    assert [path.name for path in scratch.iterdir()] == ["dataset"]
    await executor.stop(JOB, 1, force=True)
    await gone(executor)
    assert not scratch.exists()


@linux
async def test_no_zombie_stays_while_the_service_lives(make: Make, tmp_path: Path) -> None:
    executor = make("pass")
    await executor.launch(attempt())
    await gone(executor)
    keeper = facts(tmp_path)["shim"]["pid"]
    await eventually(lambda: not psutil.pid_exists(keeper))


# Slots


async def test_slots_are_those_not_taken_by_the_living_after_a_restart_too(make: Make) -> None:
    executor = make(slots=3)
    assert await executor.free_slots() == 3
    await executor.launch(attempt(1))
    await executor.launch(attempt(2))
    assert await executor.free_slots() == await make(slots=3).free_slots() == 1
    assert await make(slots=1).free_slots() == 0
    await executor.stop(JOB, 1, force=True)
    await gone(executor, 1)
    assert await executor.free_slots() == await make(slots=3).free_slots() == 2


async def test_finished_attempts_are_not_looked_at_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make("pass", slots=2)
    await executor.launch(attempt())
    await gone(executor)
    assert await executor.free_slots() == 2

    def looked(run: Path) -> Sighting:
        raise AssertionError(run)

    monkeypatch.setattr(local, "sight", looked)
    assert await executor.free_slots() == 2


# Logs


async def test_both_outputs_are_in_the_log_with_bad_bytes_replaced(make: Make) -> None:
    executor = make(
        "import sys\n"
        "sys.stdout.buffer.write(b'out \\xff\\n'); sys.stdout.flush()\n"
        "print('err', file=sys.stderr)"
    )
    await executor.launch(attempt())
    await gone(executor)
    assert await executor.logs(7, 1, None) == "out \ufffd\nerr\n"


@pytest.mark.parametrize(
    ("text", "tail", "expected"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 9, "a\nb\n"),
        ("a\n\n\n", 2, "\n\n"),
        ("1%\r2%\rdone\nlast\n", 2, "1%\r2%\rdone\nlast\n"),
        ("a\n", 0, ""),
        ("", 3, ""),
        ("", None, ""),
    ],
)
def test_the_tail_is_the_last_lines(
    tmp_path: Path, text: str, tail: int | None, expected: str
) -> None:
    log = tmp_path / "log"
    log.write_bytes(text.encode())
    assert local.read_end(log, tail) == expected


@pytest.mark.parametrize("tail", [1, 700, 9_000, 40_000])
def test_the_tail_of_a_long_log_is_whole_lines(tmp_path: Path, tail: int) -> None:
    log = tmp_path / "log"
    lines = [f"line {number}\n" for number in range(50_000)]
    log.write_text("".join(lines))
    assert local.read_end(log, tail) == "".join(lines[-tail:])


def test_of_a_huge_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(10 * 1024**3)  # sparse: it takes no room
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    assert local.read_end(log, None) == "last\n"
    assert local.read_end(log, 100) == "last\n"


# What is refused


def test_check_wants_a_command_that_exists(tmp_path: Path) -> None:
    executor = LocalExecutor(folder=tmp_path, command=["/no/such/trainer"])
    with pytest.raises(SettingsError, match=r"EPOCHLOG_TRAINER_COMMAND .* /no/such/trainer"):
        executor.check()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("exit 3", r"pip install 'epochlog\[trainer\]'.* EPOCHLOG_TRAINER_COMMAND"),
        ("{ echo oh; echo no; exit 1; } >&2", r"EPOCHLOG_TRAINER_COMMAND .* exit code 1: no\.$"),
    ],
    ids=["libraries missing", "broken"],
)
def test_check_asks_the_real_trainer_whether_it_could_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, expected: str
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\n[ "$*" = "-m trainer --check" ] && {answer}\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    executor = LocalExecutor(folder=tmp_path, command=[str(interpreter), "-m", "trainer"])
    with pytest.raises(SettingsError, match=expected):
        executor.check()


def test_check_wants_a_folder_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    executor = LocalExecutor(folder=tmp_path / "file" / "state", command=["/bin/sh"])
    with pytest.raises(SettingsError, match="EPOCHLOG_STATE_DIR"):
        executor.check()


async def test_a_folder_that_cannot_be_written_may_be_writable_later(tmp_path: Path) -> None:
    blocked = tmp_path / "run"
    blocked.touch()
    executor = LocalExecutor(folder=tmp_path, command=python("pass"))
    with pytest.raises(ExecutorUnavailableError):
        await executor.launch(attempt())
    assert await executor.observe(JOB, 1, START) == Unseen()
    blocked.unlink()
    await executor.launch(attempt())
    assert await gone(executor) == Gone(exit_code=0)


@pytest.mark.parametrize("value", ["a\0b", "x" * 5_000_000], ids=["a NUL", "too large"])
async def test_an_environment_that_no_process_can_have_is_refused(make: Make, value: str) -> None:
    executor = make()
    with pytest.raises(LaunchRefusedError):
        await executor.launch(attempt(BAD=value))
    assert await executor.observe(JOB, 1, START) == Unseen()


async def test_a_keeper_that_cannot_run_is_told_at_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shim, "__file__", str(tmp_path / "nowhere.py"))
    began = time.monotonic()
    with pytest.raises(ExecutorUnavailableError, match="keeper ended with 2"):
        await make().launch(attempt())
    assert time.monotonic() - began < local.LAUNCH_SECONDS / 2
