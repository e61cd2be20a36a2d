"""The floors of any service on aiohttp: read a JSON body and answer a small JSON, nothing else.

With subscribers on its WebSocket it also tells them what was posted. `python -m bench.bare_server`
prints its address and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop
from aiohttp import web

JOB = {"id": 1, "status": "running", "metrics": {"loss": 1.25, "mAP50": 0.5}, "labels": {}}


@dataclass(slots=True)
class Bare:
    """What was posted, and who wants to hear of it."""

    position: int = 0
    said: list[dict[str, Any]] = field(default_factory=list)
    subscribers: list[web.WebSocketResponse] = field(default_factory=list)
    spoken: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        """Read what was sent and say a little of it."""
        said = orjson.loads(await request.read())
        self.position += 1
        if self.subscribers:
            self.said.append({"position": self.position, **said})
            self.spoken.set()
        payload = {"position": self.position, "status": "running", "applied": True}
        return web.Response(body=orjson.dumps(payload), content_type="application/json")

    async def subscribe(self, request: web.Request) -> web.WebSocketResponse:
        """Keep a subscriber until it leaves."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.subscribers.append(socket)
        async for _ in socket:
            pass
        self.subscribers.remove(socket)
        return socket

    async def tell(self) -> None:
        """Send what has come since the last time to every subscriber."""
        while await self.spoken.wait():
            self.spoken.clear()
            text = orjson.dumps({"events": self.said, "job": JOB}).decode()
            self.said = []
            for socket in list(self.subscribers):
                await socket.send_str(text)


async def serve() -> None:
    """Serve on a free port of this machine."""
    bare = Bare()
    app = web.Application()
    app.router.add_post("/v1/jobs/{id}/heartbeat", bare.answer)
    app.router.add_get("/v1/stream", bare.subscribe)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await bare.tell()


if __name__ == "__main__":
    uvloop.run(serve())
