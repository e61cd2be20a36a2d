"""Fills a trainer's outbox and empties it: `python -m bench.filling`, told by JSON on its input."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil
import requests
from pydantic import BaseModel

from bench.contender import Measured
from bench.traffic import BATCHES, EPOCHS
from trainer.callbacks import Callbacks
from trainer.leftovers import journal_path
from trainer.outbox import BATCH_LIMIT, Outbox, fitting, open_outbox
from trainer.sender import JSON

PATIENCE = 300.0
ATTEMPT = 1
MEBIBYTE = 1024 * 1024


class Filling(BaseModel):
    """What to do with so many callbacks, and whom to send them to."""

    kind: Literal["keep", "drain", "post"]
    items: int
    folder: Path
    port: int = 0
    job_id: int = 1
    trace_id: str = ""
    token: str = ""


class Filled(BaseModel):
    """What it took, and by how much this process has grown."""

    items: int
    seconds: float
    mib: float
    delivered: bool = True

    def measured(self, errors: Mapping[str, int] | None = None) -> Measured:
        """Return it as a slice of a contender."""
        found = dict(errors or {}) | ({} if self.delivered else {"not delivered": 1})
        return Measured(self.items / self.seconds, mib=round(self.mib, 1), errors=found)


def do(filling: Filling) -> Filled:
    """Keep the callbacks, and then send them as a trainer that was started anew would."""
    path = journal_path(filling.folder, filling.job_id, ATTEMPT)
    memory, began = _memory(), time.perf_counter()
    outbox = open_outbox(path, filling.trace_id)
    for body in _said(filling.items):
        outbox.put(("heartbeat", body, True))
    kept = Filled(items=filling.items, seconds=time.perf_counter() - began, mib=_memory() - memory)
    try:
        match filling.kind:
            case "keep":
                outbox.close()
                return kept
            case "drain":
                outbox.close()
                return _drain(filling, memory)
            case "post":
                return _post(filling, outbox, memory)
    finally:
        shutil.rmtree(filling.folder)


def _drain(filling: Filling, memory: float) -> Filled:
    began = time.perf_counter()
    callbacks = Callbacks(
        base_url=f"http://127.0.0.1:{filling.port}",
        job_id=filling.job_id,
        trace_id=filling.trace_id,
        token=filling.token,
        hear=lambda _directive: None,
        attempt=ATTEMPT,
        folder=filling.folder,
    )
    delivered = callbacks.flush(PATIENCE)
    seconds = time.perf_counter() - began
    grown = _memory() - memory
    callbacks.close()
    return Filled(items=filling.items, seconds=seconds, mib=grown, delivered=delivered)


def _post(filling: Filling, outbox: Outbox, memory: float) -> Filled:
    """Send the bodies of the same requests, and do nothing else; making them is not counted."""
    seconds, sent = 0.0, 0
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {filling.token}"
        while sent < filling.items:
            batch = fitting(outbox.take()[:BATCH_LIMIT])
            body = b'{"callbacks":[%b]}' % b",".join(item.body for item in batch)
            began = time.perf_counter()
            url = f"http://127.0.0.1:{filling.port}/v1/jobs/{filling.job_id}/heartbeat"
            session.post(url, data=body, headers=JSON, timeout=30).raise_for_status()
            seconds += time.perf_counter() - began
            outbox.settle(batch)
            sent += len(batch)
    outbox.close()
    return Filled(items=sent, seconds=seconds, mib=_memory() - memory)


def _said(items: int) -> Iterator[dict[str, Any]]:
    """Yield what a trainer says, each time one batch further."""
    for number in range(items):
        epoch, batch = divmod(number, BATCHES)
        yield {
            "epoch": epoch + 1,
            "epochs": EPOCHS,
            "batch": batch,
            "batches": BATCHES,
            "progress": round(number / BATCHES / EPOCHS, 6),
            "metrics": {"loss": round(4 / (1 + epoch / 100), 5), "lr": 0.01},
            "gpu": {"utilization": 90 + number % 10, "memory_used": 21_000_000_000 + number},
        }


def _memory() -> float:
    """Return the MiB that this process takes."""
    return float(psutil.Process().memory_info().rss) / MEBIBYTE


if __name__ == "__main__":
    told = Filling.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(do(told).model_dump_json())
