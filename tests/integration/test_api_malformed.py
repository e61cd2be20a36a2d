"""Malformed input, case by case: refused with the field's name, and nothing written."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from tests.http import NEW_JOB, Answer, Api

ABSENT = Ellipsis  # stands for a field that is left out
DEEP: Any = 1  # at the bottom of more lists than anybody needs
for _ in range(70):
    DEEP = [DEEP]
A_NAME = "a field's name"
FILE = {"name": "a", "uri": "b"}
NO_LABELS: tuple[Any, ...] = (None, 1, True, [], {}, "x" * 201, "x\0")
NO_NUMBERS: tuple[Any, ...] = (None, "1", "NaN", True, [], {}, "\0")


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _jobs(field: str, *values: Any, named: str | None = None) -> list[tuple[str, str, Any]]:
    """A case for each value of a new job's field; `named` is the place that the answer names."""
    return [(f"{field} {value!r:.25}", named or field, value) for value in values]


def _said(
    kind: str, field: str, *values: Any, **around: Any
) -> list[tuple[str, str, dict[str, Any], str]]:
    """A case for each value of a callback's field, with the fields around it."""
    return [(f"{field} {value!r:.25}", kind, around | {field: value}, field) for value in values]


def _within(field: str, *values: tuple[Any, str]) -> list[tuple[str, str, dict[str, Any], str]]:
    """A case for each value of a `done`'s field, with the place inside that the answer names."""
    return [
        (f"{field} {value!r:.45}", "done", {"status": "failed", field: value}, place)
        for value, place in values
    ]


JOBS: list[tuple[str, str, Any]] = [
    *_jobs("dataset_id", ABSENT, None, 1, True, [], {}, "", " ", "a/b", "../x", ".x", "a b", "ü"),
    *_jobs("dataset_id", "a\n", "-x", "a" * 129, "a\0b"),
    *_jobs("model_name", ABSENT, None, 1, "", "/etc/passwd", "a/../b", "a//b", "a/", "a/.", "ü"),
    *_jobs("model_name", "a;b", "a b", "m" * 201, "\0", "a\r\n"),
    *_jobs("epochs", ABSENT, None, 0, -1, 1.5, 3.0, "3", True, [], {}, 1_000_001, 2**31, 2**63),
    *_jobs("epochs", 2**64, 10**30, -(2**63), 1e300),
    *_jobs("max_retries", None, -1, 101, 1.0, "1", True, 2**64),
    *_jobs("imgsz", 0, 31, 8193, "640", 64.0, True),
    *_jobs("batch", 0, -1, 65537, "1", 2.0, False),
    *_jobs("params", None, [], "x", 1, {str(number): 1 for number in range(201)}, {"a": DEEP}),
    *_jobs("params", {"a": [{"b": "x\0"}]}, named="params.a.0.b"),
    *_jobs("params", {"a": {"b\0": 1}}, named=A_NAME),
    *_jobs("labels", None, [], "a=b", 1, {f"l{number}": "" for number in range(65)}),
    *_jobs("labels", *({name: "x"} for name in ("", " ", "a b", "-a", "ü", "a" * 64))),
    *_jobs(
        "labels",
        *({"a": value} for value in NO_LABELS),
        named="labels.a",
    ),
    *_jobs("priority", None, 1001, -1001, 0.5, "1", True),
    *_jobs(
        "cluster", 1, True, [], {}, "", "A", "a b", "a/b", "-a", "a" * 64, "a\n", "ü", "default"
    ),
    *(case for name in ("epoch", "Epochs", "id", "status", "ü") for case in _jobs(name, 1)),
]

