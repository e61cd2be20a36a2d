"""Who is looked after when: one task a job, so many a place, and no place waits for another."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from service.turns import Turns
from tests.polling import eventually


@dataclass(slots=True)
class Ward:
    """Jobs that are looked after for as long as their gate is shut."""

    shut: dict[int, asyncio.Event] = field(default_factory=dict)
    begun: Counter[int] = field(default_factory=Counter)
    done: Counter[int] = field(default_factory=Counter)
    at_once: int = 0

    async def look_after(self, job_id: int) -> None:
        self.begun[job_id] += 1
        self.at_once = max(self.at_once, self.begun.total() - self.done.total())
        await asyncio.sleep(0)
        if job_id in self.shut:
            await self.shut[job_id].wait()
        self.done[job_id] += 1

    def shuts(self, *job_ids: int) -> None:
        for job_id in job_ids:
            self.shut[job_id] = asyncio.Event()

    def opens(self, job_id: int) -> None:
        self.shut.pop(job_id).set()


def turns_of(ward: Ward, at_once: int = 2) -> Turns:
    """Even jobs are at one place, odd ones at another."""
    return Turns(ward.look_after, lambda job_id: str(job_id % 2), at_once)


async def test_each_has_its_turn_and_no_more_than_so_many_at_a_place() -> None:
    ward = Ward()
    await turns_of(ward).give_each(range(0, 20, 2), seconds=5)
    assert ward.done == dict.fromkeys(range(0, 20, 2), 1)
    assert ward.at_once == 2


async def test_a_place_that_does_not_answer_keeps_no_other_waiting() -> None:
    ward = Ward()
    ward.shuts(0, 2)
    turns = turns_of(ward)
    await turns.give_each(range(10), seconds=0.05)
    assert ward.done == dict.fromkeys(range(1, 10, 2), 1)
    await turns.give_each(range(10), seconds=0.05)
    assert ward.done == dict.fromkeys(range(1, 10, 2), 2)
    assert ward.begun[0] == ward.begun[2] == 1, "one task a job"
    await turns.end()


async def test_news_about_one_that_is_looked_after_is_looked_at_right_after() -> None:
    ward = Ward()
    ward.shuts(0)
    turns = turns_of(ward)
    turns.begin([0])
    await asyncio.sleep(0)
    turns.begin([0])
    turns.begin([0])
    ward.opens(0)
    await eventually(lambda: ward.done[0] == 2)
    await turns.give_each([1], seconds=5)
    assert ward.begun[0] == 2


async def test_what_one_raises_is_raised_and_ends_the_others_turns() -> None:
    seen: list[int] = []

    async def look_after(job_id: int) -> None:
        seen.append(job_id)
        raise OSError("away")

    turns = Turns(look_after, lambda _: "", 1)
    with pytest.raises(OSError, match="away"):
        await turns.give_each(range(5), seconds=5)
    assert seen == [0]
    turns.check()


async def test_the_end_cancels_what_is_under_way() -> None:
    ward = Ward()
    ward.shuts(0)
    turns = turns_of(ward)
    await turns.give_each([0], seconds=0.01)
    await turns.end()
    assert ward.done == {}
