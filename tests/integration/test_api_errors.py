"""Every error in one shape, the framework's own included."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from service.api import ROUTES
from service.errors import ServiceError
from service.openapi import error_codes
from service.routing import MAX_BODY, Route
from tests.described import PROBLEM
from tests.http import Answer, Api

BODY_ROUTES = [route for route in ROUTES if route.body is not None]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = sorted({route.path for route in ROUTES} | {"/v1/openapi.json"})


def _name(value: object) -> str | None:
    return f"{value.method} {value.path}" if isinstance(value, Route) else None


def _is_a_problem(answer: Answer, status: int, code: str) -> bool:
    problem = answer.json
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    assert set(problem) - {"errors"} == {"type", "title", "status", "code", "detail"}
    assert (problem["type"], problem["title"]) == ("about:blank", HTTPStatus(status).phrase)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"].endswith((".", "`"))
    return True


async def _post(api: Api, route: Route[Any, Any], job: Any, raw: bytes, **headers: str) -> Answer:
    given = job["callback_token"] if route.access == "callback" else None
    path = route.path.replace("{id}", str(job["id"]))
    return await api.call(route.method, path, raw=raw, token=given, headers=headers)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/jobs/", "/v1/jobs/1/", "/v1/jobs/1/nothing", "/v2/jobs",
        "/v1/jobs//cancel", "/favicon.ico", "/%00", "/%FF", "/%ED%A0%80", "/v1/jobs%2F1",
        "/v1/<b>", "/" + "x" * 2000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_nothing_is_nothing_is_found(shared_api: Api, method: str, path: str) -> None:
    answer = await shared_api.call(method, path, token="")

    assert _is_a_problem(answer, 404, "not_found")
    assert len(answer.json["detail"]) < 300


@pytest.mark.parametrize("path", PATHS)
async def test_a_method_that_is_not_there_is_told_which_are(shared_api: Api, path: str) -> None:
    known = {route.method for route in ROUTES if route.path == path} or {"GET"}

    for method in set(METHODS) - known:
        answer = await shared_api.call(method, path.replace("{id}", "1"), token="")
        assert _is_a_problem(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(",")) == known


@pytest.mark.parametrize("route", BODY_ROUTES, ids=_name)
@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"}", b"nonsense", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}',
        b'{"a": 1e999}', b"{'a': 1}", b'{"a": 01}', b'{"a": 1,}', b'{"a": "\x01"}',
        b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"\xef\xbb\xbf{}", b"\x00", b'{"a": 1} {"b": 2}',
        '{"a": "ü"}'.encode("utf-16"), b'{"a":' * 100_000, b"9" * 5000, b"--1", b"/*c*/{}",
    ],
    ids=lambda raw: repr(raw[:16]),
)  # fmt: skip
async def test_what_is_no_json_is_refused(
    shared_api: Api, route: Route[Any, Any], raw: bytes
) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await _post(shared_api, route, job, raw[:MAX_BODY])

    assert _is_a_problem(answer, 400, "invalid_request")
    assert answer.json["errors"] == [{"field": "body", "message": "needs to be JSON"}]
    assert await shared_api.said() == before


@pytest.mark.parametrize("route", BODY_ROUTES, ids=_name)
@pytest.mark.parametrize("raw", [b"[]", b"null", b"true", b"0", b'"text"', b"[{}]", b"1e3"])
async def test_a_body_must_be_an_object(
    shared_api: Api, route: Route[Any, Any], raw: bytes
) -> None:
    job = await shared_api.create_job()

    answer = await _post(shared_api, route, job, raw)

    assert _is_a_problem(answer, 400, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == ["body"]


@pytest.mark.parametrize("route", BODY_ROUTES, ids=_name)
async def test_a_body_that_is_missing_is_missed_where_one_is_needed(
    shared_api: Api, route: Route[Any, Any]
) -> None:
    job = await shared_api.create_job()

    answer = await _post(shared_api, route, job, b"")

    if route.tolerant_body:
        assert answer.status in route.statuses
    else:
        assert _is_a_problem(answer, 400, "invalid_request")


@pytest.mark.parametrize("route", BODY_ROUTES, ids=_name)
@pytest.mark.parametrize("size", [MAX_BODY + 1, 1_000_000])
async def test_a_body_over_256_kib_is_refused(
    shared_api: Api, route: Route[Any, Any], size: int
) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await _post(shared_api, route, job, b" " * size)

    assert _is_a_problem(answer, 413, "payload_too_large")
    assert await shared_api.said() == before


async def test_a_body_of_just_256_kib_is_taken(shared_api: Api) -> None:
    job = await shared_api.create_job()
    raw = b'{"note": "' + b"x" * (MAX_BODY - 12) + b'"}'

    answer = await shared_api.call(
        "POST", f"/v1/jobs/{job['id']}/heartbeat", raw=raw, token=job["callback_token"]
    )

    assert (len(raw), answer.status) == (MAX_BODY, 200)
    kept = (await shared_api.events(job, "heartbeat"))[0]["data"]["note"]
    assert len(kept) == MAX_BODY - 12


async def test_a_body_that_is_not_compressed_as_it_says_is_refused(shared_api: Api) -> None:
    answer = await shared_api.call(
        "POST", "/v1/jobs", raw=b"{}", headers={"Content-Encoding": "gzip"}
    )

    assert _is_a_problem(answer, 400, "invalid_request")


async def test_a_stranger_learns_nothing_of_a_body_that_is_wrong(shared_api: Api) -> None:
    answer = await shared_api.call("POST", "/v1/jobs", raw=b"nonsense", token="")

    assert _is_a_problem(answer, 401, "token_missing")


@pytest.mark.parametrize("route", [each for each in ROUTES if each.method == "GET"], ids=_name)
async def test_an_unknown_parameter_is_named(shared_api: Api, route: Route[Any, Any]) -> None:
    job = await shared_api.create_job()
    token = job["callback_token"] if route.access == "callback" else None

    path = route.path.replace("{id}", str(job["id"]))
    answer = await shared_api.call("GET", path, params={"colour": "1"}, token=token)

    assert _is_a_problem(answer, 400, "invalid_request")
    assert "colour" in [error["field"] for error in answer.json["errors"]]


def test_every_code_is_one_errors_own_and_every_error_says_something() -> None:
    codes = [code for many in error_codes().values() for code in many]

    assert len(codes) == len(set(codes))
    assert all(kind.__doc__ for kind in ServiceError.__subclasses__())