CALLBACKS: list[tuple[str, str, dict[str, Any], str]] = [
    *(
        case
        for name in ("epoch", "epochs", "batch", "batches")
        for case in _said(
            "heartbeat", name, -1, 1.5, 2.0, "1", True, [], {}, 2**31, 2**64, 10**30, 1e300
        )
    ),
    *_said("heartbeat", "progress", -0.1, 1.01, 2, "0.5", True, [], {}, 10**30),
    *_said("heartbeat", "metrics", None, [], "x", 1, True, {str(n): n for n in range(1001)}),
    *_said("heartbeat", "metrics", {"": 1}, {"": []}, {"": {"[key]": 1}}, {"m" * 201: 1}),
    *_said("heartbeat", "metrics", *({"a": value} for value in NO_NUMBERS)),
    *_said("heartbeat", "gpu", None, [], "x", 1, {"names": ["a", "b\0"]}),
    *_said("heartbeat", "new", {"a": "\0"}, DEEP),
    ("NUL in an unknown name", "heartbeat", {"new\0": 1}, A_NAME),
    *_said("heartbeat", "trace_id", 1, True, [], "t" * 65, "\0"),
    *_said("heartbeat", "event_id", 1, True, [], "", "x", "0199", "g" * 32, "0" * 33, "x" * 5000),
    *_said("heartbeat", "event_id", "\0"),
    *_said("heartbeat", "seq", 0, -1, 1.0, "1", True, [], 2**63, 2**64, 10**30),
    *_said("heartbeat", "occurred_at", 0, 1.5, True, [], "", "now", "\0", "1767225600"),
    *(
        case
        for time in (
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:01Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+25:00",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "0999-12-31T23:59:59Z",
            "1000-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "9999-12-31T23:59:59.999999Z",
            "10000-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z ",
            "٢٠٢٦-01-01T00:00:00Z",
        )
        for case in _said("heartbeat", "occurred_at", time)
    ),
    ("type absent", "event", {}, "type"),
    *_said("event", "type", None, 1, True, [], {}, "", "t" * 101, "a\0"),
    *_said("event", "data", None, [], "x", 1, {"a": {"b": ["\0"]}}, type="x"),
    ("status absent", "done", {}, "status"),
    *_said("done", "status", None, 1, True, "", "SUCCEEDED", "cancelled", "running", [], {}),
    *_said("done", "mlflow_run_id", 1, True, [], "r" * 201, "\0", status="failed"),
    *_said("done", "artifacts", None, {}, "x", 1, [FILE] * 1001, status="failed"),
    *_within(
        "artifacts",
        ([None], "artifacts.0"),
        (["x"], "artifacts.0"),
        ([{}], "artifacts.0.name"),
        ([{"name": "a"}], "artifacts.0.uri"),
        ([FILE | {"name": 1}], "artifacts.0.name"),
        ([FILE | {"name": ""}], "artifacts.0.name"),
        ([FILE | {"name": "a" * 301}], "artifacts.0.name"),
        ([FILE | {"uri": "u" * 2001}], "artifacts.0.uri"),
        ([FILE | {"sha256": "x" * 64}], "artifacts.0.sha256"),
        ([FILE | {"sha256": "a" * 63}], "artifacts.0.sha256"),
        ([FILE, FILE | {"bytes": -1}], "artifacts.1.bytes"),
        ([FILE, FILE | {"bytes": 2**63}], "artifacts.1.bytes"),
        ([FILE, FILE | {"bytes": 1.0}], "artifacts.1.bytes"),
        ([FILE, FILE | {"new": "\0"}], "artifacts.1.new"),
    ),
    *_within(
        "error",
        ("x", "error"),
        ([], "error"),
        (1, "error"),
        ({}, "error.code"),
        ({"code": 1}, "error.code"),
        ({"code": ""}, "error.code"),
        ({"code": "c" * 101}, "error.code"),
        ({"code": None}, "error.code"),
        ({"code": "\0"}, "error.code"),
        ({"code": "c", "message": 1}, "error.message"),
        ({"code": "c", "message": "m" * 10_001}, "error.message"),
        ({"code": "c", "retryable": "no"}, "error.retryable"),
        ({"code": "c", "retryable": 0}, "error.retryable"),
        ({"code": "c", "retryable": None}, "error.retryable"),
    ),
    ("callbacks absent", "callbacks", {}, "callbacks"),
    *_said("callbacks", "callbacks", None, {}, "x", 1, []),
    *_said("callbacks", "trace_id", 1, callbacks=[{"kind": "heartbeat"}]),
    *_said("callbacks", "occurred_at", "now", callbacks=[{"kind": "heartbeat"}]),
]

