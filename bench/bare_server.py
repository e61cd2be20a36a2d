"""The floor of any service on aiohttp: read a JSON body, answer a small JSON, do nothing else.

`python -m bench.bare_server` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop
from aiohttp import web


async def answer(request: web.Request) -> web.Response:
    """Read what was sent and say a little of it."""
    said = orjson.loads(await request.read())
    payload = {"position": 1, "version": said["seq"], "status": "running", "applied": True}
    return web.Response(body=orjson.dumps(payload), content_type="application/json")


async def serve() -> None:
    """Serve on a free port of this machine."""
    app = web.Application()
    app.router.add_post("/v1/jobs/{id}/heartbeat", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
