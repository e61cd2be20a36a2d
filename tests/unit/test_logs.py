from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging
import asyncio
import structlog
from service.logs import about, configure_logs

configure_logs("INFO")
structlog.get_logger("ours").info("recorded", trace_id="abc-def")
try:
    raise ValueError("broken")
except ValueError:
    logging.getLogger("aiohttp.server").exception("a library's own words")

async def attend(job_id):
    with about(job_id, f"trace-{job_id}"):
        await asyncio.sleep(0)
        structlog.get_logger("ours").warning("stopping")

async def attend_two():
    await asyncio.gather(attend(1), attend(2))
    structlog.get_logger("ours").info("over")

asyncio.run(attend_two())
"""


def lines() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def test_every_line_of_the_log_is_json_and_a_job_is_found_by_its_trace() -> None:
    first, second, *_ = lines()

    ours, theirs = json.loads(first), json.loads(second)
    assert "[TRACE:abc-def]" in first
    assert ours["event"] == "recorded"
    assert theirs["event"] == "a library's own words"
    assert "ValueError: broken" in theirs["exception"]


def test_what_is_said_while_a_job_is_attended_to_names_it() -> None:
    *_, one, two, over = map(json.loads, lines())

    for number, told in enumerate((one, two), start=1):
        assert told["job_id"] == number
        assert told["trace"] == f"[TRACE:trace-{number}]"
    assert "job_id" not in over
