"""The library `eventsourcing` on the same PostgreSQL: its recorder, in a process of its own.

`python -m bench.eventsourcing_log` reads what to do from stdin and says what it saw on stdout.
"""

from __future__ import annotations

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import orjson
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel

SAID = (
    b'{"gpu":{"memory_mb":21017,"utilization":97},"batch":17,"epoch":12,"epochs":1000000,'
    b'"batches":100,"metrics":{"lr":0.01,"loss":3.57142,"mAP50":0.10714,"mAP50-95":0.075},'
    b'"progress":0.000011}'
)
PAGE = 5000
STATUSES = {"created": "pending", "heartbeat": "running", "succeeded": "succeeded"}


class Work(BaseModel):
    """What to do on which database."""

    url: str
    what: Literal["append", "fill", "replay"]
    seconds: float = 0.0
    threads: int = 8
    functions: bool = False
    """Whether its functions in the database are used; then an append is one statement."""
    events: int = 0
    jobs: int = 1


class Done(BaseModel):
    """How long each append, or the whole of it, has taken."""

    taken: list[float]


def append(work: Work, recorder: PostgresApplicationRecorder) -> list[float]:
    """Append one event a transaction, in each thread to a job of its own."""
    end = time.perf_counter() + work.seconds

    def loop(_number: int) -> list[float]:
        job, version, taken = uuid.uuid4(), 0, []
        while (start := time.perf_counter()) < end:
            version += 1
            recorder.insert_events([StoredEvent(job, version, "heartbeat", SAID)])
            taken.append(time.perf_counter() - start)
        return taken

    with ThreadPoolExecutor(work.threads) as pool:
        return [one for taken in pool.map(loop, range(work.threads)) for one in taken]


def fill(work: Work, recorder: PostgresApplicationRecorder) -> list[float]:
    """Append so many events, spread over the jobs, in large transactions.

    With `functions` only: its plain way sends them through a pipeline, which at this size may wait
    for ever with the server waiting for it.
    """
    start = time.perf_counter()
    jobs = [uuid.uuid4() for _ in range(work.jobs)]
    length = work.events // work.jobs
    for version in range(1, length + 1):
        topic = {1: "created", length: "succeeded"}.get(version, "heartbeat")
        recorder.insert_events([StoredEvent(job, version, topic, SAID) for job in jobs])
    return [time.perf_counter() - start]


def replay(work: Work, recorder: PostgresApplicationRecorder) -> list[float]:
    """Read every notification and fold it to its job's status and last epoch."""
    start = time.perf_counter()
    jobs: dict[object, tuple[str, int]] = {}
    after, seen = 0, 0
    while page := recorder.select_notifications(after + 1, PAGE):
        for one in page:
            data = orjson.loads(one.state)
            jobs[one.originator_id] = (STATUSES[one.topic], data["epoch"])
        after, seen = page[-1].id, seen + len(page)
    if seen != work.events or set(jobs.values()) != {("succeeded", 12)}:
        raise RuntimeError(f"the replay saw {seen} of {work.events} events")
    return [time.perf_counter() - start]


def main() -> None:
    """Do what stdin says."""
    work = Work.model_validate_json(sys.stdin.buffer.read())
    way = conninfo_to_dict(work.url)
    with PostgresDatastore(
        dbname=str(way["dbname"]),
        host=str(way["host"]),
        port=str(way["port"]),
        user=str(way["user"]),
        password="",
        pool_size=work.threads,
        enable_db_functions=work.functions,
    ) as datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        works = {"append": append, "fill": fill, "replay": replay}
        done = Done(taken=works[work.what](work, recorder))
    sys.stdout.write(done.model_dump_json())


if __name__ == "__main__":
    main()
