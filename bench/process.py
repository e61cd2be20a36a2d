"""Other processes of a run: started, waited for, and ended whatever happens."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.contender import BenchError

START_SECONDS = 120.0
END_SECONDS = 20.0
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")
ROOT = Path(__file__).parent.parent


async def output_of(
    *words: str,
    cores: frozenset[int],
    given: bytes = b"",
    folder: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    limit: float = 600.0,
) -> str:
    """Run a program to its end and return what it wrote."""

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - our own programs
            words,
            cwd=folder,
            input=given,
            capture_output=True,
            env={**os.environ, **(environ or {})},
            preexec_fn=_prepare(cores),
            timeout=limit,
            check=False,
        )

    try:  # in a thread: of megabytes that come at a program's end uvloop loses some
        ended = await asyncio.to_thread(run)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{_spoken(words)} does not end.") from None
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace")
        raise BenchError(f"{_spoken(words)} failed: {_last_line(said)}")
    return ended.stdout.decode()


@asynccontextmanager
async def serving(
    *words: str, log: Path, cores: frozenset[int], environ: Mapping[str, str] | None = None
) -> AsyncIterator[int]:
    """Run a server that says its address, `http://127.0.0.1:{port}`; its port."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            preexec_fn=_prepare(cores),
            start_new_session=True,
        )
    try:
        yield await _said_port(process, words, log)
    finally:
        await _end(process)


def python(module: str, *words: str) -> tuple[str, ...]:
    """Return the words that run one of our modules."""
    return (sys.executable, "-m", module, *words)


def _prepare(cores: frozenset[int]) -> Callable[[], None]:
    """Return what a new process does first: keep to its cores, and promise to end when we do."""

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        _libc.prctl(DEATH_SIGNAL, signal.SIGTERM)

    return prepare


async def _said_port(process: asyncio.subprocess.Process, words: tuple[str, ...], log: Path) -> int:
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                said = _URL.search(_text(log))
                if said and await _answers(int(said[1])):
                    return int(said[1])
                await asyncio.sleep(0.05)
    why = _last_line(_text(log))
    raise BenchError(f"{_spoken(words)} does not start: {why}")


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the server and whatever it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_SECONDS)


def _spoken(words: tuple[str, ...]) -> str:
    return " ".join(
        Path(words[0]).name if not number else word for number, word in enumerate(words)
    )


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:500]
