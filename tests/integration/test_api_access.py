"""Who may call what: every route with every kind of token, and every way to forge one."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
import pytest_asyncio

from service.api import ROUTES
from service.api_tokens import Role
from service.callback_tokens import key_id
from service.routing import Route
from tests.conftest import SECRET_KEY, StartService
from tests.http import NEW_JOB, Answer, Api
from tests.tokens import ABSENT, claims, token

OLD_KEY = "an older made-up key of the tests that is long enough"
BEST = "checkpoints/job-1/best.pt"
BODIES: dict[str, Any] = {
    "/v1/jobs": NEW_JOB,
    "/v1/tokens": {"role": "viewer"},
    "/v1/jobs/{id}/event": {"type": "x"},
    "/v1/jobs/{id}/done": {"status": "succeeded"},
    "/v1/jobs/{id}/callbacks": {"callbacks": [{"kind": "heartbeat"}]},
    "/v1/jobs/{id}/storage/get": {"key": BEST},
    "/v1/jobs/{id}/storage/put": {"key": BEST, "bytes": 1, "sha256": "0" * 64},
    "/v1/jobs/{id}/storage/complete": {
        "key": BEST,
        "upload_id": "1",
        "parts": [{"number": 1, "etag": "1"}],
    },
    "/v1/jobs/{id}/storage/abort": {"key": BEST, "upload_id": "1"},
}
CLOSED = [route for route in ROUTES if route.access != "open"]
OPEN = [route for route in ROUTES if route.access == "open"]


def _name(value: object) -> str | None:
    return f"{value.method} {value.path}" if isinstance(value, Route) else None


async def _call(api: Api, route: Route[Any, Any], job: Any, given: str) -> Answer:
    body = BODIES.get(route.path) if route.method == "POST" else None
    path = route.path.replace("{id}", str(job["id"]))
    return await api.call(route.method, path, body, token=given)


@pytest_asyncio.fixture
async def tokens(shared_api: Api) -> dict[str, str]:
    """One API token of each role."""
    made = {"admin": shared_api.service.api_token}
    for role in ("viewer", "operator"):
        made[role] = (await shared_api.post("/v1/tokens", {"role": role})).json["token"]
    return made


@pytest.mark.parametrize("route", CLOSED, ids=_name)
@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", "token_missing"),
        ("garbage", "token_invalid"),
        ("epl_" + "A" * 43, "token_invalid"),
        ("a.b.c", "token_invalid"),
        ("\xff\xfe", "token_invalid"),
        ("x" * 4000, "token_invalid"),
    ],
    ids=["none", "garbage", "an API token's look", "a JWT's look", "no text", "long"],
)
async def test_without_a_token_of_ours_nothing_is_answered(
    shared_api: Api, route: Route[Any, Any], given: str, code: str
) -> None:
    before = await shared_api.said()

    answer = await _call(shared_api, route, {"id": 1}, given)

    assert (answer.status, answer.json["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert await shared_api.said() == before


@pytest.mark.parametrize("route", CLOSED, ids=_name)
@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
async def test_each_role_may_do_its_part_and_no_more(
    shared_api: Api, tokens: dict[str, str], route: Route[Any, Any], role: Role
) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await _call(shared_api, route, job, tokens[role.name.lower()])

    if route.access == "callback":
        assert (answer.status, answer.json["code"]) == (401, "token_invalid")
    elif isinstance(route.access, Role) and role < route.access:
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    else:
        # Who is let in and asks for nothing sensible is told so.
        asks_more = route.is_websocket or route.path == "/v1/fleet/diff"
        told = 404 if route.path.endswith("/logs") else 400 if asks_more else 200
        assert answer.status in {*route.statuses, told}
        return
    assert await shared_api.said() == before


@pytest.mark.parametrize("route", CLOSED, ids=_name)
async def test_a_callback_token_opens_the_callbacks_and_nothing_else(
    shared_api: Api, route: Route[Any, Any]
) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await _call(shared_api, route, job, job["callback_token"])

    if "/storage/" in route.path:  # it is let in; this service hands out keys instead
        assert (answer.status, answer.json["code"]) == (409, "storage_not_signed")
    elif route.access == "callback":
        assert answer.status == 200
    else:
        assert (answer.status, answer.json["code"]) == (401, "token_invalid")
        assert await shared_api.said() == before


@pytest.mark.parametrize("route", OPEN, ids=_name)
@pytest.mark.parametrize("given", ["", "garbage"])
async def test_what_is_open_asks_for_no_token(
    shared_api: Api, route: Route[Any, Any], given: str
) -> None:
    assert (await _call(shared_api, route, {"id": 1}, given)).status == 200
    assert (await shared_api.call("GET", "/v1/openapi.json", token=given)).status == 200


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "bearer", "Token {}", "{}"])
async def test_only_a_bearer_token_is_a_token(shared_api: Api, header: str) -> None:
    value = header.format(shared_api.service.api_token)

    answer = await shared_api.call(
        "GET", "/v1/jobs", token="", headers={"Authorization": value.strip()}
    )

    assert (answer.status, answer.json["code"]) == (401, "token_missing")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_schemes_case_does_not_matter(shared_api: Api, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {shared_api.service.api_token}"}

    assert (await shared_api.call("GET", "/v1/jobs", token="", headers=headers)).status == 200


def _no(job: Any, **changed: object) -> str:
    return token(claims(job["id"], **changed))


def _header(job: Any, **changed: object) -> str:
    return token(claims(job["id"]), **changed)  # type: ignore[arg-type] # any field of a header


FORGED: dict[str, tuple[Any, int, str]] = {
    "no job_id": (lambda job: _no(job, job_id=ABSENT), 401, "token_invalid"),
    "no attempt": (lambda job: _no(job, attempt=ABSENT), 401, "token_invalid"),
    "no scope": (lambda job: _no(job, scope=ABSENT), 401, "token_invalid"),
    "no iat": (lambda job: _no(job, iat=ABSENT), 401, "token_invalid"),
    "no exp": (lambda job: _no(job, exp=ABSENT), 401, "token_invalid"),
    "no jti": (lambda job: _no(job, jti=ABSENT), 401, "token_invalid"),
    "job_id is text": (lambda job: _no(job, job_id=str(job["id"])), 401, "token_invalid"),
    "job_id is true": (lambda job: _no(job, job_id=True), 401, "token_invalid"),
    "job_id is a fraction": (lambda job: _no(job, job_id=job["id"] + 0.5), 401, "token_invalid"),
    "job_id is a decimal": (lambda job: _no(job, job_id=float(job["id"])), 401, "token_invalid"),
    "job_id is a list": (lambda job: _no(job, job_id=[job["id"]]), 401, "token_invalid"),
    "job_id is null": (lambda job: _no(job, job_id=None), 401, "token_invalid"),
    "job_id is 0": (lambda job: _no(job, job_id=0), 401, "token_invalid"),
    "job_id beyond 64 bits": (lambda job: _no(job, job_id=2**63), 401, "token_invalid"),
    "attempt is true": (lambda job: _no(job, attempt=True), 401, "token_invalid"),
    "attempt is text": (lambda job: _no(job, attempt="1"), 401, "token_invalid"),
    "attempt is 0": (lambda job: _no(job, attempt=0), 401, "token_invalid"),
    "attempt beyond 32 bits": (lambda job: _no(job, attempt=2**31), 401, "token_invalid"),
    "exp is text": (lambda job: _no(job, exp="9999999999"), 401, "token_invalid"),
    "exp is true": (lambda job: _no(job, exp=True), 401, "token_expired"),
    "exp is infinite": (lambda job: _no(job, exp=float("inf")), 401, "token_invalid"),
    "exp is no number": (lambda job: _no(job, exp=float("nan")), 401, "token_invalid"),
    "exp is huge": (lambda job: _no(job, exp=10**400), 401, "token_invalid"),
    "exp is a list": (lambda job: _no(job, exp=[1]), 401, "token_invalid"),
    "iat is text": (lambda job: _no(job, iat="now"), 401, "token_invalid"),
    "iat is no number": (lambda job: _no(job, iat=float("nan")), 401, "token_invalid"),
    "iat is huge": (lambda job: _no(job, iat=10**400), 401, "token_invalid"),
    "jti is a number": (lambda job: _no(job, jti=7), 401, "token_invalid"),
    "nbf is to come": (lambda job: _no(job, nbf=time.time() + 60), 401, "token_invalid"),
    "for an audience": (lambda job: _no(job, aud="others"), 401, "token_invalid"),
    "expired": (lambda job: _no(job, exp=time.time() - 1), 401, "token_expired"),
    "expired long ago": (lambda job: _no(job, iat=0, exp=1), 401, "token_expired"),
    "another scope": (lambda job: _no(job, scope="training"), 403, "wrong_scope"),
    "scope in capitals": (lambda job: _no(job, scope="TRAINING-CALLBACK"), 403, "wrong_scope"),
    "scope is a list": (lambda job: _no(job, scope=["training-callback"]), 403, "wrong_scope"),
    "scope is null": (lambda job: _no(job, scope=None), 401, "token_invalid"),
    "another job": (lambda job: _no(job, job_id=job["id"] + 1), 403, "wrong_job"),
    "alg none": (lambda job: _header(job, alg="none", signature=b""), 401, "token_invalid"),
    "alg None": (lambda job: _header(job, alg="None", signature=b""), 401, "token_invalid"),
    "alg none, signed": (lambda job: _header(job, alg="none"), 401, "token_invalid"),
    "alg absent": (lambda job: _header(job, alg=ABSENT), 401, "token_invalid"),
    "alg null": (lambda job: _header(job, alg=None), 401, "token_invalid"),
    "alg is a list": (lambda job: _header(job, alg=["HS256"]), 401, "token_invalid"),
    "alg RS256": (lambda job: _header(job, alg="RS256"), 401, "token_invalid"),
    "alg ES256": (lambda job: _header(job, alg="ES256"), 401, "token_invalid"),
    "alg HS384": (
        lambda job: _header(job, alg="HS384", digest=hashlib.sha384), 401, "token_invalid",
    ),
    "alg HS512": (
        lambda job: _header(job, alg="HS512", digest=hashlib.sha512), 401, "token_invalid",
    ),
    "HS512 called HS256": (lambda job: _header(job, digest=hashlib.sha512), 401, "token_invalid"),
    "no signature": (lambda job: _header(job, signature=b""), 401, "token_invalid"),
    "another key": (lambda job: _header(job, key="x" * 40), 401, "token_invalid"),
    "no kid": (lambda job: _header(job, kid=ABSENT), 401, "token_invalid"),
    "kid of another key": (lambda job: _header(job, kid=key_id("x" * 40)), 401, "token_invalid"),
    "kid is a number": (lambda job: _header(job, kid=1), 401, "token_invalid"),
    "kid is a list": (lambda job: _header(job, kid=[key_id(SECRET_KEY)]), 401, "token_invalid"),
    "kid is a path": (lambda job: _header(job, kid="../../dev/null"), 401, "token_invalid"),
    "its own key": (lambda job: _header(job, jwk={"kty": "oct", "k": "eA"}, key="x" * 40),
                    401, "token_invalid"),
    "critical header": (lambda job: _header(job, crit=["exp"]), 401, "token_invalid"),
    "payload is a list": (lambda job: token([job["id"]]), 401, "token_invalid"),
    "payload is text": (lambda job: token("job"), 401, "token_invalid"),
}  # fmt: skip


@pytest.mark.parametrize(("forge", "status", "code"), FORGED.values(), ids=FORGED.keys())
async def test_a_forged_token_is_refused_and_nothing_is_written(
    shared_api: Api, forge: Any, status: int, code: str
) -> None:
    job = await shared_api.create_job()
    events = await shared_api.said()

    for kind, body in (
        ("heartbeat", {"seq": 1}),
        ("event", {"type": "x"}),
        ("done", {"status": "failed"}),
        ("callbacks", {"callbacks": [{"kind": "heartbeat"}]}),
        ("heartbeat", {"epoch": "not even read"}),
    ):
        answer = await shared_api.call_back(job | {"callback_token": forge(job)}, kind, body)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert "errors" not in answer.json

    assert await shared_api.said() == events


async def test_a_token_made_by_hand_is_as_good_as_an_issued_one(shared_api: Api) -> None:
    job = await shared_api.create_job()

    answer = await shared_api.call_back(job | {"callback_token": _no(job)}, "heartbeat")

    assert answer.status == 200


async def test_a_token_of_an_attempt_to_come_is_recorded_and_does_not_count(
    shared_api: Api,
) -> None:
    job = await shared_api.create_job()
    ahead = job | {"callback_token": _no(job, attempt=2)}

    answer = await shared_api.call_back(ahead, "done", {"status": "succeeded"})

    assert (answer.status, answer.json["applied"]) == (200, False)
    assert (answer.json["rule"], answer.json["directive"]) == ("unknown_attempt", "stop")


async def test_a_token_for_a_job_that_never_was_finds_no_job(shared_api: Api) -> None:
    stranger = {"id": 999_999_999, "callback_token": _no({"id": 999_999_999})}

    answer = await shared_api.call_back(stranger, "heartbeat")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("job_id", ["x", "-1", "1.5", str(2**63), "9" * 100])
async def test_a_malformed_job_id_tells_a_stranger_nothing(shared_api: Api, job_id: str) -> None:
    answer = await shared_api.call("POST", f"/v1/jobs/{job_id}/heartbeat", token="garbage")

    assert answer.status == 401


async def test_an_old_key_verifies_and_never_signs(start_service: StartService) -> None:
    api = await start_service(EPOCHLOG_SECRET_KEYS_OLD=f"{'y' * 40},{OLD_KEY}")
    job = await api.create_job()
    now = int(time.time())
    old = token(claims(job["id"], iat=now - 400, exp=now + 200), key=OLD_KEY, kid=key_id(OLD_KEY))

    answer = await api.call_back(job | {"callback_token": old}, "heartbeat")

    assert answer.status == 200
    renewed = job | {"callback_token": answer.json["token"]}
    assert (await api.call_back(renewed, "heartbeat")).status == 200
    without_old_keys = await start_service(
        EPOCHLOG_STATE_DIR=f"{api.service.instance.settings.state_dir}-2"
    )
    assert (await without_old_keys.call_back(renewed, "heartbeat")).status == 200
    refused = await without_old_keys.call_back(job | {"callback_token": old}, "heartbeat")
    assert (refused.status, refused.json["code"]) == (401, "token_invalid")
