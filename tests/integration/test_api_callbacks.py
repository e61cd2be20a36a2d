"""What a trainer may say, one at a time and many at once, and what it is told."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.http import Answer, Api

BODIES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "epoch": 1, "epochs": 3, "progress": 0.5, "batch": 2, "batches": 4,
        "metrics": {"loss": 0.5, "whole": 2}, "gpu": {"memory_bytes": 1, "names": ["a"]},
    },
    "event": {"type": "checkpoint_saved", "data": {"epoch": 1, "uri": "s3://b/last.pt"}},
    "done": {
        "status": "succeeded", "mlflow_run_id": "run", "metrics": {"map": 0.9},
        "artifacts": [{"name": "best.pt", "uri": "s3://b/best.pt", "sha256": "a" * 64, "bytes": 9}],
    },
}  # fmt: skip
TYPES = {"heartbeat": "heartbeat", "event": "trainer_event", "done": "done"}


async def _batch(api: Api, job: Any, *callbacks: Any, **around: Any) -> Answer:
    return await api.call_back(job, "callbacks", {"callbacks": list(callbacks), **around})


@pytest.mark.parametrize("kind", BODIES)
async def test_a_callback_is_recorded_as_it_was_said(shared_api: Api, kind: str) -> None:
    job = await shared_api.create_job()
    event_id, occurred_at = str(uuid4()), "2026-01-02T03:04:05.678901Z"
    about = {"event_id": event_id, "seq": 7, "occurred_at": occurred_at}

    answer = await shared_api.call_back(
        job, kind, BODIES[kind] | about | {"trace_id": job["trace_id"]}
    )

    assert answer.status == 200
    assert answer.json["applied"] is True
    assert answer.json["duplicate"] is False
    assert not {"rule", "token"} & set(answer.json)
    assert answer.json["directive"] == ("stop" if kind == "done" else "continue")
    event = (await shared_api.events(job, TYPES[kind]))[0]
    assert event["data"] == BODIES[kind]
    assert {name: event[name] for name in about} == about
    assert (event["attempt"], event["source"]) == (1, "trainer")
    assert (event["position"], event["version"]) == (
        answer.json["position"],
        answer.json["version"],
    )


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
async def test_unknown_fields_are_kept(shared_api: Api, kind: str, batched: bool) -> None:
    job = await shared_api.create_job()
    unknown = {"node": {"name": "n1", "of": [1, None, "ü"]}, "extra": {"extra": 0}, "hash": "no"}
    body = BODIES[kind] | unknown

    if batched:
        answer = await _batch(shared_api, job, {"kind": kind} | body)
    else:
        answer = await shared_api.call_back(job, kind, body)

    assert answer.status == 200
    assert (await shared_api.events(job, TYPES[kind]))[0]["data"] == body


async def test_unknown_fields_within_a_done_are_kept(shared_api: Api) -> None:
    job = await shared_api.create_job(max_retries=0)
    error = {"code": "oom", "message": "no memory", "retryable": False, "traceback": ["a"]}
    artifact = {"name": "a", "uri": "b", "license": "c"}

    await shared_api.call_back(
        job, "done", {"status": "failed", "error": error, "artifacts": [artifact]}
    )

    data = (await shared_api.events(job, "done"))[0]["data"]
    assert data == {"status": "failed", "error": error, "artifacts": [artifact]}


async def test_a_heartbeat_may_say_nothing_at_all(shared_api: Api) -> None:
    job = await shared_api.create_job()
    path = f"/v1/jobs/{job['id']}/heartbeat"

    for raw in (None, b"", b"{}"):
        answer = await shared_api.call("POST", path, raw=raw, token=job["callback_token"])
        assert (answer.status, answer.json["applied"]) == (200, True)


@pytest.mark.parametrize("spelling", [str.upper, lambda trace: trace.replace("-", "")])
async def test_the_trace_may_be_spelt_otherwise(shared_api: Api, spelling: Any) -> None:
    job = await shared_api.create_job()

    answer = await shared_api.call_back(job, "heartbeat", {"trace_id": spelling(job["trace_id"])})

    assert answer.status == 200


@pytest.mark.parametrize("trace_id", ["", "abc", str(uuid4())], ids=["empty", "abc", "another"])
@pytest.mark.parametrize("kind", ["heartbeat", "callbacks", "callbacks, on the outside"])
async def test_anothers_trace_is_refused(shared_api: Api, kind: str, trace_id: str) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()
    beat = {"kind": "heartbeat", "seq": 1}

    if kind == "heartbeat":
        answer = await shared_api.call_back(job, kind, {"trace_id": trace_id})
    elif kind == "callbacks":
        answer = await _batch(shared_api, job, beat, {"kind": "heartbeat", "trace_id": trace_id})
    else:
        answer = await _batch(shared_api, job, beat, trace_id=trace_id)

    assert (answer.status, answer.json["code"]) == (409, "trace_mismatch")
    assert await shared_api.said() == before


async def test_a_batch_is_recorded_in_its_order(shared_api: Api) -> None:
    job = await shared_api.create_job(epochs=499)
    beats = [{"kind": "heartbeat", "epoch": epoch, "seq": epoch} for epoch in range(1, 500)]

    answer = await _batch(shared_api, job, *beats, {"kind": "done", "status": "succeeded"})

    results = answer.json["results"]
    assert (answer.status, len(results)) == (200, 500)
    assert [item["version"] for item in results] == sorted(item["version"] for item in results)
    positions = [item["position"] for item in results]
    assert positions == list(range(positions[0], positions[0] + 500))
    assert {(item["status"], item["applied"]) for item in results} == {("succeeded", True)}
    assert answer.json["directive"] == "stop"
    said = [event["data"]["epoch"] for event in await shared_api.events(job, "heartbeat")]
    assert said == list(range(1, 500))


async def test_501_callbacks_are_too_many(shared_api: Api) -> None:
    job = await shared_api.create_job()

    answer = await _batch(shared_api, job, *([{"kind": "heartbeat"}] * 501))

    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == "callbacks"
    assert await shared_api.events(job, "heartbeat") == []


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"kind": "heartbeat", "epoch": -1}, "callbacks.2.epoch"),
        ({"kind": "heartbeat", "metrics": {"a": None}}, "callbacks.2.metrics.a"),
        ({"kind": "done"}, "callbacks.2.status"),
        ({"kind": "event", "type": "a\0"}, "callbacks.2.type"),
        ({"kind": "other"}, "callbacks.2"),
        ({}, "callbacks.2"),
        (None, "callbacks.2"),
    ],
    ids=["negative epoch", "null metric", "no status", "NUL", "unknown kind", "no kind", "null"],
)
async def test_one_bad_callback_among_good_ones_writes_nothing(
    shared_api: Api, bad: Any, field: str
) -> None:
    job = await shared_api.create_job()
    good = {"kind": "heartbeat", "epoch": 1}

    answer = await _batch(shared_api, job, good, good, bad, good)

    assert answer.status == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert await shared_api.events(job, "heartbeat") == []


async def test_one_conflict_among_new_callbacks_writes_nothing(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat", {"seq": 1, "epoch": 1})

    answer = await _batch(
        shared_api, job, {"kind": "heartbeat", "seq": 2}, {"kind": "event", "seq": 1, "type": "x"}
    )

    assert (answer.status, answer.json["code"]) == (409, "event_id_conflict")
    assert len(await shared_api.events(job, "heartbeat")) == 1


async def test_what_a_batch_says_around_its_callbacks_is_kept(shared_api: Api) -> None:
    job = await shared_api.create_job()
    own = {"kind": "heartbeat", "occurred_at": "2026-01-01T00:00:00.000000Z"}

    answer = await _batch(
        shared_api,
        job,
        {"kind": "heartbeat", "node": "inner"},
        own,
        node="outer",
        rack=3,
        trace_id=job["trace_id"],
        occurred_at="2026-02-02T00:00:00.000000Z",
    )

    assert answer.status == 200
    first, second = await shared_api.events(job, "heartbeat")
    assert first["data"] == {"node": "inner", "rack": 3}
    assert first["occurred_at"].startswith("2026-02-02")
    assert (second["data"], second["occurred_at"]) == (
        {},
        own["occurred_at"].replace(".000000", ""),
    )


@pytest.mark.parametrize("name", ["event_id", "seq"])
async def test_a_batch_has_no_number_of_its_own(shared_api: Api, name: str) -> None:
    job = await shared_api.create_job()

    answer = await _batch(shared_api, job, {"kind": "heartbeat"}, **{name: 1})

    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == name


async def test_an_event_without_a_clock_occurred_when_it_was_recorded(shared_api: Api) -> None:
    job = await shared_api.create_job()

    await shared_api.call_back(job, "heartbeat")

    beat = (await shared_api.events(job, "heartbeat"))[0]
    assert beat["occurred_at"] == beat["recorded_at"]


async def test_a_wrong_clock_orders_nothing(shared_api: Api) -> None:
    job = await shared_api.create_job()

    for epoch, year in ((1, 2099), (2, 1970), (3, 2026)):
        body = {"epoch": epoch, "occurred_at": f"{year}-01-01T00:00:00+14:00"}
        await shared_api.call_back(job, "heartbeat", body)

    beats = await shared_api.events(job, "heartbeat")
    assert [beat["data"]["epoch"] for beat in beats] == [1, 2, 3]
    shown = (await shared_api.get(f"/v1/jobs/{job['id']}")).json
    assert shown["progress"]["epoch"] == 3
    assert shown["health"]["alive_at"] == beats[-1]["recorded_at"]
