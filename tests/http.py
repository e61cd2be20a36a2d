"""A client for the tests: real HTTP to a real service, every answer held against its schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import asyncpg
import orjson
from yarl import URL

from service.serving import Serving
from tests.described import check_answer

NEW_JOB = {"dataset_id": "shapes", "model_name": "yolov8n", "epochs": 3}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    json: Any
    text: str
    headers: dict[str, str]
    content: bytes = b""


class Api:
    """Calls one service as an admin, or with whatever token is given."""

    def __init__(self, service: Serving) -> None:
        self.service = service
        self._session = aiohttp.ClientSession(service.url)
        self._database: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        if self._database is not None:
            await self._database.close()

    async def get(self, path: str, **query: str | int) -> Answer:
        return await self.call("GET", path, params=query)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.call("POST", path, body, headers=headers)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        raw: bytes | None = None,
        params: dict[str, str | int] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request; `raw` is sent as it is, `body` as JSON; `token=""` sends none."""
        given = self.service.api_token if token is None else token
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if given:
            named["Authorization"] = f"Bearer {given}"
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        async with self._session.request(
            method, path, data=data, params=params, headers=named
        ) as response:
            content = await response.read()
            text = content.decode(errors="replace")
            is_json = "json" in response.content_type
            answer = orjson.loads(text) if is_json and text else None
            route = URL(path).path
            check_answer(method, route, response.status, response.content_type, answer)
            return Answer(response.status, answer, text, dict(response.headers), content)

    async def select(self, query: str, *arguments: Any) -> list[Any]:
        """Ask the service's database itself, as its owner; the rows."""
        if self._database is None:
            self._database = await asyncpg.connect(self.service.instance.settings.database_url)
        rows: list[Any] = await self._database.fetch(query, *arguments)
        return rows

    async def said(self) -> int:
        """How many events callers have caused; what the service writes by itself not counted."""
        sources = ["api", "trainer", "operator"]
        rows = await self.select("select count(*) from events where source = any ($1)", sources)
        count: int = rows[0]["count"]
        return count

    async def events(self, job: Any, kind: str | None = None) -> Any:
        """All events of a job, or those of one type."""
        query = {"type": kind} if kind else {}
        answer = await self.get(f"/v1/jobs/{job['id']}/events", limit=1000, **query)
        return answer.json["events"]

    async def create_job(self, **fields: Any) -> Any:
        """Make a job; return it, with its callback token where there is one."""
        answer = await self.post("/v1/jobs", {**NEW_JOB, **fields})
        assert answer.status == 201, answer.text
        return answer.json

    async def call_back(self, job: Any, kind: str, body: Any = None) -> Answer:
        """Call back as the trainer of the attempt whose token the job carries."""
        path = f"/v1/jobs/{job['id']}/{kind}"
        return await self.call("POST", path, body or {}, token=job["callback_token"])
