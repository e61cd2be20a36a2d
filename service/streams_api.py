"""The routes of the feeds: the log in pages, as lines that go on, and over WebSockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import structlog
from aiohttp import WSCloseCode, web

from service.errors import JobNotFoundError
from service.feed import PAGE, FeedEndedError, Subscription, limit_after
from service.instance import Instance
from service.messages import lines_of
from service.request_schemas import FeedQuery, StreamQuery
from service.routing import Call, Reply
from service.sockets import DroppedError, Socket, first_of
from service.views import event_view

LINES = "application/x-ndjson"
PAGE_IF_ABSENT = 100
LOOK_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def list_log(call: Call[None, FeedQuery]) -> Reply:
    """List the log in position order, or stream it as lines."""
    if LINES in call.headers.get("Accept", ""):
        return Reply(stream=partial(_stream_lines, call.instance, call.query))
    after, limit = call.query.after, call.query.limit or PAGE_IF_ABSENT
    records = await call.instance.store.log_page(after, limit=limit)
    return Reply(
        payload={
            "events": [event_view(record) for record in records],
            "next_after": records[-1].position if records else after,
        }
    )


async def stream_log(call: Call[None, StreamQuery]) -> Reply:
    """Send the log over a WebSocket."""
    return Reply(stream=partial(_stream_messages, call.instance, None, call.query.after))


async def stream_job(call: Call[None, StreamQuery]) -> Reply:
    """Send a job's events over a WebSocket."""
    if await call.instance.store.job(call.job_id) is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    return Reply(stream=partial(_stream_messages, call.instance, call.job_id, call.query.after))


async def _stream_messages(
    instance: Instance, job_id: int | None, after: int, request: web.Request
) -> web.StreamResponse:
    with instance.feed.subscribed(job_id) as subscription:
        socket = await Socket.open(request, instance.feed.patience)
        dropped = await socket.serve(_send(subscription, socket, after))
    if dropped is not None:
        instance.metrics.dropped(dropped.code)
        await socket.say_goodbye(dropped)
    return socket.response


async def _send(subscription: Subscription, socket: Socket, number: int) -> None:
    while True:
        try:
            part = await subscription.after(number)
        except FeedEndedError as error:
            raise DroppedError(WSCloseCode.GOING_AWAY, "the service is stopping") from error
        await socket.send(part.frames)
        number = part.last.number(subscription.job_id)


async def _stream_lines(
    instance: Instance, query: FeedQuery, request: web.Request
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": LINES})
    with instance.feed.subscribed(None) as subscription:
        await response.prepare(request)
        lines = _lines(subscription, query)
        write = _write(response, lines, instance.feed.patience.slow)
        try:
            await first_of(write, _gone(request))
        except TimeoutError:
            instance.metrics.dropped(WSCloseCode.TRY_AGAIN_LATER)
            _hang_up(request)
        except (ConnectionError, FeedEndedError):
            pass
        except Exception:
            log.exception("stream_failed", path=request.path)
            _hang_up(request)
    return response


async def _lines(subscription: Subscription, query: FeedQuery) -> AsyncGenerator[bytes, None]:
    """Yield lines of JSON, many at once: to the log's end from its pages, then as they come."""
    feed, after, left, at_once = subscription.feed, query.after, query.limit or sys.maxsize, PAGE
    while left:
        read = partial(feed.store.log_page, after, limit=min(at_once, left))
        records = await feed.patiently(read)
        if not records:
            break
        lines, count = lines_of(records)
        yield lines
        after, left, at_once = records[count - 1].position, left - count, limit_after(count)
    while left and query.follow:
        for message in (await subscription.after(after)).messages:
            own = message.lines.splitlines(keepends=True)[:left]
            yield b"".join(own)
            after, left = message.last.position, left - len(own)


async def _write(
    response: web.StreamResponse, lines: AsyncGenerator[bytes, None], patience: float
) -> None:
    async with aclosing(lines):
        async for part in lines:
            async with asyncio.timeout(patience):
                await response.write(part)


async def _gone(request: web.Request) -> None:
    """Return once the client has left: nobody else would notice while there is nothing to say."""
    while True:
        if request.transport is None or request.transport.is_closing():
            return
        await asyncio.sleep(LOOK_SECONDS)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
