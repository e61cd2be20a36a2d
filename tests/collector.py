"""A collector of spans, real OTLP over HTTP: it decodes what it is sent, or is out of order."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

SERVER = Span.SPAN_KIND_SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A span as it arrived."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    kind: int
    error: str | None
    attributes: dict[str, Any]

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9


@dataclass
class Collector:
    """Where spans are sent: `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    refuses: int | None = None
    """The status with which it answers, where it takes nothing."""
    hangs: bool = False
    spans: list[Seen] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    """The path and the headers of each request, with their names in small letters."""

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def variables(self) -> dict[str, str]:
        """What tells a service to send its spans here, and soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def named(self, name: str, **attributes: Any) -> list[Seen]:
        """Return the spans of this name with these attributes, by `epochlog.` names."""
        wanted = {f"epochlog.{key}": value for key, value in attributes.items()}
        return [
            span
            for span in list(self.spans)
            if span.name == name and wanted.items() <= span.attributes.items()
        ]

    def wait_for(self, name: str, count: int = 1, **attributes: Any) -> list[Seen]:
        """Poll until so many spans of this name have come; them."""
        self.until(lambda: len(self.named(name, **attributes)) >= count)
        return self.named(name, **attributes)

    def until(self, true: Callable[[], object], within: float = 30.0) -> None:
        end = time.monotonic() + within
        while not true():
            assert time.monotonic() < end, sorted((span.name, span.service) for span in self.spans)
            time.sleep(0.02)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Note what a request holds; the status to answer."""
        self.requests.append({"path": path, **headers})
        if self.hangs:
            self._over.wait()
        if self.refuses is not None:
            return self.refuses
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.spans.extend(_spans_in(ExportTraceServiceRequest.FromString(body)))
        return 200


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = collector.take(self.path, headers, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            with suppress(ConnectionError):  # whoever did not wait for it
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    return Handler


def _spans_in(request: ExportTraceServiceRequest) -> list[Seen]:
    return [
        _seen(span, str(_attributes(told.resource.attributes)["service.name"]))
        for told in request.resource_spans
        for scope in told.scope_spans
        for span in scope.spans
    ]


def _seen(span: Span, service: str) -> Seen:
    failed = span.status.code == Status.STATUS_CODE_ERROR
    return Seen(
        name=span.name,
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        kind=span.kind,
        error=span.status.message if failed else None,
        attributes=_attributes(span.attributes),
    )


def _attributes(told: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in told}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    return getattr(value, value.WhichOneof("value") or "string_value")
