"""The benchmark's own tools, at their smallest: they must not rot between two runs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import asyncpg
import orjson
import pytest
from rich.console import Console

from bench import kubernetes, outbox
from bench.contender import BenchError, Compare, Contender, Measure, Measured, Part
from bench.history import COHORT_JOBS
from bench.load import Load
from bench.loading import fill
from bench.machine import describe
from bench.markdown import page
from bench.ours import NEW_JOB, send
from bench.parts import KUBERNETES, OUTBOX
from bench.report import document, heading, tables
from bench.rounds import run
from bench.stage import Pace, Stage
from bench.subscribers import frame_in
from bench.traffic import Trainer
from projections.chain import GENESIS, link
from service.rebuilding import check
from service.records import record_of
from tests.http import Api

EVENTS = 6_000
PACE = Pace(seconds=0.3, warm_up=0.1, rounds=2, quick=True)


async def trainers(api: Api, number: int) -> list[Trainer]:
    made = [(await api.post("/v1/jobs", NEW_JOB)).json for _ in range(number)]
    return [Trainer(job_id=job["id"], token=job["callback_token"]) for job in made]


def load(api: Api, crew: list[Trainer], size: int = 1) -> Load:
    return Load(
        port=int(api.service.url.rpartition(":")[2]),
        connections=len(crew),
        seconds=PACE.seconds,
        warm_up=PACE.warm_up,
        kind="heartbeats" if size == 1 else "callbacks",
        size=size,
        trainers=crew,
    )


@pytest.mark.parametrize("size", [1, 5])
async def test_every_answer_that_the_load_generator_counts_is_in_the_log(
    api: Api, database: str, size: int
) -> None:
    seen = await send(load(api, await trainers(api, 3), size))
    connection = await asyncpg.connect(database)
    stored = await connection.fetchval("select count(*) from events where type = 'heartbeat'")
    await connection.close()
    assert seen.errors == {}
    assert seen.answers > 0
    assert stored == seen.answers_in_all * size


async def test_an_answer_that_is_no_200_is_an_error(api: Api) -> None:
    (trainer,) = await trainers(api, 1)
    seen = await send(load(api, [trainer.model_copy(update={"token": "wrong"})]))
    assert set(seen.errors) == {"401"}
    assert seen.answers_in_all == 0
    assert "token_invalid" in seen.said


async def test_a_made_history_is_one_that_the_service_would_have_written(
    empty_database: str,
) -> None:
    await fill(empty_database, EVENTS, COHORT_JOBS + 10)  # in two cohorts
    assert (await check(empty_database)).is_clean
    connection = await asyncpg.connect(empty_database)
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=str, decoder=orjson.loads, format="text"
    )
    rows = await connection.fetch("select * from events order by job_id, version")
    await connection.close()
    records = [record_of(row) for row in rows]
    assert sorted(record.position for record in records) == list(range(1, EVENTS + 1))
    for _, story in groupby(records, key=attrgetter("job_id")):
        last = GENESIS
        for record in story:
            assert record.hash == link(record, last)
            last = record.hash


async def test_a_run_is_told_as_a_table_and_as_json(postgres: str, tmp_path: Path) -> None:
    async def twice(_stage: Stage) -> Measure:
        return measured(200.0)

    async def once(_stage: Stage) -> Measure:
        return measured(100.0)

    async def never(_stage: Stage) -> Measure:
        raise BenchError("there is none here.")

    fast, floor = Contender("fast", "events/s", twice), Contender("floor", "events/s", once)
    missing = Contender("missing", "events/s", never)
    ratios = (Compare(fast, floor), Compare(fast, missing))
    part = Part("example", "how it is told", (floor, fast, missing), ratios)
    async with AsyncExitStack() as stack:
        result = await run(part, Stage(postgres, tmp_path, PACE, stack), lambda _step: None)
    machine = await describe(postgres, tmp_path)
    told = document(machine, "today", "make bench", PACE, [result])
    (told_part,) = told["parts"]
    assert [ratio["value"] for ratio in told_part["ratios"]] == [2.0]
    assert told_part["figures"][2]["missing"] == "there is none here."
    assert orjson.loads(orjson.dumps(told)) == told
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(*heading(machine, "today", "make bench", PACE), *tables(result), sep="\n")
    text = console.export_text()
    console.file.close()
    assert "2.00 = fast / floor" in text
    assert "not had: there is none here." in text
    assert "| 2.00 | fast | floor |" in list(page(told))


async def test_what_happens_in_the_benchmarks_cluster_is_told_with_its_delay(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"QUICK_JOBS": 5, "QUICK_EVENTS": 50, "RELISTS": 1, "APART_SECONDS": 0.5}
    for name, number in few.items():
        monkeypatch.setattr(kubernetes, name, number)
    async with AsyncExitStack() as stack:
        stage = Stage(postgres, tmp_path, replace(PACE, rounds=1), stack)
        result = await run(KUBERNETES, stage, lambda _step: None)
    for figure in result.figures:
        assert figure.missing == ""
        assert figure.errors == {}
        assert all(one.rate > 0 for one in figure.slices)
    delays = [figure.typical("p99_ms") for figure in result.figures if figure.unit == "facts/s"]
    assert len(delays) == 2
    assert all(delay and delay > 0 for delay in delays)


async def test_what_the_benchmarks_outbox_held_is_in_the_log(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "ITEMS", 6_000)  # of which a quick run takes a tenth
    async with AsyncExitStack() as stack:
        stage = Stage(postgres, tmp_path, replace(PACE, rounds=1), stack)
        result = await run(OUTBOX, stage, lambda _step: None)
    for figure in result.figures:
        assert (figure.missing, figure.errors) == ("", {})
        assert all(one.rate > 0 for one in figure.slices)


def measured(rate: float) -> Measure:
    async def measure() -> Measured:
        return Measured(rate, 1.0, 2.0)

    return measure


@pytest.mark.parametrize("length", [0, 5, 125, 126, 65_535, 65_536])
def test_a_subscriber_takes_whole_frames_of_any_length(length: int) -> None:
    head = bytes([0x81])
    if length < 126:
        head += bytes([length])
    elif length < 1 << 16:
        head += bytes([126]) + length.to_bytes(2, "big")
    else:
        head += bytes([127]) + length.to_bytes(8, "big")
    frame = head + b"x" * length
    assert frame_in(frame + b"more") == (1, len(head), len(frame))
    assert frame_in(frame[:-1]) is None