QUERIES: list[tuple[str, str]] = [
    *(
        (f"/v1/jobs?{name}={value}", name)
        for name, value in (
            ("status", "done"), ("status", ""), ("status", "RUNNING"), ("limit", "0"),
            ("limit", "-1"), ("limit", "501"), ("limit", "x"), ("limit", ""), ("limit", "1.5"),
            ("limit", "9" * 30), ("limit", "1&limit=2"), ("label", "x"), ("label", "=x"),
            ("label", ""), ("label", "a=1&label=a=2"), ("label", "a%00=1"), ("cursor", ""),
            ("cursor", "x"), ("cursor", "%C3%A9"), ("cursor", "x" * 65), ("as_of", "x"),
            ("view", "recorded"),
        )
    ),
    *(
        (f"/v1/jobs?cursor={_cursor(text)}", "cursor")
        for text in (
            "before:", "before:x", "before:-1", "before: 1", "after:1", "before:²", "before:٣",
            f"before:{2**63}", "before:1:2",
        )
    ),
    *(
        (f"/v1/jobs/1{view}?as_of={quote(value)}", "as_of")
        for view in ("", "/timeline", "/explain")
        for value in (
            "", "x", "-1", "1.5", str(2**63), "9" * 30, "2026-01-01", "now", "²", "t" * 65, "\0",
            "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "0001-01-01T00:00:00Z",
        )
    ),
    *(
        (f"/v1/jobs/1{view}?{query}", name)
        for view in ("", "/timeline", "/explain")
        for query, name in (
            ("view=", "view"), ("view=true", "view"), ("view=OCCURRED", "view"),
            ("as_of=1&view=occurred", "as_of"), ("as_of=x&view=occurred", "as_of"),
        )
    ),
    *(
        (f"/v1/fleet{path}", name)
        for path, name in (
            ("?as_of=", "as_of"), ("?as_of=x", "as_of"), (f"?as_of={2**63}", "as_of"),
            ("?view=occurred", "view"), ("/diff", "from"), ("/diff?to=1", "from"),
            ("/diff?from=", "from"), ("/diff?from=x", "from"), ("/diff?from=-1", "from"),
            ("/diff?from=1&to=", "to"), ("/diff?from=1&to=x", "to"), ("/diff?from_=1", "from"),
            ("/diff?from=1&as_of=1", "as_of"), ("/diff?from=2&to=1", "from"),
        )
    ),
    *(
        (f"/v1/jobs/1/events?{name}={value}", name)
        for name, value in (
            ("after", "-1"), ("after", "x"), ("after", ""), ("after", str(2**63)), ("limit", "0"),
            ("limit", "1001"), ("limit", "x"), ("type", "t" * 64), ("type", "a%00"),
            ("type", "a&type=b"),
        )
    ),
    *(
        (f"/v1/jobs/1/logs?{name}={value}", name)
        for name, value in (
            ("attempt", "0"), ("attempt", "-1"), ("attempt", "x"), ("attempt", str(2**31)),
            ("tail", "-1"), ("tail", "x"), ("tail", "100001"), ("tail", ""),
        )
    ),
    *(
        (f"/v1/jobs/{job_id}{view}", "id")
        for view in ("", "/events", "/timeline", "/explain", "/logs")
        for job_id in ("x", "-1", "1.5", "0x1", "1e3", "+1", "%201", "²", "٣", "%00", "%FF", "1_0")
    ),
]  # fmt: skip


def _fields(answer: Answer) -> list[str]:
    assert (answer.status, answer.json["code"]) == (400, "invalid_request"), answer.text
    assert len(answer.text) < 20_000
    return [error["field"] for error in answer.json["errors"]]


def _names(field: str, told: list[str]) -> bool:
    return any(name == field or name.startswith(f"{field}.") for name in told)


@pytest.mark.parametrize(("field", "value"), [case[1:] for case in JOBS], ids=[c[0] for c in JOBS])
async def test_a_malformed_job_is_refused(shared_api: Api, field: str, value: Any) -> None:
    name = "params" if field == A_NAME else field.partition(".")[0]
    body = {**NEW_JOB, name: value}
    if value is ABSENT:
        del body[name]
    before = await shared_api.said()

    answer = await shared_api.post("/v1/jobs", body)

    assert _names(field, _fields(answer))
    assert await shared_api.said() == before


