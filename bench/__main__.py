"""`python -m bench`: measure, print tables and write a JSON file; `make bench` runs it."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import uvloop
from rich.console import Console
from rich.status import Status

from bench.contender import Part
from bench.machine import describe
from bench.parts import PARTS
from bench.report import document, heading, tables
from bench.rounds import run
from bench.stage import Pace, Stage, server

RESULTS = Path(__file__).parent / "results"
FULL = Pace(seconds=5.0, warm_up=1.5, rounds=5, quick=False)
QUICK = Pace(seconds=2.0, warm_up=0.5, rounds=1, quick=True)
WIDTH = 120
"""Where the output is no terminal."""
NAMES = ", ".join(part.name for part in PARTS)

Only = Annotated[str, typer.Option(help=f"Parts to run, with commas between: {NAMES}.")]
Quick = Annotated[bool, typer.Option(help="One short round of each, and small histories.")]
Seconds = Annotated[float | None, typer.Option(help="How long a slice lasts.", min=0.1)]
Rounds = Annotated[int | None, typer.Option(help="How often each contender has its turn.", min=1)]
Out = Annotated[Path | None, typer.Option(help="The JSON file to write.")]


def bench(
    only: Only = "",
    quick: Quick = False,
    seconds: Seconds = None,
    rounds: Rounds = None,
    out: Out = None,
) -> None:
    """Measure Epochlog beside its floors and its peers, on one PostgreSQL server."""
    usual = QUICK if quick else FULL
    pace = Pace(seconds or usual.seconds, usual.warm_up, rounds or usual.rounds, quick)
    date = datetime.now(UTC)
    path = out or RESULTS / f"{date:%Y-%m-%dT%H-%M-%SZ}.json"
    try:
        uvloop.run(_run(_chosen(only), pace, f"{date:%Y-%m-%d %H:%M}Z", path))
    except asyncio.CancelledError:
        raise typer.Exit(1) from None


def _chosen(only: str) -> list[Part]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = sorted(set(names) - {part.name for part in PARTS})
    if unknown:
        raise typer.BadParameter(f"there is no part {unknown[0]}; there are {NAMES}")
    return [part for part in PARTS if not names or part.name in names]


async def _run(parts: list[Part], pace: Pace, date: str, path: Path) -> None:
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    results = []
    async with server() as (url, folder), AsyncExitStack() as stack:
        machine = await describe(url, folder)
        console.print(*heading(machine, date, command, pace), sep="\n")
        stage = Stage(url, folder, pace, stack)
        for part in parts:
            with console.status(part.name) as status:
                results.append(await run(part, stage, partial(_show, status, part.name)))
            console.print(*tables(results[-1]), sep="\n")
            _write(path, document(machine, date, command, pace, results))
    console.print(f"The figures, slice by slice: {path}")


def _show(status: Status, part: str, step: str) -> None:
    status.update(f"{part}: {step}")


def _write(path: Path, told: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(bench)
    app()
