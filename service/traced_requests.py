"""The span of each request to the API."""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from projections.spans import Span, Value
from service.traced_log import CURRENT, TracedRequest
from service.traceparent import HEADER, parent_in
from service.tracing import Tracing

_TRACED = "/v1/"
_UNTRACED = "/v1/openapi.json"


def traced(tracing: Tracing) -> Middleware:
    """Return the middleware that makes a span of each request, within what its caller names."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        if not route.startswith(_TRACED) or route == _UNTRACED:
            return await handler(request)
        parent = parent_in(request.headers.getall(HEADER, []))
        current = TracedRequest(tracing, f"{request.method} {route}", parent)
        token, start, status = CURRENT.set(current), time.time_ns(), None
        try:
            response = await handler(request)
            status = response.status
        finally:
            CURRENT.reset(token)
            current.settle()
            if current.is_sampled:
                tracing.exporter.export(_span(current, request, route, start, status))
        return response

    return trace


def _span(
    current: TracedRequest, request: web.Request, route: str, start: int, status: int | None
) -> Span:
    attributes: dict[str, Value] = {
        "http.request.method": request.method,
        "http.route": route,
        "url.path": request.path,
        "url.scheme": request.scheme,
    }
    error = None
    if status is None:
        error = attributes["error.type"] = "cancelled"  # the caller went away
    else:
        attributes["http.response.status_code"] = status
        if status >= 500:
            attributes["error.type"] = str(status)
            error = f"HTTP {status}"
    job_id = current.job_id if current.job_id is not None else _named(request)
    if job_id is not None:
        attributes["epochlog.job_id"] = job_id
    return Span(
        name=current.name,
        trace_id=current.trace_id,
        span_id=current.span_id,
        parent_id=current.parent_id,
        start=start,
        end=time.time_ns(),
        attributes=attributes,
        error=error,
        kind="server",
    )


def _named(request: web.Request) -> int | None:
    """Return the job that the address names."""
    text = request.match_info.get("id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