@pytest.mark.parametrize(
    ("kind", "body", "field"), [case[1:] for case in CALLBACKS], ids=[c[0] for c in CALLBACKS]
)
async def test_a_malformed_callback_is_refused(
    shared_api: Api, kind: str, body: dict[str, Any], field: str
) -> None:
    job = await shared_api.create_job()
    before = await shared_api.said()

    answer = await shared_api.call_back(job, kind, body)
    told = _fields(answer)

    assert _names(field, told)
    if kind != "callbacks":
        batch = {"callbacks": [{"kind": "heartbeat"}, {"kind": kind} | body]}
        answer = await shared_api.call_back(job, "callbacks", batch)
        inner = field if field == A_NAME else f"callbacks.1.{field}"
        assert _names(inner, _fields(answer))
    assert await shared_api.said() == before


@pytest.mark.parametrize(("path", "field"), QUERIES, ids=[path[:60] for path, _ in QUERIES])
async def test_a_malformed_address_is_refused(shared_api: Api, path: str, field: str) -> None:
    assert _names(field, _fields(await shared_api.get(path)))


@pytest.mark.parametrize("call", ["cancel", "token"])
@pytest.mark.parametrize("job_id", ["x", "-1", "1.5", "%00", "٣"])
async def test_a_malformed_id_is_refused(shared_api: Api, call: str, job_id: str) -> None:
    assert _fields(await shared_api.post(f"/v1/jobs/{job_id}/{call}")) == ["id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": 1}, "reason"), ({"reason": ""}, "reason"), ({"reason": "r" * 1001}, "reason"),
        ({"reason": "\0"}, "reason"), ({"why": "x"}, "why"),
    ],
    ids=["number", "empty", "long", "NUL", "unknown"],
)  # fmt: skip
async def test_a_malformed_cancel_is_refused(shared_api: Api, body: Any, field: str) -> None:
    job = await shared_api.create_job()

    assert _fields(await shared_api.post(f"/v1/jobs/{job['id']}/cancel", body)) == [field]
    assert await shared_api.events(job, "cancel_requested") == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "role"), ({"role": "root"}, "role"), ({"role": 1}, "role"), ({"role": None}, "role"),
        ({"role": "viewer", "name": ""}, "name"), ({"role": "viewer", "name": "n" * 101}, "name"),
        ({"role": "viewer", "name": "\0"}, "name"), ({"role": "viewer", "token": "x"}, "token"),
    ],
    ids=["none", "unknown", "number", "null", "no name", "long name", "NUL", "own token"],
)  # fmt: skip
async def test_a_malformed_api_token_is_refused(shared_api: Api, body: Any, field: str) -> None:
    assert _fields(await shared_api.post("/v1/tokens", body)) == [field]


async def test_what_is_wanted_is_told_in_words(shared_api: Api) -> None:
    cases: list[tuple[Any, str]] = [
        (
            NEW_JOB | {"dataset_id": "a b"},
            "dataset_id: needs letters, digits, '.', '_' and '-', the",
        ),
        (NEW_JOB | {"model_name": ""}, "model_name: needs letters, digits, '.', '_', '-' and '/'"),
        (NEW_JOB | {"cluster": "A_1"}, "cluster: needs 1 to 63 small letters, digits and '-'"),
        ([], "body: Input should be an object."),
    ]

    for body, sentence in cases:
        assert sentence in (await shared_api.post("/v1/jobs", body)).json["detail"]


async def test_an_answer_to_many_mistakes_stays_small(shared_api: Api) -> None:
    many = NEW_JOB | {f"unknown {number}": 1 for number in range(5000)}
    long = NEW_JOB | {"x" * 100_000: 1}

    for body in (many, long):
        assert 1 <= len(_fields(await shared_api.post("/v1/jobs", body))) <= 50


async def test_every_wrong_field_is_named_at_once(shared_api: Api) -> None:
    body = {"dataset_id": 1, "model_name": "", "epochs": -1, "colour": "red"}

    told = _fields(await shared_api.post("/v1/jobs", body))

    assert sorted(told) == ["colour", "dataset_id", "epochs", "model_name"]
