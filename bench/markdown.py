"""A run's JSON file as the tables of docs/performance.md: `python -m bench.markdown FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]


def page(run: Json) -> Iterator[str]:
    """Yield the lines that tell a run."""
    machine, pace = run["machine"], run["pace"]
    yield f"`{run['command']}`, {run['date']}, on {machine['cpu']}, {machine['cores']} cores,"
    yield f"{machine['memory_gib']} GiB, {machine['system']}, {machine['python']},"
    yield f"PostgreSQL {machine['postgres']} on {machine['filesystem']}; {machine['placement']};"
    yield f"{pace['rounds']} rounds of {pace['seconds']:g} s each, medians;"
    yield f"load average before: {machine['load_average']}."
    for part in run["parts"]:
        yield from ("", f"### {part['name']}: {part['title']}", "")
        yield from _figures(part["figures"])
        if part["ratios"]:
            yield ""
            yield from _ratios(part["ratios"])


def _figures(figures: list[Json]) -> Iterator[str]:
    yield "| | a second | p50 ms | p99 ms | MiB | errors |"
    yield "|---|---:|---:|---:|---:|---:|"
    for figure in figures:
        if "missing" in figure:
            yield f"| {figure['name']} | not had: {figure['missing']} | | | | |"
            continue
        rate = f"{figure['rate']:,.0f} {figure['unit'].removesuffix('/s')}"
        times = " | ".join(_number(figure.get(name)) for name in ("p50_ms", "p99_ms", "mib"))
        yield f"| {figure['name']} | {rate} | {times} | {sum(figure['errors'].values())} |"


def _ratios(ratios: list[Json]) -> Iterator[str]:
    yield "| ratio | of | to |"
    yield "|---:|---|---|"
    for ratio in ratios:
        by = "" if ratio["by"] == "rate" else f", {ratio['by'].removesuffix('_ms')}"
        yield f"| {ratio['value']:.2f} | {ratio['of']}{by} | {ratio['to']}{by} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    told = orjson.loads(Path(sys.argv[1]).read_bytes())
    sys.stdout.write("\n".join(page(told)) + "\n")
