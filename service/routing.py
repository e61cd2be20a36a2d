"""From a route in our table to an aiohttp handler: who calls, what they ask, what they get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.api_tokens import Role
from service.callback_tokens import CallbackClaims
from service.errors import (
    FieldError,
    ForbiddenError,
    InvalidRequestError,
    JobNotFoundError,
    PayloadTooLargeError,
    ServiceError,
    TokenMissingError,
)
from service.instance import Instance
from service.request_schemas import BIGINT, PATTERN_WORDS, NoQuery
from service.views import to_json

MAX_BODY = 256 * 1024
MAX_DEPTH = 64
MAX_HEADER = 200
BEARER = "bearer."
MAX_ERRORS, LONGEST_NAME = 50, 100  # an answer is not to be larger than the mistake
INSTANCE: web.AppKey[Instance] = web.AppKey("instance", Instance)

_NO_QUERY = NoQuery()

Body = TypeVar("Body")
Query = TypeVar("Query")


@dataclass(slots=True, kw_only=True)
class Call(Generic[Body, Query]):
    """A request that has been let in and understood."""

    instance: Instance
    body: Body
    query: Query
    headers: Mapping[str, str]
    path: Mapping[str, str]
    claims: CallbackClaims | None = None
    """Who calls back; None on the control API."""

    @property
    def caller(self) -> CallbackClaims:
        """Who calls back. Raises TokenMissingError on the control API."""
        if self.claims is None:
            raise TokenMissingError
        return self.claims

    @property
    def job_id(self) -> int:
        """The job that the address names. Raises JobNotFoundError or InvalidRequestError."""
        return job_id_in(self.path["id"])


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer: JSON, or `text`, or a `file` that is sent from where it stands and then closed."""

    payload: Any = None
    status: int = 200
    text: str | None = None
    file: IO[bytes] | None = None
    media_type: str = "application/octet-stream"
    """What the file is."""
    stream: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    """Writes the answer itself, for as long as it takes."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Body, Query]):
    """One line of the API: how it is called, by whom, and what answers."""

    method: str
    path: str
    handler: Callable[[Call[Body, Query]], Awaitable[Reply]]
    summary: str
    access: Role | str
    """A role of the control API, `callback` for trainers, or `open`."""
    body: type[Body] | None = None
    query: type[Query] = NoQuery  # type: ignore[assignment] # the default of a type variable
    answer: type[BaseModel] | None = None
    media_type: str = "text/plain"
    """What it answers in where it has no `answer`."""
    lines: type[BaseModel] | None = None
    """What each line of application/x-ndjson is, which it also answers in."""
    is_websocket: bool = False
    """It switches to a WebSocket, each message of which is an `answer`."""
    statuses: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    usual_body: Callable[[bytes], Any] | None = None
    """Reads the bytes of a usual body in one step; None where it is not a usual one."""
    takes_expired: bool = False
    """A callback token that has expired will do, as long as it may be renewed."""
    tolerant_body: bool = False
    """An empty body counts as an empty object."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers that it reads besides Authorization, and what each is for."""


