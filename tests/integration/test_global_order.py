"""A reader of `position > N` misses nothing, whoever writes and however long a transaction takes.

Every transaction pauses between its insert and its commit. The same reader is shown to miss rows
of a table that numbers its rows by `bigserial`, as most event stores on PostgreSQL began.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg

PROCESSES, EVENTS = 3, 25
PAUSING = """
create function pause() returns trigger language plpgsql as $$
begin
    perform pg_sleep(random() * 0.004);
    return null;
end
$$;
create table naive_log (position bigserial primary key);
create trigger pauses after insert on naive_log for each statement execute function pause();
create trigger pauses after insert on events for each statement execute function pause();
"""


async def _written_by(kind: str, url: str, table: str) -> tuple[list[int], int]:
    """Let the processes write while a reader follows; what it saw, and how many rows there are."""
    connection = await asyncpg.connect(url)
    await connection.execute(PAUSING)
    command = [sys.executable, "-m", "tests.pausing_writer", kind, url, str(EVENTS)]
    writers = [await asyncio.create_subprocess_exec(*command) for _ in range(PROCESSES)]
    written = asyncio.gather(*(writer.wait() for writer in writers))
    seen: list[int] = []
    page = f"select position from {table} where position > $1 order by position limit 100"  # noqa: S608 - our own text
    while True:
        ended = written.done()
        rows = await connection.fetch(page, seen[-1] if seen else 0)
        seen += [row["position"] for row in rows]
        if ended and not rows:
            break
    assert await written == [0] * PROCESSES
    stored = await connection.fetchval(f"select count(*) from {table}")  # noqa: S608
    await connection.close()
    return seen, stored


async def test_a_reader_that_follows_many_writers_misses_nothing(database: str) -> None:
    seen, stored = await _written_by("ours", database, "events")

    assert stored >= PROCESSES * 4 * (EVENTS + 1)
    assert seen == list(range(1, stored + 1))


async def test_the_same_reader_misses_rows_of_a_naive_log(database: str) -> None:
    seen, stored = await _written_by("naive", database, "naive_log")

    assert stored == PROCESSES * 4 * EVENTS
    assert seen == sorted(set(seen))
    assert len(seen) < stored
