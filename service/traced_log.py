"""Which span a request is, and the span of its wait for the commit."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from projections.decide import Command, ReportCallbacks
from projections.job import JobState
from projections.spans import Span, Value, attempt_span_id, job_span_id, trace_hex
from service.batch import Outcome
from service.event_log import EventLog
from service.traceparent import Parent
from service.tracing import Tracing, random_id


@dataclass(slots=True)
class TracedRequest:
    """A request under way. To which trace it belongs may be known only once it was answered."""

    tracing: Tracing
    name: str
    parent: Parent | None
    span_id: str = field(default_factory=lambda: random_id(64))
    trace_id: str = ""
    parent_id: str | None = None
    is_sampled: bool = False
    job_id: int | None = None

    def __post_init__(self) -> None:
        """Belong to what the caller names, if it does."""
        if self.parent is not None:
            self._join(self.parent.trace_id, self.parent.span_id)

    def concerns(self, state: JobState, command: Command) -> None:
        """Belong to the trace of the job that was written of, unless the caller named one."""
        self.job_id = state.id
        if not self.trace_id:
            above = (
                attempt_span_id(state.trace_id, command.attempt)
                if isinstance(command, ReportCallbacks)
                else job_span_id(state.trace_id)
            )
            self._join(trace_hex(state.trace_id), above)

    def settle(self) -> None:
        """Begin a trace, where there is still none that it belongs to."""
        if not self.trace_id:
            self._join(random_id(128), None)

    def _join(self, trace_id: str, parent_id: str | None) -> None:
        self.trace_id, self.parent_id = trace_id, parent_id
        self.is_sampled = self.tracing.exporter.samples(trace_id, self.name, self.parent)


CURRENT: ContextVar[TracedRequest | None] = ContextVar("request", default=None)


class TracedLog(EventLog):
    """A log of which each request's wait for the commit is a span."""

    __slots__ = ()

    async def handle(
        self, job_id: int | None, command: Command, term: int | None = None
    ) -> Outcome:
        """Apply the command, as every log does."""
        request = CURRENT.get()
        if request is None:  # the supervisor's own
            return await super().handle(job_id, command, term)
        start = time.time_ns()
        try:
            outcome = await super().handle(job_id, command, term)
        except Exception as error:
            request.settle()
            _export(request, start, command, error=type(error).__name__)
            raise
        request.concerns(outcome.state, command)
        _export(request, start, command, outcome)
        return outcome


def _export(
    request: TracedRequest,
    start: int,
    command: Command,
    outcome: Outcome | None = None,
    error: str | None = None,
) -> None:
    if not request.is_sampled:
        return
    attributes: dict[str, Value] = {"db.system.name": "postgresql"}
    if isinstance(command, ReportCallbacks):
        attributes["epochlog.callbacks"] = len(command.reports)
    if outcome is not None:
        attributes["epochlog.events"] = len(outcome.records)
        attributes["epochlog.position"] = outcome.state.position
        beside = request.tracing.events_beside(outcome)
        if beside is not None:
            attributes["epochlog.batch_events"] = beside
    if error is not None:
        attributes["error.type"] = error
    span = Span(
        name="append",
        trace_id=request.trace_id,
        span_id=random_id(64),
        parent_id=request.span_id,
        start=start,
        end=time.time_ns(),
        attributes=attributes,
        error=error,
    )
    request.tracing.exporter.export(span)
