"""The aiohttp application: routes, errors in one shape, one log line a request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from logging import DEBUG, INFO, WARNING
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from service.api import ROUTES
from service.errors import ServiceError
from service.instance import Instance
from service.openapi import openapi
from service.routing import INSTANCE, MAX_BODY, endpoint
from service.traced_requests import traced
from service.views import to_json

RETRY_AFTER_SECONDS = 2
_FRAMEWORK_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger(__name__)


def build_app(instance: Instance) -> web.Application:
    """Return the application that serves this instance."""
    middlewares: list[Middleware] = [answer]
    if instance.tracing is not None:
        middlewares.insert(0, traced(instance.tracing))
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app[INSTANCE] = instance
    for route in sorted(ROUTES, key=lambda route: route.access != "callback"):
        # The router tries one after the other: what trainers call most often comes first.
        app.router.add_route(route.method, route.path, endpoint(route))
    document = to_json(openapi(ROUTES))

    async def describe(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    async def send_subscribers_away(_app: web.Application) -> None:
        instance.feed.end()

    app.router.add_route("GET", "/v1/openapi.json", describe)
    app.on_shutdown.append(send_subscribers_away)
    return app


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer, an error too; and log what was asked, what was answered and how long it took."""
    start = time.perf_counter()
    try:
        response = await handler(request)
    except Exception as error:
        response = _error_as_problem(request, error)
    level = _level_of(request, response)
    if log.is_enabled_for(level):
        log.log(
            level,
            "request",
            method=request.method,
            path=request.path,
            status=response.status,
            milliseconds=round((time.perf_counter() - start) * 1000, 1),
        )
    return response


def _error_as_problem(request: web.Request, error: Exception) -> web.Response:
    """Return any error as application/problem+json (RFC 9457), the framework's own too."""
    match error:
        case ServiceError():
            return _problem(error.status, error.code, error.detail, errors=error.errors)
        case web.HTTPException() if error.status >= 400:
            code = _FRAMEWORK_CODES.get(error.status, "http_error")
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _problem(error.status, code, _said_of(request, error), headers=allowed)
        case web.HTTPException():
            raise error
        case _:
            log.error("request_failed", method=request.method, path=request.path, exc_info=error)
            detail = "The service made a mistake; its log says more."
            return _problem(500, ServiceError.code, detail)


def _level_of(request: web.Request, response: web.StreamResponse) -> int:
    """Reading, probing and heartbeats that went well are for the debug level."""
    if response.status >= 500:
        return WARNING
    usual = request.method == "GET" or request.path.endswith(("/heartbeat", "/event"))
    return DEBUG if usual and response.status < 400 else INFO


def _said_of(request: web.Request, error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return f"There is nothing at {request.path[:200]}."
        case 405:
            return f"{request.method} is not possible at {request.path[:200]}."
        case 413:
            return "The body is larger than 256 KiB."
        case _:
            return error.reason


def _problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Any = (),
    headers: dict[str, str] | None = None,
) -> web.Response:
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        problem["errors"] = errors
    more = dict(headers or {})
    if status == 503:
        more["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=to_json(problem), status=status, content_type="application/problem+json", headers=more
    )
