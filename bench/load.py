"""The load generator: a process of its own that asks as fast as it is answered.

`python -m bench.load` reads what to do from stdin and writes what it saw to stdout, both as JSON.
It prepares requests as bytes and reads of an answer only its status and its length, so that one
core is enough to keep a service on another core busy. Everything but a 200 is an error.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, cast

import uvloop
from pydantic import BaseModel, Field

from bench.contender import Measured
from bench.traffic import Trainer, callbacks, heartbeats, logged_metrics, reads

PATIENCE = 30.0
"""Seconds that the last answers may take."""


class Load(BaseModel):
    """What to send where, how hard and how long."""

    port: int
    connections: int
    seconds: float
    warm_up: float
    kind: Literal["heartbeats", "callbacks", "reads", "metrics"]
    trainers: list[Trainer] = []
    size: int = 1
    """Callbacks a request."""
    paths: list[str] = []
    token: str = ""
    run_ids: list[str] = []
    pace: float = 0.0
    """Requests a second in all, sent by the clock; 0: as fast as they are answered."""

    def source(self, number: int) -> Iterator[bytes]:
        """Return what the connection of this number sends."""
        match self.kind:
            case "heartbeats":
                return heartbeats(self.trainers[number % len(self.trainers)])
            case "callbacks":
                return callbacks(self.trainers[number % len(self.trainers)], self.size)
            case "reads":
                return reads(self.paths, self.token)
            case "metrics":
                return logged_metrics(self.run_ids[number % len(self.run_ids)])


class Seen(BaseModel):
    """What came of it."""

    answers: int = Field(description="answers 200 in the measured time")
    answers_in_all: int = Field(description="answers 200, the warm-up's and the last ones too")
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    said: str = Field("", description="the first answer that was an error")
    positions: list[tuple[int, float]] = Field(
        [], description="of a paced load: each position in the measured time, and when it was said"
    )

    def measured(self, size: int = 1, more_errors: dict[str, int] | None = None) -> Measured:
        """Return it as a slice, where each answer stands for `size` events."""
        return Measured(
            rate=self.answers * size / self.seconds,
            p50_ms=self.p50_ms,
            p99_ms=self.p99_ms,
            errors={**self.errors, **(more_errors or {})},
            said=self.said,
        )


@dataclass(slots=True)
class Tally:
    """The answers of all connections."""

    begin: float
    end: float
    latencies: array[float] = field(default_factory=lambda: array("d"))
    answers_in_all: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    said: str = ""
    positions: list[tuple[int, float]] | None = None

    def answer(self, status: bytes, body: bytes, sent: float, now: float) -> None:
        """Count one answer."""
        if status != b"200":
            self.wrong(status.decode("latin-1"), body)
            return
        self.answers_in_all += 1
        if self.begin <= now < self.end:
            self.latencies.append(now - sent)
            if self.positions is not None:
                self.positions.append((position_in(body), now))

    def wrong(self, name: str, body: bytes) -> None:
        """Count one error, and keep the first one's words."""
        self.errors[name] += 1
        self.said = self.said or body[:300].decode("utf-8", "replace")


class Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, source: Iterator[bytes], tally: Tally, interval: float = 0.0) -> None:
        """Take what to send, who counts, and the seconds between two requests (0: none)."""
        self._loop = asyncio.get_running_loop()
        self.idle = self._loop.create_future()
        self._interval = interval
        self._due = self._loop.time()
        self._source = source
        self._tally = tally
        self._received = b""
        self._sent = 0.0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is of no such class
        self._send()

    def data_received(self, data: bytes) -> None:
        """Go on as soon as the answer is whole."""
        received = self._received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0 or len(received) < head + 4 + _length(received[:head]):
            return
        self._received = b""
        now = time.perf_counter()
        self._tally.answer(received[9:12], received[head + 4 :], self._sent, now)
        if now >= self._tally.end:
            self._rest()
        elif self._interval:
            self._due += self._interval
            self._loop.call_at(self._due, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up is an error."""
        if not self.idle.done():
            self._tally.wrong("connection lost", repr(exc).encode())
            self._rest()

    def _send(self) -> None:
        request = next(self._source)
        self._sent = time.perf_counter()
        self._transport.write(request)

    def _rest(self) -> None:
        self.idle.set_result(None)
        self._transport.close()


def position_in(body: bytes) -> int:
    """Return the first position that a JSON text names."""
    text = body[body.find(b'"position":') + 11 :].lstrip()
    end = next((at for at, byte in enumerate(text) if not 48 <= byte <= 57), len(text))
    return int(text[:end])


def _length(head: bytes) -> int:
    """Return how long the body of an answer is."""
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 :].partition(b"\r\n")[0]) if start >= 0 else 0


async def drive(load: Load) -> Seen:
    """Send the load and return what was seen."""
    begin = time.perf_counter() + load.warm_up
    tally = Tally(begin, begin + load.seconds, positions=[] if load.pace else None)
    interval = load.connections / load.pace if load.pace else 0.0
    loop = asyncio.get_running_loop()
    waits = []
    for number in range(load.connections):
        source = load.source(number)
        _, connection = await loop.create_connection(
            lambda source=source: Connection(source, tally, interval),  # type: ignore[misc]
            "127.0.0.1",
            load.port,
            family=socket.AF_INET,
        )
        waits.append(connection.idle)
    await asyncio.wait(waits, timeout=load.warm_up + load.seconds + PATIENCE)
    silent = sum(not wait.done() for wait in waits)
    if silent:
        tally.errors["no answer"] += silent
    return _seen(tally, load.seconds)


def _seen(tally: Tally, seconds: float) -> Seen:
    latencies = sorted(tally.latencies)
    return Seen(
        answers=len(latencies),
        answers_in_all=tally.answers_in_all,
        seconds=seconds,
        p50_ms=quantile(latencies, 0.50) * 1000,
        p99_ms=quantile(latencies, 0.99) * 1000,
        errors=dict(tally.errors),
        said=tally.said,
        positions=tally.positions or [],
    )


def quantile(ordered: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main() -> None:
    """Do what stdin says."""
    load = Load.model_validate_json(sys.stdin.buffer.read())
    seen = uvloop.run(drive(load))
    sys.stdout.write(seen.model_dump_json())


if __name__ == "__main__":
    main()
