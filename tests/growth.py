"""Trainings with many heartbeats, and what a log with a past is asked before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from projections.archives import Seal
from service.compaction import Compacted, Compaction
from service.object_store import ObjectStore
from service.restoring import Restoration
from service.storage_url import open_store
from tests.conftest import SECRET_KEY
from tests.http import Api

EVENTS_A_RANGE = 50
SEAL = Seal(SECRET_KEY)


async def trained(
    api: Api, *, epochs: int = 3, beats: int = 20, ends: str | None = "succeeded", **job: Any
) -> Any:
    """A training of some epochs with heartbeats in each, and with an end if it is to have one."""
    made = await api.create_job(epochs=epochs, **job)
    seq = 0
    for epoch in range(1, epochs + 1):
        callbacks = []
        for batch in range(beats):
            seq += 1
            callbacks.append(
                {
                    "kind": "heartbeat",
                    "epoch": epoch,
                    "epochs": epochs,
                    "batch": batch,
                    "batches": beats,
                    "metrics": {"loss": 1 / (seq + 1), "n": 1.0, "big": 10**22},
                    "seq": seq,
                }
            )
        seq += 1
        data = {"epoch": epoch, "metrics": {"map": epoch / 10}}
        callbacks.append({"kind": "event", "type": "epoch_end", "data": data, "seq": seq})
        answer = await api.call_back(made, "callbacks", {"callbacks": callbacks})
        assert answer.status == 200, answer.text
    if ends is not None:
        broken = {"code": "broken", "message": "It broke.", "retryable": False}
        done = {"status": ends, "seq": seq + 1} | ({"error": broken} if ends == "failed" else {})
        assert (await api.call_back(made, "done", done)).status == 200
    return made


def compaction(api: Api, objects: ObjectStore | None = None) -> Compaction:
    """Compacts the log of a service, whose callback tokens are taken for expired."""
    instance = api.service.instance
    return Compaction(
        database=instance.database,
        objects=objects or open_store(instance.settings.archive_url),
        seal=SEAL,
        token_ttl=0,
    )


async def compacted(api: Api, objects: ObjectStore | None = None) -> list[Compacted]:
    """Compact every complete range, however young; what became of each."""
    return [done async for done in compaction(api, objects).compacted(0)]


async def restored(api: Api, *names: str, objects: ObjectStore | None = None) -> dict[str, int]:
    """Bring back the ranges of these names, or all; how many events each got back."""
    instance = api.service.instance
    restoration = Restoration(
        database=instance.database,
        objects=objects or open_store(instance.settings.archive_url),
        seal=SEAL,
    )
    return {part.name: back async for part, back in restoration.restored(names or None)}


async def told(api: Api, job: Any) -> dict[str, Any]:
    """Everything that is told of a job but its events; what goes on has no length yet."""
    path = f"/v1/jobs/{job['id']}"
    answers = {name: (await api.get(path + name)).json for name in ("", "/timeline", "/explain")}
    for attempt in answers["/timeline"]["attempts"]:
        for phase in attempt["phases"]:
            phase["seconds"] = phase["to"] and phase["seconds"]
    return answers


async def rows(api: Api, first: int = 1) -> list[tuple[Any, ...]]:
    """The log as it lies, from a position on."""
    query = (
        "select events.*, data::text as spelt from events where position >= $1 order by position"
    )
    return [tuple(row) for row in await api.select(query, first)]


def archive_files(api: Api) -> dict[str, int]:
    """What lies in the archive of a service that keeps it in a folder, and since when."""
    folder = Path(api.service.instance.settings.archive_url)
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
