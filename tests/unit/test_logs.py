from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging
import structlog
from service.logs import configure_logs

configure_logs("INFO")
structlog.get_logger("ours").info("recorded", trace_id="abc-def")
try:
    raise ValueError("broken")
except ValueError:
    logging.getLogger("aiohttp.server").exception("a library's own words")
"""


def test_every_line_of_the_log_is_json_and_a_job_is_found_by_its_trace() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )

    ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert "TRACE:abc-def" in done.stderr.splitlines()[0]
    assert ours["event"] == "recorded"
    assert theirs["event"] == "a library's own words"
    assert "ValueError: broken" in theirs["exception"]
