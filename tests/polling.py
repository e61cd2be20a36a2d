"""Waiting in tests: ask until it is so, never sleep for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Answer = TypeVar("Answer")


@overload
async def eventually(check: Callable[[], Awaitable[Answer]], *, within: float = 10.0) -> Answer: ...
@overload
async def eventually(check: Callable[[], Answer], *, within: float = 10.0) -> Answer: ...
async def eventually(check: Callable[[], object], *, within: float = 10.0) -> object:
    """Return the first true answer of `check`, plain or awaitable; fail after `within` seconds.

    A check may also assert: its last AssertionError is what the test fails with.
    """
    deadline = time.monotonic() + within
    pause = 0.005
    while True:
        failure: AssertionError | None = None
        answer: object = None
        try:
            answer = check()
            if inspect.isawaitable(answer):
                answer = await answer
        except AssertionError as error:
            failure = error
        if failure is None and answer:
            return answer
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"not within {within:g} s; the last answer: {answer!r}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)
