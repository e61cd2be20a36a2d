"""A service of the trainer's contract, real over HTTP, for the trainer's own tests.

It keeps every rule a trainer can see (tokens, duplicates, batches that count whole or not at all)
and can be told to misbehave: to answer 503, to cut the line, to be away and come back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KINDS = frozenset({"heartbeat", "event", "done"})
ENVELOPE = ("event_id", "seq", "occurred_at", "trace_id")
MOST_IN_A_BATCH = 500
MOST_CHARACTERS = 256 * 1024


@dataclass
class CallbackServer:
    """One job's side of the callback API."""

    job_id: int = 7
    trace_id: str = "trace-7"
    token: str = "first-token"
    directive: str = "continue"
    # Told with the next good answer; only this one is accepted from then on.
    renewal: str | None = None
    # What happens to the next requests instead of an answer: a status, or "cut".
    troubles: deque[int | str] = field(default_factory=deque)
    # Cut the line after the record was made: the trainer cannot know that it was.
    cut_after_recording: int = 0
    refuses: Callable[[dict[str, Any]], bool] = lambda _body: False
    expired: bool = False
    # What an expired token is exchanged for; without it nobody gets a newer one.
    exchange: str | None = None
    # Whether what it is exchanged for has expired, too: a second replica's clock is ahead.
    still_expired: bool = False
    # Tokens of other attempts, which are taken and told to stop.
    older_tokens: frozenset[str] = frozenset()
    # Tokens for whose callbacks it never has the time.
    busy_for: frozenset[str] = frozenset()
    # Whether it has the route `GET /v1/jobs/{id}/resume`, as an older service has not.
    knows_the_past: bool = False
    port: int = 0
    requests: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    duplicates: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/jobs/{job}/token/renew", self._exchange)
        app.router.add_get("/v1/jobs/{job}/resume", self._resume)
        app.router.add_post("/v1/jobs/{job}/{kind}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of every event of that type, in order."""
        return [body["data"] for body in self.records if body.get("type") == kind]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [body for body in self.records if body["kind"] == kind]

    @property
    def done(self) -> dict[str, Any] | None:
        return next(iter(self.of_kind("done")), None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        self.requests.append(kind)
        if self.troubles:
            return self._trouble(request, self.troubles.popleft())
        if self.expired:
            return problem(401, "token_expired")
        used = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if used in self.busy_for:
            return problem(503, "overloaded")
        if used != self.token and used not in self.older_tokens:
            return problem(401, "token_invalid")
        body = await request.json()
        bodies = body["callbacks"] if kind == "callbacks" else [{"kind": kind, **body}]
        refusal = self._refusal(request.match_info["job"], bodies)
        if refusal is not None:
            return refusal
        results = [self._record(single) for single in bodies]
        if self.cut_after_recording:
            self.cut_after_recording -= 1
            return self._trouble(request, "cut")
        stop = used in self.older_tokens
        about_all = {"directive": "stop" if stop else self.directive, **self._renew()}
        if kind == "callbacks":
            return web.json_response({"results": results, **about_all})
        return web.json_response({**results[0], **about_all})

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("renew")
        if self.exchange is None:
            return problem(401, "token_expired")
        self.token = self.exchange
        if not self.still_expired:
            self.exchange, self.expired = None, False
        return web.json_response({"callback_token": self.token, "attempt": 1})

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("resume")
        if self.troubles:
            return self._trouble(request, self.troubles.popleft())
        if not self.knows_the_past:
            return problem(404, "not_found")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return problem(401, "token_invalid")
        return web.json_response(self.past)

    @property
    def past(self) -> dict[str, Any]:
        """Where a next attempt may go on, from what was recorded."""
        damaged = {data["uri"] for data in self.events("checkpoint_damaged")}
        saved = [data for data in self.events("checkpoint_saved") if data["uri"] not in damaged]
        runs = [data["mlflow_run_id"] for data in self.events("tracking_started")]
        newest_first = sorted(saved, key=lambda data: data["epoch"])[::-1]
        return {
            "checkpoints": [{"best": None, **data} for data in newest_first[:10]],
            "epochs_reported": max((data["epoch"] for data in self.events("epoch_end")), default=0),
            "mlflow_run_id": next(reversed(runs), None),
        }

    def _trouble(self, request: web.Request, trouble: int | str) -> web.StreamResponse:
        if trouble == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        headers = {"Retry-After": "0"} if trouble == 429 else {}
        return web.json_response({}, status=int(trouble), headers=headers)

    def _refusal(self, job: str, bodies: list[dict[str, Any]]) -> web.Response | None:
        if job != str(self.job_id):
            return problem(403, "wrong_job")
        if len(bodies) > MOST_IN_A_BATCH:
            return problem(413, "payload_too_large")
        for body in bodies:
            if len(str(body)) > MOST_CHARACTERS:
                return problem(413, "payload_too_large")
            if body.get("kind") not in KINDS or any(name not in body for name in ENVELOPE):
                return problem(400, "invalid_request")
            if self.refuses(body):
                return problem(400, "invalid_request")
            if body["trace_id"] != self.trace_id:
                return problem(409, "trace_mismatch")
            known = self._known(body["event_id"])
            if known is not None and known != body:
                return problem(409, "event_id_conflict")
        return None

    def _known(self, event_id: str) -> dict[str, Any] | None:
        return next((body for body in self.records if body["event_id"] == event_id), None)

    def _record(self, body: dict[str, Any]) -> dict[str, Any]:
        duplicate = self._known(body["event_id"]) is not None
        if duplicate:
            self.duplicates += 1
        else:
            self.records.append(body)
        place = [known["event_id"] for known in self.records].index(body["event_id"]) + 1
        return {
            "position": place,
            "version": place,
            "status": "running",
            "applied": True,
            "duplicate": duplicate,
            "directive": self.directive,
        }

    def _renew(self) -> dict[str, str]:
        if self.renewal is None:
            return {}
        self.token, self.renewal = self.renewal, None
        return {"token": self.token}


def problem(status: int, code: str) -> web.Response:
    return web.json_response(
        {"type": "about:blank", "title": code, "status": status, "code": code, "detail": code},
        status=status,
        content_type="application/problem+json",
    )


async def until(true: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait until it is so, or fail."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
