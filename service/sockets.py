"""A subscriber's WebSocket: what is sent, how fast it must be taken, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from service.errors import FieldError, InvalidRequestError
from service.feed import Patience

SUBPROTOCOL = "epochlog"
HEARD_AT_MOST = 4096  # subscribers have nothing to say
UNANSWERED = 4408

log = structlog.get_logger(__name__)


class DroppedError(Exception):
    """The subscriber is sent away."""

    def __init__(self, code: int, reason: str) -> None:
        """Take the close code and its reason; both are sent."""
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class Socket:
    """A WebSocket on which only we talk."""

    request: web.Request
    response: web.WebSocketResponse
    patience: Patience
    _answered: bool = field(default=True)

    @classmethod
    async def open(cls, request: web.Request, patience: Patience) -> Socket:
        """Switch to a WebSocket, or raise InvalidRequestError where that was not asked for."""
        response = web.WebSocketResponse(
            autoping=False,
            compress=False,
            timeout=patience.goodbye,
            protocols=(SUBPROTOCOL,),
            max_msg_size=HEARD_AT_MOST,
        )
        _check_handshake(request, response)
        await response.prepare(request)
        return cls(request, response, patience)

    async def serve(self, work: Awaitable[None]) -> DroppedError | None:
        """Do the work until the client leaves or is dropped; return why it was dropped."""
        try:
            await first_of(work, self._hear(), self._ping())
        except DroppedError as error:
            return error
        except ConnectionError:
            return None  # it left without a word
        except Exception:
            log.exception("stream_failed", path=self.request.path)
            return DroppedError(WSCloseCode.INTERNAL_ERROR, "the service made a mistake")
        return None

    async def say_goodbye(self, dropped: DroppedError) -> None:
        """Say why, wait until that is heard, and hang up."""
        stopping = dropped.code == WSCloseCode.GOING_AWAY
        transport = self.request.transport
        reason = dropped.reason.encode()
        with suppress(TimeoutError):
            async with asyncio.timeout(
                self.patience.stopping if stopping else self.patience.goodbye
            ):
                await self.response.close(code=dropped.code, message=reason, drain=False)
        if transport is not None:
            transport.abort()  # what it still has not taken is not waited for

    async def send(self, frames: bytes) -> None:
        """Send whole frames that all subscribers share; return when they have left us, or nearly.

        They are written as they are: aiohttp would make each of them anew for each subscriber.
        """
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        transport.write(frames)
        if self.request.protocol.writing_paused:
            await self._drained()

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(self.patience.slow):
                await self.request.writer.drain()
        except TimeoutError as error:
            late = f"too slow: not taken within {self.patience.slow:g} s; come back and go on"
            raise DroppedError(WSCloseCode.TRY_AGAIN_LATER, late) from error

    async def _hear(self) -> None:
        """Take what the client says until it leaves; only its pongs and pings matter."""
        while True:
            message = await self.response.receive()
            match message.type:
                case WSMsgType.PONG:
                    self._answered = True
                case WSMsgType.PING:
                    await self.response.pong(message.data)
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    pass
                case _:
                    return

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self.patience.ping)
            if not self._answered:
                waited = f"no answer to a ping for {self.patience.ping:g} s"
                raise DroppedError(UNANSWERED, waited)
            self._answered = False
            await self.response.ping()


async def first_of(*works: Awaitable[Any]) -> None:
    """Do all of this until the first ends, and end as it does."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.result()


def _check_handshake(request: web.Request, response: web.WebSocketResponse) -> None:
    offered = request.headers.get("Sec-WebSocket-Protocol")
    if offered is not None and SUBPROTOCOL not in (name.strip() for name in offered.split(",")):
        wanted = FieldError("Sec-WebSocket-Protocol", f"needs {SUBPROTOCOL} among the protocols")
        raise InvalidRequestError(f"{wanted.field} {wanted.message}.", errors=[wanted])
    if not response.can_prepare(request):
        wanted = FieldError("Upgrade", "needs to be websocket, with the headers of RFC 6455")
        raise InvalidRequestError(f"The header {wanted.field} {wanted.message}.", errors=[wanted])
