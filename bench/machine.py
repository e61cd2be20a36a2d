"""On what a run was made: without it no figure means anything."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from bench.cores import ALL, LOAD, SERVER


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the programs of a run."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    postgres: str
    filesystem: str
    """Where PostgreSQL keeps its data: on a tmpfs nothing is durable."""
    placement: str
    load_average: float
    """How many processes wanted a core when the run began: near 0, or the figures are too low."""


async def describe(server: str, folder: Path) -> Machine:
    """Return what the run is made on."""
    connection = await asyncpg.connect(server)
    try:
        postgres = await connection.fetchval("show server_version")
    finally:
        await connection.close()
    return Machine(
        cpu=_cpu(),
        cores=len(ALL),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        postgres=str(postgres),
        filesystem=_filesystem(folder),
        load_average=round(os.getloadavg()[0], 2),
        placement=f"server on core {_list(SERVER)}, load on {_list(LOAD)}, PostgreSQL on any",
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    path = str(folder.resolve())
    found = [
        part
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath([part.mountpoint, path]) == part.mountpoint
    ]
    return max(found, key=lambda part: len(part.mountpoint)).fstype if found else "unknown"


def _list(cores: frozenset[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores))
