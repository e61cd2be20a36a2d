"""The control API as the command line calls it: a method a route, one error for what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError

Json = dict[str, Any]
Shape = TypeVar("Shape", bound=BaseModel)

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
LONG_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=600)
PIECE = 256 * 1024
WRONG_REQUEST = 400
PASSING = frozenset({502, 503, 504})


class ClientError(Exception):
    """The service did not do what it was asked; the message is one sentence."""

    def __init__(self, sentence: str, *, status: int | None = None) -> None:
        """Take the sentence, and the answer's status where there was an answer."""
        self.status = status
        super().__init__(sentence)

    @property
    def is_wrong_usage(self) -> bool:
        """Whether the request itself was malformed."""
        return self.status == WRONG_REQUEST

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status is None or self.status in PASSING


class Client:
    """Talks to the service that `address` names, asked anew each time: a restart may move it."""

    def __init__(self, address: Callable[[], str], token: str) -> None:
        """Take where the service is and the token to show; nothing is sent yet."""
        self._address = address
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT
        )

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        await self._session.close()

    async def submit(self, new: Json, *, key: str | None = None) -> Json:
        """Make a job; the same key and body again return the same job."""
        if key is not None and not key.isprintable():
            raise ClientError(
                "The idempotency key needs 1 to 200 visible characters.", status=WRONG_REQUEST
            )
        return await self._json("POST", "/v1/jobs", body=new, key=key)

    async def jobs(
        self,
        *,
        status: str | None,
        labels: list[str],
        limit: int,
        cursor: str | None = None,
        as_of: str | None = None,
    ) -> Json:
        """Return a page of jobs, newest first, now or as of a moment."""
        query = {"status": status, "label": labels, "limit": limit, "cursor": cursor}
        return await self._json("GET", "/v1/jobs", **query, as_of=as_of)

    async def job(self, job_id: int, as_of: str | None = None, view: str | None = None) -> Json:
        """Return a job, now or as of a moment."""
        return await self._json("GET", f"/v1/jobs/{job_id}", as_of=as_of, view=view)

    async def timeline(
        self, job_id: int, as_of: str | None = None, view: str | None = None
    ) -> Json:
        """Return a job's attempts and its story."""
        return await self._json("GET", f"/v1/jobs/{job_id}/timeline", as_of=as_of, view=view)

    async def explain(self, job_id: int, as_of: str | None = None, view: str | None = None) -> Json:
        """Return the events and the rule behind a job's status."""
        return await self._json("GET", f"/v1/jobs/{job_id}/explain", as_of=as_of, view=view)

    async def fleet(self, as_of: str | None = None) -> Json:
        """Return how many jobs have each status, and every job that is not final."""
        return await self._json("GET", "/v1/fleet", as_of=as_of)

    async def fleet_diff(self, begin: str, end: str | None = None) -> Json:
        """Return each job that changed between two moments."""
        return await self._json("GET", "/v1/fleet/diff", **{"from": begin, "to": end})

    async def events(self, job_id: int, *, after: int, limit: int = 1000) -> Json:
        """Return a job's events after a version."""
        return await self._json("GET", f"/v1/jobs/{job_id}/events", after=after, limit=limit)

    async def logs(self, job_id: int, *, attempt: int | None, tail: int | None) -> str:
        """Return what an attempt's process printed."""
        return await self._text("GET", f"/v1/jobs/{job_id}/logs", attempt=attempt, tail=tail)

    async def export(self, job_id: int, take: Callable[[bytes, int], None]) -> None:
        """Hand over a job's incident bundle in pieces, each with the size of the whole."""
        url = self._address()
        path = f"{url}/v1/jobs/{job_id}/export"
        try:
            async with self._session.get(path, timeout=LONG_TIMEOUT) as response:
                if response.status >= WRONG_REQUEST:
                    text = await response.text("utf-8", "replace")
                    raise ClientError(_refusal(url, response.status, text), status=response.status)
                async for piece in response.content.iter_chunked(PIECE):
                    take(piece, response.content_length or 0)
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise ClientError(_no_answer(url, error)) from error

    async def cancel(self, job_id: int, reason: str | None = None) -> Json:
        """Ask for a job to be cancelled."""
        body = {"reason": reason} if reason else {}
        return await self._json("POST", f"/v1/jobs/{job_id}/cancel", body=body)

    async def create_token(self, role: str, name: str | None) -> Json:
        """Make a token for the control API."""
        body = {"role": role} | ({"name": name} if name else {})
        return await self._json("POST", "/v1/tokens", body=body)

    async def _json(self, method: str, path: str, **request: Any) -> Json:
        text = await self._text(method, path, **request)
        try:
            answer = orjson.loads(text)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError(f"What answers at {self._address()} is not this service.", status=200)
        return answer

    async def _text(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        key: str | None = None,
        **query: Any,
    ) -> str:
        url = self._address()
        data = None if body is None else _encoded(body)
        try:
            async with self._session.request(
                method,
                url + path,
                params=[pair for name, value in query.items() for pair in _pairs(name, value)],
                data=data,
                headers={"Idempotency-Key": key} if key is not None else {},
            ) as response:
                text = await response.text("utf-8", "replace")
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise ClientError(_no_answer(url, error)) from error
        if response.status >= WRONG_REQUEST:
            raise ClientError(_refusal(url, response.status, text), status=response.status)
        return text


def read(shape: type[Shape], answer: Any) -> Shape:
    """Return an answer in its shape, or raise ClientError where it has another."""
    try:
        return shape.model_validate(answer)
    except ValidationError as error:
        raise ClientError(
            "The service answers in a form that this version does not know; --json shows it.",
            status=200,
        ) from error


def _encoded(body: Json) -> bytes:
    """Return the body as JSON, or raise ClientError with the field that has no place in it."""
    for name, value in body.items():
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise ClientError(f"{name} cannot be sent: {error}.", status=WRONG_REQUEST) from error
    return orjson.dumps(body)


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    values = value if isinstance(value, list) else [value]
    return [(name, str(one)) for one in values if one is not None]


def _no_answer(url: str, error: Exception) -> str:
    match error:
        case asyncio.TimeoutError():
            return f"The service at {url} did not answer in time."
        case aiohttp.ClientConnectorError():
            return f"No service answers at {url}; start it with `epochlog serve`."
        case _:
            return f"The connection to the service at {url} broke."


def _refusal(url: str, status: int, text: str) -> str:
    try:
        return str(orjson.loads(text)["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"What answers at {url} is not this service (HTTP {status})."
