"""The executor that runs each attempt as a process of this machine, kept by `service.shim`."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from projections.events import Evidence
from projections.job import JobState
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen
from service import shim
from service.errors import SettingsError
from service.executor import (
    Contact,
    ExecutorUnavailableError,
    Found,
    Launch,
    LaunchRefusedError,
    News,
)
from service.last_words import LAST_WORDS_LINES, with_last_words

Facts = dict[str, Any]

LAUNCH_SECONDS = 10.0
CHECK_SECONDS = 20.0
LIBRARIES_MISSING = 3  # what `python -m trainer --check` answers
LOG_LIMIT = 4 * 1024 * 1024
LOG_BLOCK = 64 * 1024


def log_of_attempt(folder: Path, job_id: int, attempt: int) -> Path:
    """Return where in a state folder the output of an attempt is kept."""
    return folder / "logs" / f"job-{job_id}" / f"attempt-{attempt}.log"


class LocalExecutor:
    """Runs attempts under one folder; whatever it knows of them is read from there."""

    name = "local"
    at_once = 1

    def __init__(
        self, *, folder: Path, command: Sequence[str], slots: int = 1, identity: str = ""
    ) -> None:
        """Run `command` once an attempt, at most `slots` of them at a time.

        `identity` tells this folder from that of another machine.
        """
        self.news = News()
        self.log_id = ""
        self.place = f"local:{identity}"
        self._folder = folder.absolute()
        self._command = list(command)
        self._slots = slots
        self._open: set[Path] = set()  # run folders not yet seen gone
        self._launching: set[Path] = set()
        self._scanned = False

    def check(self) -> None:
        """Raise SettingsError where the folder or the command can never serve."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"EPOCHLOG_STATE_DIR needs a folder that can be written: {error}."
            ) from error
        if not os.access(self._folder, os.W_OK):
            raise SettingsError(
                f"EPOCHLOG_STATE_DIR needs a folder that can be written, not {self._folder}."
            )
        check_command(self._command)

    async def free_slots(self) -> int:
        """Return how many more attempts may start beside those that live."""
        try:
            taken = await asyncio.to_thread(self._taken)
        except OSError as error:
            raise ExecutorUnavailableError(f"The attempts cannot be counted: {error}.") from error
        return max(0, self._slots - taken)

    async def launch(self, launch: Launch) -> None:
        """Start the attempt unless it was ever started, and return once its process is known."""
        run = self._run(launch.job_id, launch.attempt)
        self._open.add(run)
        self._launching.add(run)
        try:
            keeper = await asyncio.to_thread(self._spawn, run, launch)
            await self._started(run, keeper)
        finally:
            self._launching.discard(run)

    def place_for(self, job: JobState) -> str:  # noqa: ARG002 - all of them run here
        """Return our own state folder's identity."""
        return self.place

    def sees(self, place: str) -> bool:
        """Whether it is our own state folder."""
        return place == self.place

    def problems(self) -> Mapping[str, str]:
        """None: what cannot be read is told of each attempt."""
        return {}

    def contacts(self) -> Mapping[str, Contact]:
        """There is no cluster."""
        return {}

    def finds(self) -> Mapping[str, Sequence[Found]]:
        """Nothing: what has no log's attempt has no folder here."""
        return {}

    def launched_as(self, job_id: int, attempt: int) -> str:
        """Return a name for people: nothing is found by it."""
        return f"job-{job_id}/attempt-{attempt}"

    async def remove(self, found: Found) -> None:
        """Nothing was found."""

    async def clear(self, found: Found, attempt: int) -> bool:  # noqa: ARG002
        """Nothing was found."""
        return True

    async def follow(self) -> None:
        """There is nothing to follow: a look at the files is quick."""

    async def observe(
        self,
        job: JobState,
        attempt: int,
        now: datetime,  # noqa: ARG002 - the files know the time
    ) -> Sighting:
        """Return what can be seen of the attempt's process; once gone, its scratch is removed."""
        return await asyncio.to_thread(self._look, self._run(job.id, attempt))

    async def examine(
        self, job: JobState, attempt: int, seen: Sighting
    ) -> tuple[Sighting, Evidence | None]:
        """Keep what a process printed last before it ended badly: its log may be gone tomorrow."""
        explained = job.result is not None or job.stop is not None
        if not isinstance(seen, Gone) or seen.exit_code == 0 or seen.refused or explained:
            return seen, None
        return with_last_words(seen, await self.logs(job.id, attempt, LAST_WORDS_LINES) or "")

    async def stop(self, job: JobState, attempt: int, *, force: bool) -> None:
        """Send SIGTERM to the trainer, or SIGKILL to it and its workers."""
        try:
            await asyncio.to_thread(end, self._run(job.id, attempt), force=force)
        except OSError as error:
            raise ExecutorUnavailableError(f"The attempt cannot be told: {error}.") from error

    async def logs(self, job_id: int, attempt: int, tail: int | None) -> str | None:
        """Return the output, or its last `tail` lines; of a huge one only the last 4 MiB."""
        return await asyncio.to_thread(read_end, self._log(job_id, attempt), tail)

    def keep(self, jobs: Iterable[JobState]) -> None:
        """Nothing is known but what the files say."""

    async def close(self) -> None:
        """Nothing is held: keepers and trainers go on without the service."""

    def _run(self, job_id: int, attempt: int) -> Path:
        return self._folder / "run" / f"job-{job_id}" / f"attempt-{attempt}"

    def _log(self, job_id: int, attempt: int) -> Path:
        return log_of_attempt(self._folder, job_id, attempt)

    def _scratch(self, run: Path) -> Path:
        return self._folder / "work" / run.parent.name / run.name

    def _spawn(self, run: Path, launch: Launch) -> subprocess.Popen[bytes] | None:
        """Start a keeper for the attempt; None where it has or had one."""
        if (run / "claim").exists():
            return None
        scratch, log = self._scratch(run), self._log(launch.job_id, launch.attempt)
        try:
            for folder in (run, scratch, log.parent):
                folder.mkdir(parents=True, exist_ok=True)
            shim.record(run / "launch.json", {"command": self._command})
            environment = surroundings(launch.environment) | dict(launch.environment)
            environment |= {"WORK_DIR": str(scratch), "PYTHONUNBUFFERED": "1"}
            # One folder for all attempts of the job: a later one sends what an earlier one left.
            environment |= {"OUTBOX_DIR": str(scratch.parent / "outbox")}
            return spawn_keeper(run, log, environment)
        except ValueError as error:
            raise LaunchRefusedError(f"The trainer's environment is not valid: {error}.") from error
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise LaunchRefusedError("The trainer's environment is too large.") from error
            raise ExecutorUnavailableError(f"The attempt cannot start now: {error}.") from error

    async def _started(self, run: Path, keeper: subprocess.Popen[bytes] | None) -> None:
        """Wait until the attempt's process, or its end, is written down."""
        deadline = time.monotonic() + LAUNCH_SECONDS
        while not await asyncio.to_thread(launched, run):
            if keeper is not None and keeper.poll():
                raise ExecutorUnavailableError(
                    f"The attempt's keeper ended with {keeper.returncode}; the log says why."
                )
            if time.monotonic() > deadline:
                raise ExecutorUnavailableError(
                    f"The attempt did not start within {LAUNCH_SECONDS:g} seconds."
                )
            await asyncio.sleep(0.01)

    def _look(self, run: Path) -> Sighting:
        seen = sight(run)
        if isinstance(seen, Gone):
            shutil.rmtree(self._scratch(run), ignore_errors=True)
        return seen

    def _taken(self) -> int:
        """Count the attempts alive; those gone are never looked at again."""
        if not self._scanned:
            self._open.update((self._folder / "run").glob("job-*/attempt-*"))
            self._scanned = True
        taken = 0
        for run in tuple(self._open):
            match self._look(run):
                case Gone():
                    self._open.discard(run)
                case Unseen():
                    taken += run in self._launching
                case _:
                    taken += 1
        return taken


