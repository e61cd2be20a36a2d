"""What a job can go on from, asked with a callback token and read by SQL."""

from __future__ import annotations

from typing import Any

import pytest

from projections.resume import resume
from service import resuming
from tests.conftest import StartService
from tests.growth import EVENTS_A_RANGE, compacted, trained
from tests.http import Api

FATAL = {"code": "broken", "message": "It broke.", "retryable": False}


async def saved(api: Api, job: Any, epoch: int, uri: str, **data: Any) -> None:
    body = {"type": "checkpoint_saved", "data": {"epoch": epoch, "uri": uri, **data}}
    assert (await api.call_back(job, "event", body)).status == 200


async def said(api: Api, job: Any, name: str, **data: Any) -> None:
    assert (await api.call_back(job, "event", {"type": name, "data": data})).status == 200


async def next_attempt(api: Api, job: Any) -> Any:
    """End the attempt; return the job with a token for the next one."""
    await api.call_back(job, "done", {"status": "failed"})
    made = (await api.post(f"/v1/jobs/{job['id']}/token")).json
    return job | {"callback_token": made["callback_token"]}


async def found(api: Api, job: Any) -> Any:
    answer = await api.call("GET", f"/v1/jobs/{job['id']}/resume", token=job["callback_token"])
    assert answer.status == 200
    return answer.json


async def test_a_job_that_saved_nothing_offers_nothing(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat", {"epoch": 1, "batch": 3})

    assert await found(shared_api, job) == {
        "attempt": 1, "checkpoints": [], "epochs_reported": 0, "mlflow_run_id": None
    }  # fmt: skip


async def test_all_attempts_are_looked_at_counted_or_late(shared_api: Api) -> None:
    first = await shared_api.create_job()
    best = {"uri": "s3://b/1/best.pt", "sha256": "be", "bytes": 3, "epoch": 1}
    await said(shared_api, first, "tracking_started", mlflow_run_id="run-1")
    await said(shared_api, first, "epoch_end", epoch=1)
    await saved(shared_api, first, 1, "s3://b/1/1.pt", sha256="aa", bytes=5, best=best)
    second = await next_attempt(shared_api, first)
    await said(shared_api, second, "epoch_end", epoch=2)
    await saved(shared_api, second, 2, "s3://b/2/0.pt")
    await said(shared_api, first, "epoch_end", epoch=3)
    await saved(shared_api, first, 3, "s3://b/1/late.pt")
    beat = {"epoch": 4, "metrics": {"loss": 1.0}}
    await shared_api.call_back(first, "heartbeat", beat)

    answer = await found(shared_api, second)

    shown = [(one["uri"], one["epoch"], one["attempt"]) for one in answer["checkpoints"]]
    assert shown == [
        ("s3://b/1/late.pt", 3, 1),
        ("s3://b/2/0.pt", 2, 2),
        ("s3://b/1/1.pt", 1, 1),
    ]
    last = answer["checkpoints"][-1]
    assert (last["sha256"], last["bytes"], last["best"]) == ("aa", 5, best)
    assert (answer["attempt"], answer["epochs_reported"]) == (2, 4)
    assert answer["mlflow_run_id"] == "run-1"
    job = (await shared_api.get(f"/v1/jobs/{first['id']}")).json
    assert (job["checkpoint"], job["mlflow_run_id"]) == ("s3://b/2/0.pt", "run-1")


async def test_a_damaged_one_gives_way_here_and_in_the_decision(shared_api: Api) -> None:
    first = await shared_api.create_job()
    await saved(shared_api, first, 1, "s3://b/1.pt")
    await saved(shared_api, first, 2, "s3://b/2.pt")
    second = await next_attempt(shared_api, first)
    await said(shared_api, second, "checkpoint_damaged", uri="s3://b/2.pt", message="Gone.")

    third = await next_attempt(shared_api, second)

    assert [one["epoch"] for one in (await found(shared_api, third))["checkpoints"]] == [1]
    decided = [event["data"] for event in await shared_api.events(first, "retry_scheduled")]
    assert [each.get("checkpoint") for each in decided] == ["s3://b/2.pt", "s3://b/1.pt"]


async def test_the_database_picks_what_the_projection_would(
    shared_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "PAGE", 3)
    job = await shared_api.create_job()
    for attempt in range(1, 4):
        for epoch in range(attempt, attempt + 4):
            await shared_api.call_back(job, "heartbeat", {"epoch": epoch, "batch": 1})
            beat = {"epoch": epoch + 1, "metrics": {"loss": 0.5}}
            await shared_api.call_back(job, "heartbeat", beat)
            await said(shared_api, job, "epoch_end", epoch=epoch)
            await saved(shared_api, job, epoch, f"s3://b/{attempt}/{epoch % 2}.pt")
        await said(shared_api, job, "tracking_started", mlflow_run_id=f"run-{attempt}")
        await said(shared_api, job, "resume_failed", uri="s3://b/1/0.pt")
        job = await next_attempt(shared_api, job)
    store = shared_api.service.instance.store

    read = await resuming.resume_of(store, job["id"])

    everything = [record async for page in store.history(job["id"]) for record in page]
    assert read == resume(everything)
    assert len(read.checkpoints) == 5


async def test_compacted_ranges_offer_what_they_did(start_service: StartService) -> None:
    api = await start_service(EPOCHLOG_PARTITION_EVENTS=str(EVENTS_A_RANGE))
    job = await trained(api, ends=None)
    for epoch in (4, 5):
        for _ in range(5):
            beat = {"epoch": epoch, "metrics": {"loss": 1.0}}
            await api.call_back(job, "heartbeat", beat)
        await saved(api, job, epoch, f"s3://b/{epoch}.pt")
    await api.call_back(job, "done", {"status": "failed", "error": FATAL})
    await trained(api)
    before = await found(api, job)

    assert sum(done.gone for done in await compacted(api)) > 20

    assert await found(api, job) == before
    assert (before["epochs_reported"], len(before["checkpoints"])) == (5, 2)


async def test_a_job_that_is_not_there_offers_nothing(shared_api: Api) -> None:
    nothing = await resuming.resume_of(shared_api.service.instance.store, 2**40)

    assert (list(nothing.checkpoints), nothing.epochs_reported) == ([], 0)
