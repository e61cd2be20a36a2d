"""What somebody may do to a log who owns the database: every guard off, then anything at all."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import asyncpg
import orjson

from projections.chain import GENESIS, link
from projections.events import Record, Source, Unrecognised

GUARDED = "select tablename from pg_tables where tablename like 'events%' or tablename = 'anchors'"


class Superuser:
    """A superuser's connection, behind the backs of all triggers."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Self:
        self.connection: Any = await asyncpg.connect(self._url, user="postgres")
        for row in await self.connection.fetch(GUARDED):
            await self.connection.execute(f"alter table {row['tablename']} disable trigger all")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.connection.close()

    async def run(self, statement: str, *values: Any) -> None:
        """Run a statement that has to change something."""
        done = await self.connection.execute(statement, *values)
        assert not done.endswith(" 0"), f"{statement}: {done}"

    async def chain_anew(self, job_id: int) -> None:
        """Compute a job's hashes anew, and make everything that is kept beside it agree."""
        previous = GENESIS
        rows = await self.connection.fetch(
            "select * from events where job_id = $1 order by version", job_id
        )
        for row in rows:
            previous = link(_record(row), previous)
            await self.run(
                "update events set hash = $1 where position = $2",
                bytes.fromhex(previous),
                row["position"],
            )
        await self.run(
            "update jobs set hash = $1, version = $2, position = $3 where id = $4",
            bytes.fromhex(previous),
            rows[-1]["version"],
            rows[-1]["position"],
            job_id,
        )

    async def end_log_at(self, position: int) -> None:
        """Cut the log off behind a position, and make everything in the database agree."""
        await self.run("delete from events where position > $1", position)
        await self.run("delete from event_ids where position > $1", position)
        await self.run("update log_head set position = $1", position)
        await self.connection.execute(
            "delete from jobs where not exists (select from events where job_id = jobs.id)"
        )
        await self.run(
            "update jobs set version = last.version, position = last.position, hash = last.hash"
            " from (select distinct on (job_id) * from events order by job_id, version desc) last"
            " where last.job_id = jobs.id"
        )


def _record(row: Any) -> Record:
    data = orjson.loads(row["data"])
    record = Record(
        position=row["position"],
        job_id=row["job_id"],
        version=row["version"],
        attempt=row["attempt"],
        event_id=str(row["event_id"]),
        source=Source(row["source"]),
        trace_id=str(row["trace_id"]),
        seq=row["seq"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        rule=row["rule"],
        event=Unrecognised(type=row["type"], data=data),
    )
    return replace(record, stored=data)
