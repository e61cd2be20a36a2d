"""Our own log: one JSON line a step on stderr, with [TRACE:{trace_id}] where it is about a job."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def _with_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Spell the trace as trainers do, and as Loki queries look for it: `|= "TRACE:…"`."""
    if "trace_id" in event:
        event["trace"] = f"[TRACE:{event['trace_id']}]"
    return event


SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _with_trace,
)


def about(job_id: int, trace_id: str) -> AbstractContextManager[object]:
    """Have each line that is written within it, by this task, name the job and its trace."""
    return structlog.contextvars.bound_contextvars(job_id=job_id, trace_id=trace_id)


def configure_logs(level: str) -> None:
    """Set up structlog once for this process."""
    structlog.configure(
        processors=[*SHARED, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _adopt_the_libraries_logs()


def _adopt_the_libraries_logs() -> None:
    """Have what aiohttp, asyncio and asyncpg say written as lines like ours."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
