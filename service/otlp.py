"""Exports spans over OTLP/HTTP. The only file that knows OpenTelemetry, loaded only where wanted.

What is exported where is said by OpenTelemetry's own variables, `OTEL_*`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import structlog

from projections.spans import Span
from service.errors import SettingsError
from service.traceparent import Parent

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import Decision
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        set_span_in_context,
    )
except ImportError as error:
    raise SettingsError(
        "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra `otel`: pip install 'epochlog[otel]'"
    ) from error

SERVICE, TRAINER = "epochlog-service", "epochlog-trainer"
COMPLAIN_SECONDS = 60.0

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}

log = structlog.get_logger(__name__)


class OtlpExporter:
    """Sends spans in batches, from a thread of its own, and drops what it cannot send."""

    def __init__(self) -> None:
        """Read the variables; raises ValueError for one that cannot be understood."""
        self._complaints = _Complaints()
        _hear(self._complaints)
        self._resource = _with_name(Resource.create(), SERVICE)
        self._trainer = self._resource.merge(Resource({SERVICE_NAME: TRAINER}))
        self._scope = InstrumentationScope("epochlog")
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        self._sender = OTLPSpanExporter()
        self._queue = BatchSpanProcessor(self._sender)

    def samples(self, trace_id: str, name: str, parent: Parent | None) -> bool:
        """Return what the sampler of `OTEL_TRACES_SAMPLER` decides."""
        context = None
        if parent is not None:
            flags = _SAMPLED if parent.sampled else TraceFlags(TraceFlags.DEFAULT)
            remote = _context(parent.trace_id, parent.span_id, is_remote=True, flags=flags)
            context = set_span_in_context(NonRecordingSpan(remote))
        result = self._sampler.should_sample(context, int(trace_id, 16), name)
        return result.decision is Decision.RECORD_AND_SAMPLE

    def export(self, span: Span) -> None:
        """Queue the span; where the queue is full, the oldest goes."""
        self._queue.on_end(self._readable(span))

    def close(self, seconds: float) -> None:
        """Export what waits; after so many seconds whoever collects it has had time enough."""
        until = time.monotonic() + seconds
        if not _done_within(self._queue.force_flush, seconds):
            log.warning("spans_lost", why="the collector did not take the last ones in time")
        self._complaints.setLevel(logging.CRITICAL)  # it complains of being shut down twice
        self._sender.shutdown()  # type: ignore[no-untyped-call] # ends the pause before a next try
        _done_within(self._queue.shutdown, max(until - time.monotonic(), 0.1))

    def _readable(self, span: Span) -> ReadableSpan:
        parent = span.parent_id
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=None if parent is None else _context(span.trace_id, parent),
            resource=self._trainer if span.by_trainer else self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.start,
            end_time=max(span.end, span.start),
            instrumentation_scope=self._scope,
        )


class _Complaints(logging.Handler):
    """Says once a minute, and not once a batch, that spans do not get through."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if record.created >= self._quiet_until:
            self._quiet_until = record.created + COMPLAIN_SECONDS
            log.warning("spans_not_exported", why=record.getMessage()[:500])


def _hear(complaints: logging.Handler) -> None:
    library = logging.getLogger("opentelemetry")
    library.handlers = [complaints]
    library.propagate = False


def _with_name(resource: Resource, name: str) -> Resource:
    """Give the resource a name, where the variables give it none."""
    named = str(resource.attributes.get(SERVICE_NAME, ""))
    return resource.merge(Resource({SERVICE_NAME: name})) if _is_default(named) else resource


def _is_default(name: str) -> bool:
    return not name or name.startswith("unknown_service")


def _context(
    trace_id: str, span_id: str, *, is_remote: bool = False, flags: TraceFlags = _SAMPLED
) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, flags)


def _done_within(work: Callable[[], object], seconds: float) -> bool:
    """Return whether it was done by then; it goes on in a thread that holds no process up."""
    thread = threading.Thread(target=work, name="spans-last", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
