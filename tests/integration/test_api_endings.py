"""How a job ends by what its trainer and its operator say, and what comes after the end."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from tests.conftest import StartService
from tests.http import Answer, Api
from tests.polling import eventually

CANCELLED = {"status": "failed", "error": {"code": "cancelled", "message": "as told"}}
OUT_OF_MEMORY = {"status": "failed", "error": {"code": "oom", "message": "no memory"}}
FATAL = {"status": "failed", "error": {"code": "bad", "message": "no data", "retryable": False}}
SUCCESS = {"status": "succeeded"}
LATER: list[tuple[str, dict[str, Any]]] = [
    ("heartbeat", {"epoch": 3}),
    ("event", {"type": "checkpoint_saved", "data": {"uri": "s3://b/late.pt"}}),
    ("done", SUCCESS),
    ("done", OUT_OF_MEMORY),
]


async def _cancel(api: Api, job: Any) -> Answer:
    return await api.post(f"/v1/jobs/{job['id']}/cancel", {"reason": "test"})


async def _shown(api: Api, job: Any) -> Any:
    return (await api.get(f"/v1/jobs/{job['id']}")).json


async def _end(api: Api, job: Any, ending: str) -> None:
    if ending == "cancelled":
        await api.call_back(job, "heartbeat")
        await _cancel(api, job)
        await api.call_back(job, "done", CANCELLED)
    else:
        await api.call_back(job, "done", SUCCESS if ending == "succeeded" else FATAL)
    assert (await _shown(api, job))["status"] == ending


async def test_success_comes_from_done(shared_api: Api) -> None:
    job = await shared_api.create_job()
    artifact = {"name": "best.pt", "uri": "s3://b/best.pt"}

    answer = await shared_api.call_back(
        job, "done", SUCCESS | {"mlflow_run_id": "r", "artifacts": [artifact]}
    )

    assert (answer.json["status"], answer.json["directive"]) == ("succeeded", "stop")
    shown = await _shown(shared_api, job)
    assert (shown["status"], shown["mlflow_run_id"]) == ("succeeded", "r")
    assert shown["artifacts"] == [artifact]
    assert shown["progress"]["fraction"] == 1
    why = (await shared_api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert why["rule"] == "done_decides_success"


async def test_a_failure_that_would_come_again_ends_the_job(shared_api: Api) -> None:
    job = await shared_api.create_job()

    answer = await shared_api.call_back(job, "done", FATAL)

    assert (answer.json["status"], answer.json["directive"]) == ("failed", "stop")
    shown = await _shown(shared_api, job)
    assert shown["reason"]["code"] == "bad"
    assert shown["retry_count"] == 0


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize(
    ("kind", "body"), LATER, ids=["heartbeat", "checkpoint", "succeeded", "failed"]
)
async def test_after_the_end_everything_is_recorded_and_nothing_counts(
    shared_api: Api, ending: str, kind: str, body: dict[str, Any]
) -> None:
    job = await shared_api.create_job()
    await _end(shared_api, job, ending)
    before = await _shown(shared_api, job)

    answer = await shared_api.call_back(job, kind, body)

    assert answer.status == 200
    assert (answer.json["applied"], answer.json["rule"]) == (False, "job_is_final")
    assert (answer.json["status"], answer.json["directive"]) == (ending, "stop")
    after = await _shown(shared_api, job)
    assert after.pop("version") == before.pop("version") + 1
    assert after.pop("position") > before.pop("position")
    assert after == before
    event = (await shared_api.events(job))[-1]
    assert (event["position"], event["rule"]) == (answer.json["position"], "job_is_final")
    why = (await shared_api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert answer.json["position"] in [item["position"] for item in why["ignored"]]


async def test_a_batch_after_the_end_is_recorded_and_does_not_count(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await _end(shared_api, job, "succeeded")
    callbacks = [{"kind": kind} | body for kind, body in LATER]

    answer = await shared_api.call_back(job, "callbacks", {"callbacks": callbacks})

    assert {item["rule"] for item in answer.json["results"]} == {"job_is_final"}
    assert {item["applied"] for item in answer.json["results"]} == {False}
    assert answer.json["directive"] == "stop"


async def test_within_a_batch_only_what_comes_before_done_counts(shared_api: Api) -> None:
    job = await shared_api.create_job()
    beat = {"kind": "heartbeat"}
    callbacks = [beat, {"kind": "done"} | SUCCESS, {"kind": "done"} | FATAL, beat]

    answer = await shared_api.call_back(job, "callbacks", {"callbacks": callbacks})

    assert [item["applied"] for item in answer.json["results"]] == [True, True, False, False]
    assert {item.get("rule") for item in answer.json["results"][2:]} == {"attempt_is_done"}
    assert (await _shown(shared_api, job))["status"] == "succeeded"


async def test_a_running_trainer_is_told_of_a_cancel_and_the_log_knows(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat")
    await _cancel(shared_api, job)

    told = await shared_api.call_back(job, "heartbeat", {"epoch": 1})
    again = await shared_api.call_back(job, "event", {"type": "checkpoint_saved"})

    assert (told.json["directive"], told.json["applied"]) == ("cancel", True)
    assert again.json["directive"] == "cancel"
    delivered = await shared_api.events(job, "cancel_delivered")
    assert len(delivered) == 1
    assert delivered[0]["position"] > told.json["position"]
    asked = (await shared_api.events(job, "cancel_requested"))[0]
    assert delivered[0]["data"] == {"because": [asked["position"]]}


@pytest.mark.parametrize("body", [CANCELLED, OUT_OF_MEMORY], ids=["cancelled", "out of memory"])
@pytest.mark.parametrize("heard", [True, False], ids=["after it heard", "before it heard"])
async def test_a_failure_after_a_cancel_is_the_cancel(
    shared_api: Api, heard: bool, body: dict[str, Any]
) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat")
    await _cancel(shared_api, job)
    if heard:
        await shared_api.call_back(job, "heartbeat")

    answer = await shared_api.call_back(job, "done", body)

    assert (answer.json["status"], answer.json["applied"]) == ("cancelled", True)
    shown = await _shown(shared_api, job)
    assert (shown["reason"]["code"], shown["cancel_requested"]) == ("cancelled", True)


async def test_a_success_sent_before_the_trainer_heard_of_the_cancel_wins(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat")
    await _cancel(shared_api, job)

    answer = await shared_api.call_back(job, "done", SUCCESS)

    assert (answer.json["status"], answer.json["applied"]) == ("succeeded", True)
    why = (await shared_api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert answer.json["position"] in why["conflicts"][0]["positions"]
    assert why["conflicts"][0]["verdict"] == "succeeded"


async def test_a_success_after_the_trainer_heard_of_the_cancel_does_not_win(
    shared_api: Api,
) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat")
    await _cancel(shared_api, job)
    await shared_api.call_back(job, "heartbeat")

    answer = await shared_api.call_back(job, "done", SUCCESS)

    assert answer.json["status"] == "cancelled"
    why = (await shared_api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert answer.json["position"] in why["conflicts"][0]["positions"]
    assert why["conflicts"][0]["verdict"] == "cancelled"


async def test_a_cancel_after_success_changes_nothing(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "done", SUCCESS)

    assert (await _cancel(shared_api, job)).status == 409
    assert (await _shown(shared_api, job))["cancel_requested"] is False


async def test_a_retry_makes_the_old_attempts_token_stale(shared_api: Api) -> None:
    old = await shared_api.create_job(max_retries=1)
    saved = {"type": "checkpoint_saved", "data": {"epoch": 1, "uri": "s3://b/last.pt"}}
    await shared_api.call_back(old, "event", saved)
    failed = await shared_api.call_back(old, "done", OUT_OF_MEMORY)
    assert (failed.json["status"], failed.json["directive"]) == ("queued", "stop")

    shown = await _shown(shared_api, old)
    assert (shown["attempt"], shown["retry_count"]) == (2, 1)
    assert shown["reason"]["code"] in {"retry_scheduled", "waiting_for_trainer"}
    decision = (await shared_api.events(old, "retry_scheduled"))[0]["data"]
    assert decision["checkpoint"] == "s3://b/last.pt"
    assert (decision["retry_count_before"], decision["retry_count_after"]) == (0, 1)
    assert (decision["failure_class"], decision["next_attempt"]) == ("retryable", 2)
    assert decision["delay_seconds"] == 30

    issued = (await shared_api.post(f"/v1/jobs/{old['id']}/token")).json
    assert issued["attempt"] == 2
    stale = await shared_api.call_back(old, "heartbeat", {"epoch": 3})
    assert (stale.status, stale.json["applied"]) == (200, False)
    assert (stale.json["rule"], stale.json["directive"]) == ("stale_attempt", "stop")
    assert (await _shown(shared_api, old))["status"] == "queued"

    new = old | issued
    beat = await shared_api.call_back(new, "heartbeat", {"epoch": 1})
    assert (beat.json["status"], beat.json["applied"]) == ("running", True)
    late = await shared_api.call_back(old, "done", SUCCESS)
    assert (late.json["status"], late.json["rule"]) == ("running", "stale_attempt")
    done = await shared_api.call_back(new, "done", SUCCESS)
    assert done.json["status"] == "succeeded"


async def test_seq_starts_anew_with_each_attempt(shared_api: Api) -> None:
    first = await shared_api.create_job()
    await shared_api.call_back(first, "heartbeat", {"seq": 1})
    await shared_api.call_back(first, "done", OUT_OF_MEMORY | {"seq": 2})
    issued = (await shared_api.post(f"/v1/jobs/{first['id']}/token")).json

    answer = await shared_api.call_back(first | issued, "heartbeat", {"seq": 1, "epoch": 9})

    assert (answer.json["duplicate"], answer.json["applied"]) == (False, True)


async def test_the_last_retry_spent_is_the_end(shared_api: Api) -> None:
    job = await shared_api.create_job(max_retries=1)
    await shared_api.call_back(job, "done", OUT_OF_MEMORY)
    issued = (await shared_api.post(f"/v1/jobs/{job['id']}/token")).json

    answer = await shared_api.call_back(job | issued, "done", OUT_OF_MEMORY)

    assert answer.json["status"] == "failed"
    shown = await _shown(shared_api, job)
    assert (shown["attempt"], shown["retry_count"], shown["reason"]["code"]) == (2, 1, "oom")
    why = (await shared_api.get(f"/v1/jobs/{job['id']}/explain")).json
    assert why["rule"] == "retries_spent"


async def test_a_cancel_while_a_retry_waits_is_at_once(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "done", OUT_OF_MEMORY)

    answer = await _cancel(shared_api, job)

    assert (answer.status, answer.json["status"]) == (202, "cancelled")


async def test_an_external_trainer_that_falls_silent_after_a_cancel_is_cancelled(
    start_service: StartService,
) -> None:
    api = await start_service(EPOCHLOG_HEARTBEAT_TIMEOUT="1.5")
    job = await api.create_job()
    await api.call_back(job, "heartbeat")
    await _cancel(api, job)

    async def cancelled() -> bool:
        return bool((await _shown(api, job))["status"] == "cancelled")

    await eventually(cancelled)


async def test_a_token_past_half_its_life_is_renewed_and_the_new_one_works(
    start_service: StartService,
) -> None:
    api = await start_service(EPOCHLOG_TOKEN_TTL="4")
    job = await api.create_job()
    early = await api.call_back(job, "heartbeat")
    assert "token" not in early.json

    async def renewed() -> Any:
        return (await api.call_back(job, "heartbeat")).json.get("token")

    token = await eventually(renewed)
    old, new = (
        jwt.decode(text, options={"verify_signature": False})
        for text in (job["callback_token"], token)
    )
    assert {name: new[name] for name in ("job_id", "attempt", "scope")} == {
        name: old[name] for name in ("job_id", "attempt", "scope")
    }
    assert new["exp"] > old["exp"]
    assert new["jti"] != old["jti"]
    fresh = job | {"callback_token": token}
    assert "token" not in (await api.call_back(fresh, "heartbeat")).json

    batch = await api.call_back(job, "callbacks", {"callbacks": [{"kind": "heartbeat"}]})
    assert batch.json["token"]
    done = await api.call_back(fresh, "done", SUCCESS)
    assert done.json["status"] == "succeeded"
    late = await api.call_back(job, "heartbeat")
    assert (late.json["directive"], late.json.get("token")) == ("stop", None)

    async def expired() -> bool:
        return (await api.call_back(job, "heartbeat")).status == 401

    await eventually(expired)
    answer = await api.call_back(job, "heartbeat")
    assert answer.json["code"] == "token_expired"
