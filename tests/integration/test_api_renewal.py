"""A callback token that is renewed: also after its end, and never by anybody else."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tests.conftest import StartService
from tests.http import Answer, Api
from tests.tokens import claims, token

TTL = 21_600
WEEK = 604_800
SUCCESS = {"status": "succeeded"}


def aged(job: Any, seconds: float, **changed: object) -> str:
    """A token of the job's first attempt that was issued so long ago."""
    issued = time.time() - seconds
    return token(claims(job["id"], **{"iat": issued, "exp": issued + TTL, **changed}))


async def renew(api: Api, job: Any, given: str) -> Answer:
    return await api.call("POST", f"/v1/jobs/{job['id']}/token/renew", token=given)


async def issued(api: Api, job: Any) -> list[Any]:
    return list(await api.events(job, "token_issued"))


def read(text: str) -> dict[str, Any]:
    return dict(jwt.decode(text, options={"verify_signature": False}))


@pytest.mark.parametrize(
    "age", [TTL * 0.6, TTL + 10, TTL + WEEK - 60], ids=["past its half", "ended", "ended long ago"]
)
async def test_a_token_is_exchanged_for_one_that_works(shared_api: Api, age: float) -> None:
    job = await shared_api.create_job()

    answer = await renew(shared_api, job, aged(job, age))

    assert (answer.status, answer.json["attempt"]) == (200, 1)
    fresh = read(answer.json["callback_token"])
    assert (fresh["job_id"], fresh["attempt"]) == (job["id"], 1)
    assert fresh["exp"] - time.time() == pytest.approx(TTL, abs=60)
    (event,) = await issued(shared_api, job)
    assert (event["source"], event["attempt"], event["rule"]) == ("api", 1, None)
    assert event["data"]["jti"] == fresh["jti"]
    assert answer.json["callback_token"] not in str(event)
    told = await shared_api.call_back(
        job | {"callback_token": answer.json["callback_token"]}, "heartbeat"
    )
    assert (told.status, told.json["applied"]) == (200, True)


async def test_one_that_is_fresh_is_given_back_and_nothing_is_written(shared_api: Api) -> None:
    job = await shared_api.create_job()

    for _ in range(3):
        answer = await renew(shared_api, job, job["callback_token"])
        assert (answer.status, answer.json["callback_token"]) == (200, job["callback_token"])

    assert await issued(shared_api, job) == []


async def test_asked_again_the_same_one_is_given_and_nothing_is_written(shared_api: Api) -> None:
    job = await shared_api.create_job()
    old = aged(job, TTL + 10)

    answers = [await renew(shared_api, job, old) for _ in range(3)]

    assert len({answer.json["callback_token"] for answer in answers}) == 1
    assert len(await issued(shared_api, job)) == 1


async def test_a_token_that_ended_too_long_ago_is_over(shared_api: Api) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await renew(shared_api, job, aged(job, TTL + WEEK + 60))

    assert (answer.status, answer.json["code"]) == (401, "token_expired")
    assert await shared_api.said() == before


async def test_renewal_of_ended_tokens_can_be_switched_off(start_service: StartService) -> None:
    api = await start_service(EPOCHLOG_TOKEN_RENEWAL="0")
    job = await api.create_job()

    ended = await renew(api, job, aged(job, TTL + 1))
    assert (ended.status, ended.json["code"]) == (401, "token_expired")
    assert (await renew(api, job, aged(job, TTL * 0.6))).status == 200


async def test_an_ended_token_opens_nothing_else(shared_api: Api) -> None:
    job = await shared_api.create_job()
    old = aged(job, TTL + 10)

    beat = await shared_api.call_back(job | {"callback_token": old}, "heartbeat")
    found = await shared_api.call("GET", f"/v1/jobs/{job['id']}/resume", token=old)

    assert [(one.status, one.json["code"]) for one in (beat, found)] == [
        (401, "token_expired"),
        (401, "token_expired"),
    ]


async def test_late_facts_of_an_ended_job_still_arrive(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "done", SUCCESS)

    answer = await renew(shared_api, job, aged(job, TTL + 10))

    assert answer.status == 200
    late = job | {"callback_token": answer.json["callback_token"]}
    told = await shared_api.call_back(late, "heartbeat", {"seq": 4})
    assert (told.json["applied"], told.json["rule"]) == (False, "job_is_final")
    shown = (await shared_api.get(f"/v1/jobs/{job['id']}")).json
    assert (shown["status"], shown["attempt"]) == ("succeeded", 1)


async def test_an_earlier_attempt_renews_its_own_token(shared_api: Api) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "done", {"status": "failed"})

    answer = await renew(shared_api, job, aged(job, TTL + 10))

    assert (answer.status, answer.json["attempt"]) == (200, 1)
    late = job | {"callback_token": answer.json["callback_token"]}
    told = await shared_api.call_back(late, "heartbeat")
    assert told.json["rule"] == "stale_attempt"


REFUSED = [
    ({"job_id": 2**40}, 403, "wrong_job"),
    ({"scope": "reading"}, 403, "wrong_scope"),
    ({"attempt": 9}, 401, "token_invalid"),
    ({"attempt": "1"}, 401, "token_invalid"),
    ({"exp": "soon"}, 401, "token_invalid"),
    ({"exp": True}, 401, "token_invalid"),
]


@pytest.mark.parametrize("age", [TTL * 0.6, TTL + 10], ids=["alive", "ended"])
@pytest.mark.parametrize(("changed", "status", "code"), REFUSED, ids=str)
async def test_what_is_wrong_with_a_token_is_wrong_after_its_end_too(
    shared_api: Api, changed: dict[str, Any], status: int, code: str, age: float
) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await renew(shared_api, job, aged(job, age, **changed))

    assert (answer.status, answer.json["code"]) == (status, code)
    assert await shared_api.said() == before


async def test_nobody_renews_a_token_with_another_signature(shared_api: Api) -> None:
    job = await shared_api.create_job()
    issued_at = time.time() - TTL - 10
    content = claims(job["id"], iat=issued_at, exp=issued_at + TTL)

    answer = await renew(shared_api, job, token(content, signature=b"\0" * 32))

    assert (answer.status, answer.json["code"]) == (401, "token_invalid")


async def test_the_token_of_a_job_that_is_not_there_is_not_renewed(shared_api: Api) -> None:
    answer = await renew(shared_api, {"id": 2**40}, aged({"id": 2**40}, TTL + 10))

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")