def endpoint(route: Route[Any, Any]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the aiohttp handler of a route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        instance = request.app[INSTANCE]
        try:
            claims = await _let_in(instance, request, route)
            call = Call(
                instance=instance,
                body=await _body(request, route),
                query=_query(request, route.query),
                headers=request.headers,
                path=request.match_info,
                claims=claims,
            )
            reply = await route.handler(call)
        except ServiceError as error:
            if route.access == "callback":
                instance.metrics.refused(error.code)
            raise
        return _response(reply) if reply.stream is None else await reply.stream(request)

    return handle


def job_id_in(text: str) -> int:
    """Return the job id that a path names."""
    if not text.isascii() or not text.isdigit():
        wanted = FieldError("id", "needs a whole number")
        raise InvalidRequestError("The job's id must be a whole number.", errors=[wanted])
    job_id = int(text[:20])
    if job_id > BIGINT or len(text) > 20:
        raise JobNotFoundError(f"There is no job {text[:40]}.")
    return job_id


async def _let_in(
    instance: Instance, request: web.Request, route: Route[Any, Any]
) -> CallbackClaims | None:
    if route.access == "open":
        return None
    token = _subprotocol_token(request) if route.is_websocket else None
    if token is None:
        token = _bearer(request)
    if isinstance(route.access, Role):
        role = await instance.api_tokens.role_of(token)
        if role < route.access:
            needed, given = route.access.name.lower(), role.name.lower()
            raise ForbiddenError(f"This needs the role {needed}; the token's is {given}.")
        return None
    tokens = instance.callback_tokens
    claims = tokens.verify_renewable(token) if route.takes_expired else tokens.verify(token)
    claims.check_job(job_id_in(request.match_info["id"]))
    return claims


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if not token or (scheme != "Bearer" and scheme.lower() != "bearer"):
        raise TokenMissingError
    return token


def _subprotocol_token(request: web.Request) -> str | None:
    """Return the token that a browser can only offer as the name of a WebSocket protocol."""
    for name in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if name.strip().startswith(BEARER) and "Authorization" not in request.headers:
            return name.strip().removeprefix(BEARER)
    return None


async def _body(request: web.Request, route: Route[Any, Any]) -> Any:
    if route.body is None:
        return None
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise PayloadTooLargeError from error
    except ConnectionError as error:
        raise _not_json("the caller went away before its end") from error
    except web.RequestPayloadError as error:
        raise _not_json("it is not encoded as its headers say") from error
    if route.tolerant_body and not raw.strip():
        raw = b"{}"
    if route.usual_body is not None and (read := route.usual_body(raw)) is not None:
        return read
    return read_json(raw, route.body)


def read_json(raw: bytes, model: type[Body]) -> Body:
    """Return a body as its schema understands it. Raises InvalidRequestError."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _not_json(str(error)) from error
    if _may_hold_refused(raw):
        _check_values(value)
    read: Body = _validated(model, value)
    return read


def _may_hold_refused(raw: bytes) -> bool:
    """Return whether a closer look at the values is needed; for nearly every body it is not."""
    return rb"\u0000" in raw or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH


def _not_json(why: str) -> InvalidRequestError:
    wanted = FieldError("body", "needs to be JSON")
    return InvalidRequestError(f"The body is not JSON: {why}.", errors=[wanted])


def _query(request: web.Request, model: type[Any]) -> Any:
    if not request.query_string:
        return _validated(model, {}) if model is not NoQuery else _NO_QUERY
    values: dict[str, Any] = {}
    for name in request.query:
        given = request.query.getall(name)
        many = name in model.model_fields and model.model_fields[name].annotation == list[str]
        values[name] = given if many or len(given) > 1 else given[0]
    _check_values(values)
    return _validated(model, values)


def _validated(model: type[Any], value: Any) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = [
            FieldError(_place(item["loc"], value), _wanted(item))
            for item in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
        ]
        told = "; ".join(f"{item.field}: {item.message}" for item in errors[:5])
        raise InvalidRequestError(f"The request is malformed: {told}.", errors=errors) from None


def _wanted(item: ErrorDetails) -> str:
    """Return what is wanted, in words: a pattern or the name of a class says it to nobody."""
    match item["type"]:
        case "string_pattern_mismatch":
            return PATTERN_WORDS.get(item["ctx"]["pattern"], item["msg"])
        case "model_type":
            return "Input should be an object"
        case _:
            return item["msg"].removeprefix("Value error, ")


def _place(location: tuple[int | str, ...], value: Any) -> str:
    """Return where in the request the location is: pydantic's also names the kind it tried."""
    place = []
    for number, part in enumerate(location, start=1):
        in_list = isinstance(value, list) and isinstance(part, int)
        within = in_list or (isinstance(value, dict) and part in value)
        if within or number == len(location):
            place.append(str(part)[:LONGEST_NAME])
        if within:
            value = value[part]
    return ".".join(place) or "body"


def _check_values(value: Any, place: str = "body", depth: int = 0) -> None:
    """Refuse what JSON allows and PostgreSQL does not: NUL characters, and bottomless nesting."""
    if isinstance(value, str):
        if "\0" in value:
            wanted = FieldError(place, "must not contain a NUL character")
            raise InvalidRequestError(f"{place} must not contain a NUL character.", errors=[wanted])
    elif isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            wanted = FieldError(place, f"must not be nested deeper than {MAX_DEPTH} levels")
            raise InvalidRequestError(f"The body is nested too deeply at {place}.", errors=[wanted])
        within = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in within:
            inner = f"{place}.{name}" if place != "body" else str(name)
            if isinstance(name, str):
                _check_values(name, "a field's name", depth)
            _check_values(item, inner, depth + 1)


def _response(reply: Reply) -> web.Response:
    if reply.file is not None:
        return web.Response(
            body=reply.file,
            status=reply.status,
            content_type=reply.media_type,
            headers=reply.headers,
        )
    if reply.text is not None:
        return web.Response(text=reply.text, status=reply.status, headers=reply.headers)
    return web.Response(
        body=to_json(reply.payload),
        status=reply.status,
        content_type="application/json",
        headers=reply.headers,
    )