def check_command(command: Sequence[str]) -> None:
    """Raise SettingsError where the command is not there, or its libraries are not."""
    if not command or shutil.which(command[0]) is None:
        named = command[0] if command else "an empty one"
        raise SettingsError(f"EPOCHLOG_TRAINER_COMMAND needs a command that exists, not {named}.")
    if list(command) != [sys.executable, "-m", "trainer"]:
        return
    with suppress(subprocess.TimeoutExpired):  # slow is not missing
        ask_trainer([*command, "--check"])


def ask_trainer(command: Sequence[str]) -> None:
    """Raise SettingsError where our own trainer says that it could not train."""
    asked = subprocess.run(  # noqa: S603 - our own trainer
        command,
        env=surroundings({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=CHECK_SECONDS,
        check=False,
    )
    if asked.returncode == LIBRARIES_MISSING:
        raise SettingsError(
            "The trainer's libraries are missing: run `pip install 'epochlog[trainer]'`, "
            "or set EPOCHLOG_TRAINER_COMMAND to a command that trains."
        )
    if asked.returncode != 0:
        said = asked.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].rstrip(".")
        raise SettingsError(
            "EPOCHLOG_TRAINER_COMMAND needs a command that can run, "
            f"but the trainer's own check ended with exit code {asked.returncode}: {said}."
        )


def surroundings(launch: Mapping[str, str]) -> dict[str, str]:
    """The service's own environment without its secrets and settings.

    Keys of an object store stay out of it where the trainer gets signed addresses instead.
    """
    ours: tuple[str, ...] = ("EPOCHLOG_", "OTEL_SERVICE_NAME")
    if launch.get("STORAGE_ACCESS") == "presigned":
        ours = (*ours, "R2_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def spawn_keeper(run: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the attempt's shim in a session of its own, with the log as its output."""
    # By path and isolated: neither the folder the service runs in nor PYTHONPATH can put
    # another `service` package in the way.
    command = [sys.executable, "-I", "-S", shim.__file__, str(run)]
    with log.open("ab") as output:
        keeper = subprocess.Popen(  # noqa: S603 - our own shim
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Somebody must take its exit status, or it stays a zombie as long as the service lives.
    threading.Thread(target=keeper.wait, name=f"reap-{keeper.pid}", daemon=True).start()
    return keeper


# What the files of a run folder say


def sight(run: Path) -> Sighting:
    """What can be seen of the attempt kept in `run`."""
    try:
        seen = judge(run)
        if isinstance(seen, Gone) and seen.exit_code is None and seen.signal is None:
            # The keeper may have written the end between our look at its files and at itself.
            seen = judge(run)
    except OSError as error:
        return Unreachable(message=f"The attempt's files cannot be read: {error}.")
    return seen


def judge(run: Path) -> Sighting:
    """One look: the end if it is written, else who of trainer and keeper lives."""
    if (ended := read(run / "exit.json")) is not None:
        return Gone(
            exit_code=ended.get("exit_code"),
            signal=ended.get("signal"),
            refused=ended.get("refused", False),
            message=ended.get("message", ""),
            at=datetime.fromtimestamp(ended["at"], UTC) if "at" in ended else None,
        )
    process = read(run / "process.json")
    known = process or read(run / "claim")
    if known is None:
        return Unseen()
    if machine_restarted(known):
        return Gone(machine_lost=True, message="The machine restarted under the trainer.")
    if living(known, "trainer") or living(known, "shim"):
        # Between the trainer's death and its written end only the keeper lives.
        named = known.get("trainer") or known["shim"]
        return Alive(handle=f"pid {named['pid']}", since=datetime.fromtimestamp(known["at"], UTC))
    if process is None:
        return Gone(message="The launch was interrupted before the trainer started.")
    return Gone(message="The trainer is gone and nobody saw its end: its keeper died before it.")


def launched(run: Path) -> bool:
    """Whether the attempt's launch is over, well or badly."""
    return (run / "process.json").exists() or isinstance(sight(run), Gone)


def end(run: Path, *, force: bool) -> None:
    """Signal the attempt's trainer if it lives and is really ours."""
    process = read(run / "process.json")
    if process is None or machine_restarted(process) or not (pid := living(process, "trainer")):
        return
    with suppress(ProcessLookupError):
        if force:
            kill_group(pid)
        else:
            os.kill(pid, signal.SIGTERM)


def kill_group(leader: int) -> None:
    """Kill a trainer with its workers."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:  # just forked, its group not yet made
        os.kill(leader, signal.SIGKILL)


def read(path: Path) -> Facts | None:
    """The facts in a file; None where there is none, nothing in it where it is damaged."""
    try:
        facts = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def machine_restarted(known: Facts) -> bool:
    """Whether the machine has started anew since these facts were written."""
    before, now = known.get("boot"), shim.boot_id()
    if before and now:
        return bool(before != now)
    written: float = known.get("at", time.time())
    return psutil.boot_time() > written + 5  # clocks are set now and then


def living(known: Facts, who: str) -> int | None:
    """The pid of the `trainer` or `shim` of these facts, if that very process lives."""
    process = known.get(who) or {}
    pid: int | None = process.get("pid")
    start: str | None = process.get("start")
    return pid if pid and start and shim.started(pid) == start else None


# The log


def read_end(log: Path, lines: int | None) -> str | None:
    """The last lines of a file (of a huge one, what its last 4 MiB hold); None without a file."""
    try:
        with log.open("rb") as file:
            text = last_bytes(file, lines)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExecutorUnavailableError(f"The log cannot be read: {error}.") from error
    if lines is not None:
        kept = text.removesuffix(b"\n").split(b"\n")[-lines:] if lines > 0 else []
        text = b"\n".join(kept) + (b"\n" if kept and text.endswith(b"\n") else b"")
    return text.decode("utf-8", "replace")


def last_bytes(file: BinaryIO, lines: int | None) -> bytes:
    """The file's end, from the start of a line, with at least so many lines if it has them."""
    size = file.seek(0, os.SEEK_END)
    span = LOG_LIMIT if lines is None else LOG_BLOCK
    while True:
        start = file.seek(max(0, size - span))
        text = file.read(size - start)
        if start == 0:
            return text
        if lines is None or span >= LOG_LIMIT or text.count(b"\n") > lines + 1:
            return text.partition(b"\n")[2] or text
        span *= 2
