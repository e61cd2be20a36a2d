"""Jobs are looked after side by side: each by one task at a time, so many at once at each place.

A place that does not answer keeps the jobs that are there waiting, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Turns:
    """Has jobs looked after, until it is ended."""

    look_after: Callable[[int], Awaitable[None]]
    """Whatever it raises is a reason to look after no other either."""
    place_of: Callable[[int], str]
    at_once: int
    """How many jobs are looked after at the same time at one place."""
    _busy: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _again: set[int] = field(default_factory=set)
    """Jobs that are looked after, and about which there is something newer."""
    _places: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _lost: list[BaseException] = field(default_factory=list)

    def begin(self, job_ids: Iterable[int]) -> None:
        """Have these looked after, those once more that are looked after now."""
        for job_id in job_ids:
            if job_id in self._busy:
                self._again.add(job_id)
            else:
                self._start(job_id)

    async def give_each(self, job_ids: Iterable[int], *, seconds: float) -> None:
        """Have all these looked after; return when that is done, or after so long.

        Those that are looked after already are not waited for.
        """
        idle = [job_id for job_id in job_ids if job_id not in self._busy]
        for job_id in idle:
            self._start(job_id)
        if idle:
            await asyncio.wait([self._busy[job_id] for job_id in idle], timeout=seconds)
        self.check()

    def check(self) -> None:
        """Raise what was raised since the last time, if anything was."""
        if self._lost:
            lost, self._lost = self._lost, []
            raise lost[0]

    async def end(self) -> None:
        """Look after nothing any more."""
        await end_all(list(self._busy.values()))

    def _start(self, job_id: int) -> None:
        task = asyncio.create_task(self._turn(job_id))
        self._busy[job_id] = task
        task.add_done_callback(lambda _: self._busy.pop(job_id))

    async def _turn(self, job_id: int) -> None:
        turns = self._places.setdefault(self.place_of(job_id), asyncio.Semaphore(self.at_once))
        async with turns:
            while not self._lost:
                self._again.discard(job_id)
                try:
                    await self.look_after(job_id)
                except Exception as error:
                    self._lost.append(error)
                if job_id not in self._again:
                    return


async def end_all(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:  # wait_for, in the pool's acquire, may swallow a cancel
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)
