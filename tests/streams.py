"""A subscriber for the tests: reads a stream's messages, each held against its schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from service.answer_schemas import StreamMessage


class Subscriber:
    """One WebSocket to a service, and everything that it was sent."""

    def __init__(self, url: str, path: str, token: str, **options: Any) -> None:
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})
        self._address = url.replace("http", "ws", 1) + path
        self._options = options
        self.events: list[Any] = []
        self.messages: list[Any] = []

    async def __aenter__(self) -> Self:
        try:
            self.socket = await self._session.ws_connect(self._address, **self._options)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()
        await self._session.close()

    async def message(self, within: float = 10.0) -> Any:
        """Return the next message; fail where the stream ends instead."""
        received = await self.socket.receive(within)
        assert received.type is aiohttp.WSMsgType.TEXT, received
        message = orjson.loads(received.data)
        StreamMessage.model_validate(message)
        self.messages.append(message)
        self.events += message["events"]
        return message

    async def until(self, number: int, of: str = "position", within: float = 30.0) -> list[Any]:
        """Read until the event of this position (or version) is there; all events so far."""
        async with asyncio.timeout(within):
            while not self.events or self.events[-1][of] < number:
                await self.message(within)
        return self.events

    async def end(self, within: float = 30.0) -> int | None:
        """Read what is still there until the stream ends; its close code."""
        async with asyncio.timeout(within):
            while (await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        code: int | None = self.socket.close_code
        return code


def positions(events: list[Any]) -> list[int]:
    """Return where the events stand in the log."""
    return [event["position"] for event in events]


@asynccontextmanager
async def reading_lines(url: str, token: str, **query: Any) -> AsyncIterator[AsyncIterator[Any]]:
    """Read the feed as lines of JSON, for as long as the block lasts."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{url}/v1/events", params=query) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "application/x-ndjson"

        async def lines() -> AsyncIterator[Any]:
            async for line in response.content:
                yield orjson.loads(line)

        yield lines()
