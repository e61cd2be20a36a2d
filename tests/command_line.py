"""The real command line in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

NOT_OURS = ("EPOCHLOG_", "COLUMNS")
"""Whoever runs the tests may have settings, and a terminal of any width."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    def failed_with(self, sentence: str, code: int = 1) -> bool:
        """Hold the command against how every expected failure looks: one sentence, no more."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("epochlog: "), self.err
        assert sentence in self.err, self.err
        return True


@asynccontextmanager
async def started(
    *words: str, environ: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command and end it with the block at the latest."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *words),
        env={**ours, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def epochlog(*words: str, environ: dict[str, str], within: float = 60) -> Ran:
    """Run a command to its end."""
    async with started(*words, environ=environ) as process:
        out, err = await asyncio.wait_for(process.communicate(), within)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())
