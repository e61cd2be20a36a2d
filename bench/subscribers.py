"""Many subscribers of one WebSocket stream, in a process of their own.

`python -m bench.subscribers` reads what to do from stdin, says `ready` when all are connected, and
writes what arrived when its time is over. Every tenth subscriber keeps its messages with the moment
of their arrival; they are read afterwards, so that reading delays no other message.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from base64 import b64encode
from dataclasses import dataclass, field

import orjson
import uvloop
from pydantic import BaseModel

SAMPLED = 10
TEXT, CLOSE, PING = 1, 8, 9
_HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)


class Watch(BaseModel):
    """What to listen to, with how many, for how long."""

    port: int
    path: str
    token: str
    subscribers: int
    seconds: float


class Heard(BaseModel):
    """What arrived."""

    arrivals: list[tuple[int, float]]
    """Each position that a sampled subscriber was told, and when."""
    told: list[int]
    """How many events each subscriber was told."""
    disordered: int
    """How many positions a sampled subscriber was told twice or out of order."""
    refused: str = ""
    """What the server answered instead of a stream."""


@dataclass(slots=True)
class Ear:
    """What one subscriber heard."""

    sampled: bool
    told: int = 0
    messages: list[tuple[float, bytes]] = field(default_factory=list)


class Subscriber(asyncio.Protocol):
    """The least that a WebSocket client needs: the handshake, texts in, pongs out."""

    def __init__(self, watch: Watch, ear: Ear) -> None:
        """Take what to listen to, and where to note it."""
        self.connected: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watch = watch
        self._ear = ear
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self._transport = transport  # type: ignore[assignment] # uvloop's is of no such class
        path, token = self._watch.path.encode(), self._watch.token.encode()
        self._transport.write(_HANDSHAKE % (path, token, b64encode(os.urandom(16))))

    def data_received(self, data: bytes) -> None:
        """Take every whole frame."""
        now = time.perf_counter()
        self._received += data
        if not self.connected.done() and not self._opened():
            return
        while (frame := frame_in(self._received)) is not None:
            kind, start, end = frame
            payload = self._received[start:end]
            self._received = self._received[end:]
            self._hear(kind, payload, now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the server hung up before it answered."""
        if not self.connected.done():
            self.connected.set_result(f"the server hung up: {exc}")

    def _opened(self) -> bool:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        said = head.partition(b"\r\n")[0].decode("latin-1")
        self._received = rest
        self.connected.set_result("" if " 101 " in said else said)
        return " 101 " in said

    def _hear(self, kind: int, payload: bytes, now: float) -> None:
        if kind == TEXT:
            self._ear.told += payload.count(b'"event_id"')
            if self._ear.sampled:
                self._ear.messages.append((now, payload))
        elif kind == PING:
            self._transport.write(b"\x8a%c\0\0\0\0%b" % (0x80 | len(payload), payload))
        elif kind == CLOSE:
            self._transport.close()


def frame_in(data: bytes) -> tuple[int, int, int] | None:
    """Return the kind of the first frame and where its payload begins and ends, if it is whole."""
    if len(data) < 2:
        return None
    length, start = data[1] & 0x7F, 2
    if length >= 126:
        start = 4 if length == 126 else 10
        length = int.from_bytes(data[2:start], "big")
    whole = len(data) >= start + length
    return (data[0] & 0x0F, start, start + length) if whole else None


async def listen(watch: Watch) -> Heard:
    """Listen for the time asked for and return what was heard."""
    loop = asyncio.get_running_loop()
    ears = [Ear(sampled=number % SAMPLED == 0) for number in range(watch.subscribers)]
    for ear in ears:
        _, one = await loop.create_connection(
            lambda ear=ear: Subscriber(watch, ear),  # type: ignore[misc]
            "127.0.0.1",
            watch.port,
            family=socket.AF_INET,
        )
        if refused := await one.connected:
            return Heard(arrivals=[], told=[], disordered=0, refused=refused)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.sleep(watch.seconds)
    return _heard(ears)


def _heard(ears: list[Ear]) -> Heard:
    arrivals: list[tuple[int, float]] = []
    disordered = 0
    for ear in ears:
        last = 0
        for at, text in ear.messages:
            for event in orjson.loads(text)["events"]:
                disordered += event["position"] <= last
                last = event["position"]
                arrivals.append((last, at))
    return Heard(arrivals=arrivals, told=[ear.told for ear in ears], disordered=disordered)


def main() -> None:
    """Do what stdin says."""
    watch = Watch.model_validate_json(sys.stdin.buffer.read())
    heard = uvloop.run(listen(watch))
    sys.stdout.write(heard.model_dump_json())


if __name__ == "__main__":
    main()
