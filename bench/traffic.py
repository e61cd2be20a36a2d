"""What the load generator sends: request after request, as bytes, made as cheaply as can be."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from pydantic import BaseModel, ConfigDict

EPOCHS = 1_000_000
BATCHES = 100  # of an epoch

_SAID = (
    b'{%b"event_id":"%b","seq":%d,"occurred_at":"%b","epoch":%d,"epochs":%d,"batch":%d,'
    b'"batches":%d,"progress":%.6f,"metrics":{"loss":%.5f,"mAP50":%.5f,"mAP50-95":%.5f,'
    b'"lr":%.6f},"gpu":{"utilization":%d,"memory_mb":%d}}'
)
_POST = (
    b"POST %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
_GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"


class Trainer(BaseModel):
    """Who calls back: one attempt of one job, and the first `seq` that it has not used."""

    model_config = ConfigDict(frozen=True)
    job_id: int
    token: str
    seq: int = 1


@dataclass(frozen=True, slots=True)
class EventIds:
    """Version 7 UUIDs, as our trainer makes them, without the cost of a UUID object."""

    run: int

    def text(self, number: int) -> bytes:
        """Return the id of the event of this number."""
        now = time.time_ns() // 1_000_000
        tail = self.run << 32 | number & 0xFFFFFFFF
        return b"%08x-%04x-7%03x-8%03x-%012x" % (
            now >> 16,
            now & 0xFFFF,
            tail >> 60 & 0xFFF,
            tail >> 48 & 0xFFF,
            tail & 0xFFFFFFFFFFFF,
        )


def heartbeats(trainer: Trainer) -> Iterator[bytes]:
    """Yield one heartbeat a request."""
    path, token = b"/v1/jobs/%d/heartbeat" % trainer.job_id, trainer.token.encode()
    for said in _said(trainer, b""):
        yield post(path, token, said)


def callbacks(trainer: Trainer, size: int) -> Iterator[bytes]:
    """Yield `size` heartbeats a request."""
    path, token = b"/v1/jobs/%d/callbacks" % trainer.job_id, trainer.token.encode()
    said = _said(trainer, b'"kind":"heartbeat",')
    while True:
        many = b",".join(next(said) for _ in range(size))
        yield post(path, token, b'{"callbacks":[%b]}' % many)


def reads(paths: list[str], token: str) -> Iterator[bytes]:
    """Yield reads of these paths, in a random order, for ever."""
    requests = [_GET % (path.encode(), token.encode()) for path in paths]
    while True:
        yield random.choice(requests)  # noqa: S311 - no secret


def logged_metrics(run_id: str) -> Iterator[bytes]:
    """Yield calls of MLflow's log-metric, one metric each."""
    for step in count(1):
        said = b'{"run_id":"%b","key":"loss","value":%.5f,"timestamp":%d,"step":%d}' % (
            run_id.encode(),
            1 / step,
            time.time_ns() // 1_000_000,
            step,
        )
        yield post(b"/api/2.0/mlflow/runs/log-metric", b"none", said)


def post(path: bytes, token: bytes, body: bytes) -> bytes:
    """Return a whole request."""
    return _POST % (path, token, len(body), body)


def _said(trainer: Trainer, first: bytes) -> Iterator[bytes]:
    """Yield what a trainer says, each time one batch further."""
    ids = EventIds(random.getrandbits(40))
    for seq in count(trainer.seq):
        epoch, batch = divmod(seq, BATCHES)
        now = datetime.now(UTC).isoformat(timespec="microseconds").encode()
        loss, score = 4 / (1 + epoch / 100), epoch / (epoch + 100)
        yield _SAID % (
            first,
            ids.text(seq),
            seq,
            now,
            epoch + 1,
            EPOCHS,
            batch,
            BATCHES,
            epoch / EPOCHS,
            loss,
            score,
            score * 0.7,
            0.01,
            90 + seq % 10,
            21_000 + seq % 1000,
        )
