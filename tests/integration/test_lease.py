"""The lease on supervising, on a real PostgreSQL: taken, renewed, expired, given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest_asyncio

from service.embedded import EmbeddedPostgres
from service.errors import StoreUnavailableError
from service.lease import Candidate, Lease, holder_of, machine_seconds
from service.postgres import Database
from tests.integration.test_api_outage import server
from tests.polling import eventually

__all__ = ["server"]

SHORT = 0.9
"""Seconds of a lease: enough for a slow machine to renew it, short enough to wait for its end."""

MakeCandidate = Callable[..., Awaitable[Candidate]]


@pytest_asyncio.fixture
async def make_candidate(database: str) -> AsyncIterator[MakeCandidate]:
    """Make candidates for the lease of this test's database, each with its own connections."""
    async with AsyncExitStack() as stack:

        async def make(seconds: float = SHORT, holder: UUID | None = None) -> Candidate:
            connected = await Database.connect(database, size=1)
            stack.push_async_callback(connected.close)
            return Candidate(connected, holder or uuid4(), seconds)

        yield make


@pytest_asyncio.fixture
async def owner(database: str) -> AsyncIterator[Any]:
    """A connection of the database's owner."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def take_and_fall_silent(candidate: Candidate) -> Lease:
    """Take the lease as a process does that is stopped right afterwards."""
    async with candidate.database.working_session() as session:
        lease = await candidate._take(session)
    assert lease is not None
    return lease


async def leads_once(candidate: Candidate) -> Lease:
    async with candidate.leading() as lease:
        return lease


async def test_the_first_leads_and_the_second_waits_until_it_is_given_back(
    make_candidate: MakeCandidate,
) -> None:
    first, second = await make_candidate(60), await make_candidate(60)
    async with first.leading() as lease:
        waiting = asyncio.create_task(leads_once(second))
        await eventually(lambda: second._waits)
        assert (first.leads, second.leads) == (True, False)
        assert lease.term == 1
    given_back = time.monotonic()

    assert (await waiting).term == 2
    assert time.monotonic() - given_back < 5  # no need to wait for the minute
    assert not first.leads
    assert not lease.holds


async def test_of_many_at_once_one_takes_it(make_candidate: MakeCandidate, owner: Any) -> None:
    candidates = [await make_candidate(60) for _ in range(8)]

    async def take(candidate: Candidate) -> Lease | None:
        async with candidate.database.working_session() as session:
            return await candidate._take(session)

    taken = await asyncio.gather(*(take(candidate) for candidate in candidates))

    assert [lease.term for lease in taken if lease is not None] == [1]
    assert await owner.fetchval("select term from log_head") == 1


async def test_who_leads_renews_it_and_stays_in_its_term(
    make_candidate: MakeCandidate, owner: Any
) -> None:
    seconds = 4 * SHORT  # a machine that stands still for a moment loses a shorter one, rightly
    first, second = await make_candidate(seconds), await make_candidate()

    async with first.leading() as lease:
        waiting = asyncio.create_task(leads_once(second))
        granted = await owner.fetchrow("select * from leases")
        a_term_later = granted["expires_at"] + timedelta(seconds=seconds)

        async def is_renewed() -> Any:
            assert lease.holds
            row = await owner.fetchrow("select * from leases")
            return row if row["expires_at"] > a_term_later else None

        renewed = await eventually(is_renewed, within=4 * seconds)
        assert not waiting.done()

    assert (renewed["holder"], renewed["term"]) == (first.holder, granted["term"])
    assert (await waiting).term == 2


async def test_it_passes_to_another_once_it_has_expired_and_not_before(
    make_candidate: MakeCandidate, owner: Any
) -> None:
    first, second = await make_candidate(2 * SHORT), await make_candidate()
    old = await take_and_fall_silent(first)
    expires_at = await owner.fetchval("select expires_at from leases")

    async with second.leading() as lease:
        assert lease.term == old.term + 1
        assert not old.holds  # it knew by its own clock, before the other could begin
        assert await owner.fetchval("select renewed_at from leases") >= expires_at
        assert await owner.fetchval("select term from log_head") == lease.term


async def test_the_database_says_when_it_has_expired_and_its_holder_learns_it(
    make_candidate: MakeCandidate, owner: Any
) -> None:
    first, second = await make_candidate(), await make_candidate()

    async with first.leading() as old:
        assert old.holds
        # As if the database's clock had gone on: whatever ours says, the lease is free now.
        await owner.execute("update leases set expires_at = clock_timestamp()")
        async with second.leading() as new:
            assert new.term > old.term
            await eventually(lambda: not old.holds)
            assert new.holds

    assert await owner.fetchval("select holder from leases") is None


async def test_giving_back_what_another_holds_by_now_changes_nothing(
    make_candidate: MakeCandidate, owner: Any
) -> None:
    first, second = await make_candidate(), await make_candidate(60)
    old = await take_and_fall_silent(first)
    async with second.leading():
        before = await owner.fetchrow("select * from leases")

        await first._release(old)
        async with first.database.working_session() as session:
            await first._renew(session, Lease(old.term, machine_seconds() + 1000))

        assert await owner.fetchrow("select * from leases") == before


async def test_a_lost_connection_does_not_lose_it(
    make_candidate: MakeCandidate, owner: Any
) -> None:
    candidate = await make_candidate(3.0)
    async with candidate.leading() as lease:
        renewed_at = await owner.fetchval("select renewed_at from leases")
        await owner.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'epochlog' and datname = current_database()"
        )

        async def is_renewed() -> bool:
            return bool(await owner.fetchval("select renewed_at from leases") > renewed_at)

        await eventually(is_renewed)
        assert lease.holds
        assert lease.term == 1


async def test_who_cannot_reach_the_database_stops_by_its_own_clock(
    server: tuple[EmbeddedPostgres, str],
) -> None:
    postgres, url = server
    database = await Database.connect(url, size=1)
    candidate = Candidate(database, uuid4(), SHORT)

    async with candidate.leading() as lease:
        await postgres.stop()
        await eventually(lambda: not lease.holds, within=5 * SHORT)
        assert not candidate.leads

    await postgres.start()

    async def leads_again() -> Lease | None:
        with suppress(StoreUnavailableError):
            return await leads_once(candidate)
        return None

    again = await eventually(leads_again)
    assert again is not None
    assert again.term > lease.term
    await database.close()


async def test_the_next_service_on_a_state_folder_need_not_wait_for_the_end(
    make_candidate: MakeCandidate,
) -> None:
    holder = holder_of("the identity of the folder")
    killed = await take_and_fall_silent(await make_candidate(600, holder))

    began = time.monotonic()
    successor = await make_candidate(600, holder)
    async with successor.leading() as lease:
        assert lease.term == killed.term + 1
        assert time.monotonic() - began < 5


async def test_a_copied_state_folder_takes_it_once_and_then_waits_like_any_other(
    make_candidate: MakeCandidate,
) -> None:
    holder = holder_of("the identity of both folders")
    first, twin = await make_candidate(600, holder), await make_candidate(600, holder)
    first_lease = await take_and_fall_silent(first)
    twin_lease = await take_and_fall_silent(twin)
    assert twin_lease.term == first_lease.term + 1

    async with first.database.working_session() as session:
        assert await first._take(session) is None
