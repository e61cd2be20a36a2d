"""Asks the trainer whether a data set on this disk can be trained on, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from service.figures import plural
from service.running import CommandError

MODULE = "trainer.inspection"
ANSWERED = {0, 1}


@dataclass(frozen=True, slots=True)
class Inspected:
    """The trainer's answer."""

    answer: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether it can be trained on."""
        return bool(self.answer["passed"])

    def findings(self, level: str) -> Iterator[str]:
        """Return the findings of a level, each with its place."""
        for one in self.answer["findings"]:
            if one["level"] == level:
                where = one["file"] or ""
                where += f", line {one['line']}" if one["line"] else ""
                yield f"{where}: {one['message']}" if where else str(one["message"])

    @property
    def metadata(self) -> dict[str, Any]:
        """What a manifest keeps of it."""
        names = ("task", "names", "images", "objects", "objects_of")
        return {name: self.answer[name] for name in names}

    def refusal(self) -> str:
        """Say the first error, and how many there are."""
        more = self.answer["errors"] - 1
        further = f" ({plural(more, 'further error')})" if more else ""
        return f"{next(self.findings('error')).removesuffix('.')}{further}"


async def inspect(path: Path, task: str | None) -> Inspected:
    """Return what the trainer finds in a folder or a zip. Raises CommandError."""
    words = ["--json", *(("--task", task) if task else ()), "--", str(path)]
    process = await asyncio.create_subprocess_exec(
        # -P: a folder `trainer` where somebody stands is not ours.
        *(sys.executable, "-P", "-m", MODULE, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        if process.returncode in ANSWERED:
            return Inspected(orjson.loads(out))
    except orjson.JSONDecodeError:
        pass
    last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
    raise CommandError(f"The data set could not be inspected ({last or 'no answer'}).")
