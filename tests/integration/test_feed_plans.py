"""However long the log: a page of the feed is read from where it begins, and no further."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.test_fleet_plans import EVENTS, JOBS, _explained, _read, log

__all__ = ["log"]
LIMIT, HEAD = 200, JOBS * EVENTS


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("after", [0, HEAD // 3, HEAD - 2 * LIMIT, HEAD - 5, HEAD])
async def test_a_page_looks_at_little_more_than_it_holds(log: Any, plans: str, after: int) -> None:
    await log.execute(f"set plan_cache_mode = {plans}")
    every_other_job = list(range(1, JOBS, 2))

    for upto, job_ids in ((None, None), (HEAD, None), (HEAD - 10, None), (HEAD, every_other_job)):
        nodes = await _explained(log, "log_page", after, upto, job_ids, LIMIT)
        events = [node for node in nodes if node.get("Relation Name", "").startswith("events")]
        assert _read(events) <= 2 * LIMIT, nodes
