"""However long the log: the past is found by probing indexes, and by few of these probes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio

from service.statements import statement

JOBS, EVENTS = 160, 250  # each
ALIVE = 40
NAMES = ("id", "version", "attempt", "first_position")
Plan = dict[str, Any]

# Forty jobs run at a time, one cohort after the other, and each calls back in its turn.
FILL = f"""
with event as (
    select cohort * {ALIVE * EVENTS} + (version - 1) * {ALIVE} + job as position,
        cohort * {ALIVE} + job as job_id, version
    from generate_series(0, {JOBS // ALIVE - 1}) cohort, generate_series(1, {EVENTS}) version,
        generate_series(1, {ALIVE}) job
),
written as (
    insert into events (position, job_id, version, attempt, event_id, type, source, trace_id, seq,
        occurred_at, recorded_at, rule, data, hash)
    select position, job_id, version, case when version > 25 then 2 else 1 end,
        gen_random_uuid(), case version when 1 then 'created' else 'heartbeat' end, 'trainer',
        gen_random_uuid(), null, now(), now(), null,
        jsonb_build_object('epoch', version, 'padding', repeat('x', 200)), sha256('')
    from event
),
stood as (
    insert into job_spans (position, job_id, version, recorded_at, status, attempt, verdict,
        reason_code, reason_message, counts)
    select position, job_id, version, now(),
        case version when 1 then 'pending' when {EVENTS} then 'succeeded' else 'running' end,
        case when version > 25 then 2 else 1 end, 'healthy', 'reason', '', '{{}}'
    from event where version in (1, 2, 26, {EVENTS})
)
insert into jobs (id, version, position, hash, status, watched, labels, state, first_position,
    final_position)
select job_id, {EVENTS}, max(position), sha256(''), 'succeeded', false, '{{}}',
    jsonb_build_object('epochs', 90, 'padding', repeat(md5(job_id::text), 60)),
    min(position), max(position)
from event group by job_id
"""  # noqa: S608 - made of our own numbers


@pytest_asyncio.fixture
async def log(database: str) -> AsyncIterator[Any]:
    """A connection to a log of many events in several ranges, as the service reads it."""
    connection = await asyncpg.connect(database)
    for _ in range(4):
        await connection.execute(f"select add_log_partition({JOBS * EVENTS // 4 + 1})")
    await connection.execute(FILL)
    await connection.execute("update log_head set position = $1", JOBS * EVENTS)
    await connection.execute("analyze")
    await connection.execute(statement("work_as_service"))
    yield connection
    await connection.close()


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


async def _explained(log: Any, name: str, *values: Any) -> list[Plan]:
    """The nodes of the plan that was carried out, those of them that read something stored."""
    text = await log.fetchval(f"explain (analyze, format json) {statement(name)}", *values)
    nodes = _nodes(orjson.loads(text)[0]["Plan"])
    reads = ("Relation Name", "Index Name")
    return [node for node in nodes if node["Actual Loops"] and any(name in node for name in reads)]


def _read(nodes: list[Plan]) -> float:
    """How many rows were looked at."""
    read = 0.0
    for node in nodes:
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        read += rows * node["Actual Loops"]
    return read


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("share", [0.12, 0.97])
async def test_the_past_is_probed_by_indexes_only(log: Any, plans: str, share: float) -> None:
    await log.execute(f"set plan_cache_mode = {plans}")
    position = round(share * JOBS * EVENTS)
    alive = await log.fetch(statement("fleet_at"), position, 100)
    asked = [
        [row[name] for row in alive] for name in ("id", "version", "attempt", "first_position")
    ]
    assert len(alive) == ALIVE

    for name, values, most in (
        ("fleet_counts", (position,), 1),
        ("fleet_at", (position, 100), 100 + 20 * ALIVE),
        ("fleet_callbacks", (position, *asked), 20 * ALIVE),
        ("fleet_changes", (position - 100, position), 20 * ALIVE),
    ):
        async with log.transaction():
            await log.execute(statement("probe_indexes_only"))
            nodes = await _explained(log, name, *values)
        kinds = {node["Node Type"] for node in nodes if node.get("Relation Name") != "log_head"}
        assert kinds <= {"Index Scan", "Index Only Scan"}, (name, kinds)
        assert _read(nodes) <= most, (name, _read(nodes))


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("job", [1, JOBS])
async def test_of_one_job_only_its_own_events_are_read(log: Any, plans: str, job: int) -> None:
    await log.execute(f"set plan_cache_mode = {plans}")

    for name, values in (
        ("history_page", (job, 0, JOBS * EVENTS, 500)),
        ("list_events", (job, 0, None, 500)),
        ("fold_page", (job, 0, JOBS * EVENTS, 1000)),
        ("resume_page", (job, 0, 1000)),
    ):
        nodes = await _explained(log, name, *values)
        assert _read(nodes) <= 2 * EVENTS + 1, (name, _read(nodes))  # in the index, in the table
