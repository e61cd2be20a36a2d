"""Whatever is sent, the service answers it; and what it kept, it can still show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api import ROUTES
from service.routing import Route
from tests.http import NEW_JOB, Api
from tests.ledger import check_ledger

EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
POSTS = [route for route in ROUTES if route.body is not None]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.integers(-3, 3)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["2026-01-01T00:00:00Z", "a" * 300, "0" * 32, "heartbeat", "succeeded"])
)
names = st.text(max_size=5) | st.sampled_from(
    ["epoch", "epochs", "metrics", "uri", "seconds", "type", "data", "extra", "loss", "because"]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
FIELDS: dict[str, dict[str, Any]] = {
    "/v1/jobs": NEW_JOB | {"params": {}, "labels": {}, "priority": 0, "max_retries": 1},
    "/v1/jobs/{id}/cancel": {"reason": "x"},
    "/v1/tokens": {"role": "viewer", "name": "x"},
    "/v1/jobs/{id}/heartbeat": {"epoch": 1, "metrics": {}, "gpu": {}, "progress": 0.5, "batch": 1},
    "/v1/jobs/{id}/event": {"type": "epoch_end", "data": {}},
    "/v1/jobs/{id}/done": {
        "status": "failed", "error": {"code": "x"}, "metrics": {}, "artifacts": [],
    },
    "/v1/jobs/{id}/callbacks": {"callbacks": [{"kind": "heartbeat"}], "trace_id": None},
    "/v1/jobs/{id}/storage/get": {"key": "datasets/shapes.zip"},
    "/v1/jobs/{id}/storage/put": {
        "key": "checkpoints/job-1/x", "bytes": 1, "sha256": "0" * 64, "upload_id": None,
    },
    "/v1/jobs/{id}/storage/complete": {
        "key": "checkpoints/job-1/x", "upload_id": "1", "parts": [{"number": 1, "etag": "1"}],
    },
    "/v1/jobs/{id}/storage/abort": {"key": "checkpoints/job-1/x", "upload_id": "1"},
}  # fmt: skip


def _name(value: object) -> str | None:
    return value.path if isinstance(value, Route) else None


async def _post(api: Api, route: Route[Any, Any], body: Any) -> Any:
    """Send the body to a new job; the job, where its events can now be read."""
    job = await api.create_job()
    given_token = job["callback_token"] if route.access == "callback" else None
    raw = json.dumps(body).encode(errors="replace")
    path = route.path.replace("{id}", str(job["id"]))
    answer = await api.call("POST", path, raw=raw, token=given_token)
    assert answer.status < 500, (body, answer.text)
    if answer.status == 201 and route.path == "/v1/jobs":
        return answer.json
    return job


async def _read(api: Api, job: Any) -> None:
    for view in ("", "/events", "/timeline", "/explain"):
        answer = await api.get(f"/v1/jobs/{job['id']}{view}")
        assert answer.status == 200, answer.text


@pytest.mark.parametrize("route", POSTS, ids=_name)
@EXAMPLES
@given(body=values)
async def test_any_json_is_answered(shared_api: Api, route: Route[Any, Any], body: Any) -> None:
    await _post(shared_api, route, body)


@pytest.mark.parametrize("route", POSTS, ids=_name)
@EXAMPLES
@given(data=st.data())
async def test_any_value_in_any_field_is_answered_and_can_be_read_again(
    shared_api: Api, route: Route[Any, Any], data: st.DataObject
) -> None:
    known = FIELDS[route.path]
    field = data.draw(st.sampled_from([*known, "unknown"]))
    body = known | {field: data.draw(values)}

    await _read(shared_api, await _post(shared_api, route, body))


@EXAMPLES
@given(
    kind=st.sampled_from(["epoch_end", "checkpoint_saved", "anything"]),
    inside=st.dictionaries(names, values, max_size=5),
)
async def test_any_data_of_a_trainers_event_can_be_read_again(
    shared_api: Api, kind: str, inside: Any
) -> None:
    route = next(route for route in POSTS if route.path.endswith("/event"))

    await _read(shared_api, await _post(shared_api, route, {"type": kind, "data": inside}))


@EXAMPLES
@given(raw=st.binary(max_size=200))
async def test_any_bytes_are_answered(shared_api: Api, raw: bytes) -> None:
    answer = await shared_api.call("POST", "/v1/jobs", raw=raw)

    assert answer.status == 400


@EXAMPLES
@given(text=st.text(st.characters(exclude_characters="\r\n/?#", exclude_categories=["Cs"])))
async def test_any_parameter_is_answered(shared_api: Api, text: str) -> None:
    job = await shared_api.create_job()

    for path, name in (
        ("/v1/jobs", "cursor"),
        ("/v1/jobs", "label"),
        (f"/v1/jobs/{job['id']}", "as_of"),
        ("/v1/fleet/diff", "from"),
        (f"/v1/jobs/{job['id']}/events", "type"),
    ):
        assert (await shared_api.get(path, **{name: text})).status in {200, 400, 404}


async def test_after_all_that_the_log_is_whole(shared_api: Api) -> None:
    url = shared_api.service.instance.settings.database_url
    assert url is not None

    assert await check_ledger(url)
