"""Making, cancelling and launching jobs by the control API."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest

from service.clusters import Cluster, Clusters
from tests.conftest import StartService
from tests.http import NEW_JOB, Api

CONTRACT = {
    "id", "status", "reason", "trace_id", "attempt", "retry_count", "max_retries", "interruptions",
    "dataset_id", "model_name", "epochs", "params", "labels", "progress", "health", "mlflow_run_id",
    "artifacts", "created_at", "queued_at", "started_at", "completed_at", "cancel_requested",
    "version", "position",
}  # fmt: skip


async def test_a_new_job_is_shown_whole(shared_api: Api) -> None:
    answer = await shared_api.post("/v1/jobs", NEW_JOB)

    job = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert set(job) >= CONTRACT
    assert (job["status"], job["reason"]["code"]) == ("pending", "created")
    assert (job["attempt"], job["retry_count"], job["max_retries"]) == (1, 0, 3)
    assert (job["params"], job["labels"], job["artifacts"]) == ({}, {}, [])
    assert job["progress"] | {"batch": 0, "batches": 0} == {
        "epoch": 0, "epochs": 3, "fraction": 0, "metrics": {}, "batch": 0, "batches": 0,
    }  # fmt: skip
    assert job["health"]["verdict"] == "not_running"
    assert job["version"] == 1


async def test_everything_that_a_job_was_made_with_is_kept(shared_api: Api) -> None:
    body = {
        "dataset_id": "coco-8_v1.2",
        "model_name": "org/yolov8n.pt",
        "epochs": 1_000_000,
        "max_retries": 0,
        "imgsz": 64,
        "batch": 4,
        "params": {"lr0": 0.01, "nested": {"list": [1, None, True, "ü"]}},
        "labels": {"team": "vision", "app.kubernetes.io/name": ""},
        "priority": -5,
    }

    job = await shared_api.create_job(**body)

    shown = (await shared_api.get(f"/v1/jobs/{job['id']}")).json
    assert {name: shown[name] for name in body} == body
    created = (await shared_api.events(job))[0]
    assert created["type"] == "created"
    assert created["data"]["params"] == body["params"]


async def test_a_job_may_name_its_cluster(api: Api) -> None:
    api.service.instance.clusters = Clusters((Cluster(name="a100"), Cluster(name="h100")))

    job = await api.create_job(cluster="h100")
    elsewhere = await api.post("/v1/jobs", NEW_JOB | {"cluster": "b200"})

    assert job["cluster"] == "h100"
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["cluster"] == "h100"
    assert (await api.events(job))[0]["data"]["cluster"] == "h100"
    assert elsewhere.status == 400
    assert elsewhere.json["errors"] == [
        {"field": "cluster", "message": "needs the name of a cluster (a100, h100)"}
    ]


async def test_a_job_that_names_no_cluster_says_nothing_of_one(shared_api: Api) -> None:
    job = await shared_api.create_job()

    assert job["cluster"] is None
    assert "cluster" not in (await shared_api.events(job))[0]["data"]


@pytest.mark.parametrize(
    ("before", "after"), [({}, {"cluster": "a"}), ({"cluster": "a"}, {"cluster": "b"})]
)
async def test_another_cluster_is_another_body(
    api: Api, before: dict[str, Any], after: dict[str, Any]
) -> None:
    api.service.instance.clusters = Clusters((Cluster(name="a"), Cluster(name="b")))

    first = await api.post("/v1/jobs", NEW_JOB | before, Idempotency_Key="cluster")
    second = await api.post("/v1/jobs", NEW_JOB | after, Idempotency_Key="cluster")
    again = await api.post("/v1/jobs", NEW_JOB | before, Idempotency_Key="cluster")

    assert (first.status, second.status, again.status) == (201, 409, 200)


async def test_a_local_job_comes_without_a_callback_token(start_service: StartService) -> None:
    api = await start_service(EPOCHLOG_EXECUTOR="local", EPOCHLOG_TRAINER_COMMAND="true")

    job = await api.create_job()

    assert "callback_token" not in job


async def test_an_external_job_comes_with_a_token_for_its_first_attempt(shared_api: Api) -> None:
    job = await shared_api.create_job()

    claims = jwt.decode(job["callback_token"], options={"verify_signature": False})
    assert (claims["job_id"], claims["attempt"]) == (job["id"], 1)
    assert claims["scope"] == "training-callback"
    assert claims["exp"] - claims["iat"] == pytest.approx(6 * 3600)


async def test_the_same_key_and_body_again_give_the_same_job(shared_api: Api) -> None:
    first = await shared_api.post("/v1/jobs", NEW_JOB, Idempotency_Key="again")
    second = await shared_api.post(
        "/v1/jobs", dict(reversed(NEW_JOB.items())) | {"max_retries": 3}, Idempotency_Key="again"
    )

    assert (first.status, second.status) == (201, 200)
    assert second.json["id"] == first.json["id"]
    assert second.json["callback_token"]
    assert len(await shared_api.events(first.json, "created")) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"epochs": 4}),
        ({}, {"labels": {"a": "b"}}),
        ({"params": {"x": 1}}, {"params": {"x": True}}),
        ({"params": {"x": 1}}, {"params": {"x": "1"}}),
        ({"params": {"x": None}}, {"params": {}}),
    ],
    ids=["epochs", "labels", "true is not 1", "text is not a number", "null is not absent"],
)
async def test_the_same_key_with_another_body_is_a_conflict(
    shared_api: Api, before: dict[str, Any], after: dict[str, Any], request: Any
) -> None:
    key = f"conflict {request.node.callspec.id}"
    first = await shared_api.post("/v1/jobs", NEW_JOB | before, Idempotency_Key=key)

    second = await shared_api.post("/v1/jobs", NEW_JOB | after, Idempotency_Key=key)

    assert (first.status, second.status) == (201, 409)
    assert second.json["code"] == "idempotency_conflict"


@pytest.mark.parametrize("number", [1.0, 1e22, 1.2345678901234567e19, 5e-324, -0.0, 2**64 - 1])
async def test_a_number_is_the_same_number_however_the_log_spells_it(
    shared_api: Api, number: float
) -> None:
    body = NEW_JOB | {"params": {"x": number}}
    answers = [
        await shared_api.post("/v1/jobs", body, Idempotency_Key=f"number {number!r}")
        for _ in range(2)
    ]

    assert [answer.status for answer in answers] == [201, 200]


async def test_one_key_sent_many_times_at_once_makes_one_job(shared_api: Api) -> None:
    answers = await asyncio.gather(
        *(shared_api.post("/v1/jobs", NEW_JOB, Idempotency_Key="at once") for _ in range(20))
    )

    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    "key",
    ["k" * 201, "a\tb", " ", "a\xad"],
    ids=["201 letters", "a tab", "a space", "an invisible letter"],
)
async def test_a_malformed_key_is_refused(shared_api: Api, key: str) -> None:
    before = await shared_api.said()

    answer = await shared_api.post("/v1/jobs", NEW_JOB, Idempotency_Key=key)

    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == "Idempotency-Key"
    assert await shared_api.said() == before


async def test_a_job_that_was_never_launched_is_cancelled_at_once(shared_api: Api) -> None:
    job = await shared_api.create_job()

    answer = await shared_api.post(f"/v1/jobs/{job['id']}/cancel", {"reason": "a typo"})

    assert answer.status == 202
    assert answer.json["status"] == "cancelled"
    assert answer.json["reason"]["code"] == "cancelled_before_launch"
    assert answer.json["cancel_requested"] is True
    assert answer.json["completed_at"]
    asked = (await shared_api.events(job, "cancel_requested"))[0]
    assert (asked["source"], asked["data"]) == ("operator", {"reason": "a typo"})


@pytest.mark.parametrize(
    "raw",
    [None, b"", b"  ", b"{}", b'{"reason": null}'],
    ids=["no body", "0", "spaces", "{}", "null"],
)
async def test_a_cancel_needs_no_reason(shared_api: Api, raw: bytes | None) -> None:
    job = await shared_api.create_job()

    answer = await shared_api.call("POST", f"/v1/jobs/{job['id']}/cancel", raw=raw)

    assert answer.status == 202


async def test_a_second_cancel_is_the_same_cancel(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat")

    answers = [await shared_api.post(f"/v1/jobs/{job['id']}/cancel") for _ in range(2)]

    assert [answer.status for answer in answers] == [202, 202]
    assert [answer.json["status"] for answer in answers] == ["running", "running"]
    assert answers[1].json["cancel_requested"] is True
    assert len(await shared_api.events(job, "cancel_requested")) == 1


@pytest.mark.parametrize("ending", ["cancelled", "succeeded", "failed"])
async def test_a_cancel_after_the_end_is_a_conflict(shared_api: Api, ending: str) -> None:
    job = await shared_api.create_job(max_retries=0)
    if ending == "cancelled":
        await shared_api.post(f"/v1/jobs/{job['id']}/cancel")
    else:
        await shared_api.call_back(job, "done", {"status": ending})
    before = await shared_api.events(job)

    answer = await shared_api.post(f"/v1/jobs/{job['id']}/cancel")

    assert (answer.status, answer.json["code"]) == (409, "job_is_final")
    assert await shared_api.events(job) == before


async def test_a_token_can_be_had_for_the_current_attempt(shared_api: Api) -> None:
    job = await shared_api.create_job()

    issued = (await shared_api.post(f"/v1/jobs/{job['id']}/token")).json

    beat = await shared_api.call_back(job | issued, "heartbeat")
    assert (issued["attempt"], beat.json["applied"]) == (1, True)
    event = (await shared_api.events(job, "token_issued"))[0]
    claims = jwt.decode(issued["callback_token"], options={"verify_signature": False})
    assert (event["source"], event["data"]["jti"]) == ("operator", claims["jti"])
    assert set(event["data"]) == {"jti", "expires_at"}


async def test_a_token_in_the_log_would_be_a_leak(shared_api: Api) -> None:
    job = await shared_api.create_job()
    issued = (await shared_api.post(f"/v1/jobs/{job['id']}/token")).json
    await shared_api.call_back(job, "heartbeat")

    rows = await shared_api.select(
        "select e::text as event, j::text as job from events e join jobs j on j.id = e.job_id"
        " where e.job_id = $1",
        job["id"],
    )

    kept = " ".join(row["event"] + row["job"] for row in rows)
    for token in (job["callback_token"], issued["callback_token"]):
        assert not any(part in kept for part in token.split(".")[1:])


async def test_a_job_that_has_ended_gets_no_token(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "done", {"status": "succeeded"})

    answer = await shared_api.post(f"/v1/jobs/{job['id']}/token")

    assert (answer.status, answer.json["code"]) == (409, "job_is_final")


@pytest.mark.parametrize("call", ["cancel", "token"])
@pytest.mark.parametrize("job_id", ["0", "999999999", str(2**63 - 1), str(2**63), "9" * 100])
async def test_no_job_no_call(shared_api: Api, call: str, job_id: str) -> None:
    answer = await shared_api.post(f"/v1/jobs/{job_id}/{call}")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
async def test_a_new_api_token_works_and_only_its_hash_is_kept(shared_api: Api, role: str) -> None:
    made = await shared_api.post("/v1/tokens", {"role": role, "name": "for a test"})

    assert made.status == 201
    assert (made.json["role"], made.json["name"]) == (role, "for a test")
    reading = await shared_api.call("GET", "/v1/jobs", token=made.json["token"])
    assert reading.status == 200
    rows = await shared_api.select("select t::text as kept from api_tokens t")
    assert not any(made.json["token"] in row["kept"] for row in rows)
