"""What may go wrong between a client and the server, each thing with a switch of its own."""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from tests.cluster.refusals import Refusal

if TYPE_CHECKING:
    from tests.cluster.store import Change

BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>"
)
Kind = Literal["answer", "slow", "lose_answer", "cut"]


@dataclass(slots=True)
class Trouble:
    """One fault that waits for requests of its kind."""

    kind: Kind
    times: int | None
    method: str
    path: re.Pattern[str]
    watches: bool | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = 0.0

    def concerns(self, request: web.Request) -> bool:
        if self.times == 0 or (self.method and request.method != self.method):
            return False
        watching = request.query.get("watch", "").lower() in ("true", "1")
        if self.watches is not None and watching is not self.watches:
            return False
        return self.path.search(request.path) is not None


class Faults:
    """The switches; all are off at first."""

    def __init__(self) -> None:
        self._waiting: list[Trouble] = []
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._chance = random.Random(4)  # noqa: S311 - the same order in every run
        # Each watch event is sent this many times.
        self.deliveries = 1
        # Whether the changes that wait for a watcher are sent in a shuffled order.
        self.reorder = False
        # Cut this many watch events in the middle of their line.
        self.cuts = 0
        # Lines to send in place of nothing, as they are: by plural.
        self._lines: dict[str, deque[bytes]] = {}

    def freeze(self) -> None:
        """From now on no request is answered and no watch gets a byte; nothing is closed."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def until_thawed(self) -> None:
        await self._thawed.wait()

    def answer(
        self,
        status: int,
        *,
        times: int | None = None,
        method: str = "",
        path: str = "",
        watches: bool | None = None,
        retry_after: int | None = None,
        body: Any = None,
    ) -> Trouble:
        """Answer requests by this status instead: 502 is a gateway's page, others a Status.

        `times=None` stays until `clear()`. `path` is searched for as a regular expression.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return self._add(
            "answer", times, method, path, watches, status=status, headers=headers, body=body
        )

    def slow(
        self, seconds: float, *, times: int | None = None, method: str = "", path: str = ""
    ) -> Trouble:
        """Answer, but only after this long."""
        return self._add("slow", times, method, path, None, seconds=seconds)

    def lose_answer(
        self, *, times: int | None = 1, method: str = "POST", path: str = "", seconds: float = 0.0
    ) -> Trouble:
        """Do what is asked, then say nothing: cut the line, after `seconds` of silence."""
        return self._add("lose_answer", times, method, path, None, seconds=seconds)

    def refuse_connections(
        self, *, times: int | None = None, method: str = "", path: str = ""
    ) -> Trouble:
        """Cut the line before anything is done."""
        return self._add("cut", times, method, path, None)

    def clear(self) -> None:
        """Turn every switch off."""
        self._waiting.clear()
        self._lines.clear()
        self.deliveries, self.reorder, self.cuts = 1, False, 0
        self.thaw()

    def next_for(self, request: web.Request) -> Trouble | None:
        """The trouble that this request meets, if any."""
        for trouble in self._waiting:
            if trouble.concerns(request):
                if trouble.times is not None:
                    trouble.times -= 1
                return trouble
        return None

    def say(self, plural: str, line: bytes | str) -> None:
        """Send a line of this text into every watch of that kind, whatever it is."""
        raw = line.encode() if isinstance(line, str) else line
        self._lines.setdefault(plural, deque()).append(raw + b"\n")

    def said(self, plural: str, position: int) -> list[bytes]:
        """The lines that a watch which has sent so many has still to send."""
        return list(self._lines.get(plural, ()))[position:]

    def in_order(self, changes: list[Change]) -> list[Change]:
        """The changes as they are delivered: repeated and shuffled where a switch says so."""
        sent = [change for change in changes for _ in range(self.deliveries)]
        if self.reorder:
            self._chance.shuffle(sent)
        return sent

    def takes_a_cut(self) -> bool:
        """Whether the next line is to be cut in its middle."""
        if self.cuts == 0:
            return False
        self.cuts -= 1
        return True

    def _add(
        self,
        kind: Kind,
        times: int | None,
        method: str,
        path: str,
        watches: bool | None,
        **more: Any,
    ) -> Trouble:
        trouble = Trouble(kind, times, method, re.compile(path), watches, **more)
        self._waiting.append(trouble)
        return trouble


def page(trouble: Trouble) -> web.Response:
    """The answer that stands in for the real one."""
    if trouble.status == 502 and trouble.body is None:
        return web.Response(status=502, text=BAD_GATEWAY, content_type="text/html")
    if trouble.body is None:
        body: Any = _status(trouble.status).body()
    else:
        body = trouble.body
    if isinstance(body, str):
        return web.Response(status=trouble.status, text=body, headers=trouble.headers)
    return web.json_response(body, status=trouble.status, headers=trouble.headers)


def _status(status: int) -> Refusal:
    match status:
        case 429:
            return Refusal(
                429, "TooManyRequests", "storage is (re)initializing", {"retryAfterSeconds": 1}
            )
        case 401:
            return Refusal(401, "Unauthorized", "Unauthorized")
        case 403:
            return Refusal(403, "Forbidden", "forbidden")
        case 503:
            return Refusal(
                503, "ServiceUnavailable", "the server is currently unable to handle the request"
            )
        case 504:
            return Refusal(
                504, "Timeout", "Timeout: request did not complete within the allotted timeout"
            )
        case _:
            return Refusal(
                status, "InternalError", "Internal error occurred: etcdserver: leader changed"
            )


@asynccontextmanager
async def frozen(faults: Faults) -> AsyncIterator[None]:
    """The server hangs while the block runs."""
    faults.freeze()
    try:
        yield
    finally:
        faults.thaw()
