"""Malformed input, case by case: refused with the field's name, and nothing written."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from tests.http import NEW_JOB, Answer, Api

ABSENT = object()
DEEP: Any = 1
for _ in range(70):
    DEEP = [DEEP]

JOBS: list[tuple[str, str, Any]] = [
    ("dataset_id absent", "dataset_id", ABSENT),
    *(
        (f"dataset_id {value!r:.20}", "dataset_id", value)
        for value in (None, 1, True, [], {}, "", " ", "a/b", "../x", ".x", "a b", "ü", "a\n", "-x",
                      "a" * 129, "a\0b")
    ),
    ("model_name absent", "model_name", ABSENT),
    *(
        (f"model_name {value!r:.20}", "model_name", value)
        for value in (None, 1, "", "/etc/passwd", "a/../b", "a//b", "a/", "a/.", "ü", "a;b", "a b",
                      "m" * 201, "\0", "a\r\n")
    ),
    ("epochs absent", "epochs", ABSENT),
    *(
        (f"epochs {value!r:.20}", "epochs", value)
        for value in (None, 0, -1, 1.5, 3.0, "3", True, [], {}, 1_000_001, 2**31, 2**63, 2**64,
                      10**30, -(2**63), 1e300)
    ),
    *(
        (f"max_retries {value!r:.20}", "max_retries", value)
        for value in (None, -1, 101, 1.0, "1", True, 2**64)
    ),
    *((f"imgsz {value!r:.20}", "imgsz", value) for value in (0, 31, 8193, "640", 64.0, True)),
    *((f"batch {value!r:.20}", "batch", value) for value in (0, -1, 65537, "1", 2.0, False)),
    *((f"params {value!r:.20}", "params", value) for value in (None, [], "x", 1)),
    ("201 params", "params", {str(number): 1 for number in range(201)}),
    ("params with a NUL in a value", "params.a.0.b", {"a": [{"b": "x\0"}]}),
    ("params with a NUL in a name", "a field's name", {"a": {"b\0": 1}}),
    ("deep params", "params", {"a": DEEP}),
    *((f"labels {value!r:.20}", "labels", value) for value in (None, [], "a=b", 1)),
    ("65 labels", "labels", {f"l{number}": "" for number in range(65)}),
    *(
        (f"label's name {name!r:.20}", "labels", {name: "x"})
        for name in ("", " ", "a b", "-a", "ü", "a" * 64)
    ),
    *(
        (f"label's value {value!r:.20}", "labels.a", {"a": value})
        for value in (None, 1, True, [], {}, "x" * 201, "x\0")
    ),
    *(
        (f"priority {value!r:.20}", "priority", value)
        for value in (None, 1001, -1001, 0.5, "1", True)
    ),
    *((f"unknown {name!r:.20}", name, 1) for name in ("epoch", "Epochs", "id", "status", "ü")),
]  # fmt: skip

CALLBACKS: list[tuple[str, str, dict[str, Any], str]] = [
    *(
        (f"{name} {value!r:.20}", "heartbeat", {name: value}, name)
        for name in ("epoch", "epochs", "batch", "batches")
        for value in (-1, 1.5, 2.0, "1", True, [], {}, 2**31, 2**64, 10**30, 1e300)
    ),
    *(
        (f"progress {value!r:.20}", "heartbeat", {"progress": value}, "progress")
        for value in (-0.1, 1.01, 2, "0.5", True, [], {}, 10**30)
    ),
    *(
        (f"metrics {value!r:.20}", "heartbeat", {"metrics": value}, "metrics")
        for value in (None, [], "x", 1, True)
    ),
    *(
        (f"a metric {value!r:.20}", "heartbeat", {"metrics": {"loss": value}}, "metrics.loss")
        for value in (None, "1", "NaN", True, [], {})
    ),
    ("1001 metrics", "heartbeat", {"metrics": {str(n): n for n in range(1001)}}, "metrics"),
    ("a metric without a name", "heartbeat", {"metrics": {"": 1}}, "metrics"),
    ("a metric of a long name", "heartbeat", {"metrics": {"m" * 201: 1}}, "metrics"),
    *((f"gpu {value!r:.20}", "heartbeat", {"gpu": value}, "gpu") for value in (None, [], "x", 1)),
    ("NUL in gpu", "heartbeat", {"gpu": {"names": ["a", "b\0"]}}, "gpu.names.1"),
    ("NUL in what is unknown", "heartbeat", {"new": {"a": "\0"}}, "new.a"),
    ("NUL in an unknown name", "heartbeat", {"new\0": 1}, "a field's name"),
    ("deep", "heartbeat", {"new": DEEP}, "new"),
    *(
        (f"trace_id {value!r:.20}", "heartbeat", {"trace_id": value}, "trace_id")
        for value in (1, True, [], "t" * 65, "\0")
    ),
    *(
        (f"event_id {value!r:.20}", "heartbeat", {"event_id": value}, "event_id")
        for value in (1, True, [], "", "x", "0199", "g" * 32, "0" * 33, "x" * 5000, "\0")
    ),
    *(
        (f"seq {value!r:.20}", "heartbeat", {"seq": value}, "seq")
        for value in (0, -1, 1.0, "1", True, [], 2**63, 2**64, 10**30)
    ),
    *(
        (f"occurred_at {value!r:.30}", "heartbeat", {"occurred_at": value}, "occurred_at")
        for value in (
            0, 1.5, True, [], "", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00Z",
            "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:01Z",
            "2026-01-01T00:00:60Z", "2026-01-01T00:00:00+25:00", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z",
            "1767225600", "2026-01-01T00:00:00Z ", "٢٠٢٦-01-01T00:00:00Z", "\0",
        )
    ),
    ("type absent", "event", {}, "type"),
    *(
        (f"type {value!r:.20}", "event", {"type": value}, "type")
        for value in (None, 1, True, [], {}, "", "t" * 101, "a\0")
    ),
    *(
        (f"data {value!r:.20}", "event", {"type": "x", "data": value}, "data")
        for value in (None, [], "x", 1)
    ),
    ("NUL in data", "event", {"type": "x", "data": {"a": {"b": ["\0"]}}}, "data.a.b.0"),
    ("status absent", "done", {}, "status"),
    *(
        (f"status {value!r:.20}", "done", {"status": value}, "status")
        for value in (None, 1, True, "", "SUCCEEDED", "cancelled", "running", [], {})
    ),
    *(
        (f"mlflow_run_id {value!r:.20}", "done", {"status": "failed", "mlflow_run_id": value},
         "mlflow_run_id")
        for value in (1, True, [], "r" * 201, "\0")
    ),
    *(
        (f"artifacts {value!r:.20}", "done", {"status": "failed", "artifacts": value}, "artifacts")
        for value in (None, {}, "x", 1, [{"name": "a", "uri": "b"}] * 1001)
    ),
    *(
        (f"artifact {value!r:.40}", "done", {"status": "failed", "artifacts": [value]},
         f"artifacts.0{field}")
        for value, field in (
            (None, ""), ("x", ""), ({}, ".name"), ({"name": "a"}, ".uri"),
            ({"name": 1, "uri": "b"}, ".name"), ({"name": "", "uri": "b"}, ".name"),
            ({"name": "a" * 301, "uri": "b"}, ".name"), ({"name": "a", "uri": "u" * 2001}, ".uri"),
            ({"name": "a", "uri": "b", "sha256": "x" * 64}, ".sha256"),
            ({"name": "a", "uri": "b", "sha256": "a" * 63}, ".sha256"),
            ({"name": "a", "uri": "b", "bytes": -1}, ".bytes"),
            ({"name": "a", "uri": "b", "bytes": 2**63}, ".bytes"),
            ({"name": "a", "uri": "b", "bytes": 1.0}, ".bytes"),
            ({"name": "a", "uri": "b", "new": "\0"}, ".new"),
        )
    ),
    *(
        (f"error {value!r:.40}", "done", {"status": "failed", "error": value}, f"error{field}")
        for value, field in (
            ("x", ""), ([], ""), (1, ""), ({}, ".code"), ({"code": 1}, ".code"),
            ({"code": ""}, ".code"), ({"code": "c" * 101}, ".code"), ({"code": None}, ".code"),
            ({"code": "c", "message": 1}, ".message"),
            ({"code": "c", "message": "m" * 10_001}, ".message"),
            ({"code": "c", "retryable": "no"}, ".retryable"),
            ({"code": "c", "retryable": 0}, ".retryable"),
            ({"code": "c", "retryable": None}, ".retryable"), ({"code": "\0"}, ".code"),
        )
    ),
    ("callbacks absent", "callbacks", {}, "callbacks"),
    *(
        (f"callbacks {value!r:.20}", "callbacks", {"callbacks": value}, "callbacks")
        for value in (None, {}, "x", 1, [])
    ),
    ("a batch's trace_id", "callbacks", {"callbacks": [{"kind": "heartbeat"}], "trace_id": 1},
     "trace_id"),
]  # fmt: skip

QUERIES: list[tuple[str, str]] = [
    *(
        (f"/v1/jobs?{name}={value}", name)
        for name, value in (
            ("status", "done"), ("status", ""), ("status", "RUNNING"), ("limit", "0"),
            ("limit", "-1"), ("limit", "501"), ("limit", "x"), ("limit", ""), ("limit", "1.5"),
            ("limit", "9" * 30), ("limit", "1&limit=2"), ("label", "x"), ("label", "=x"),
            ("label", ""), ("label", "a=1&label=a=2"), ("cursor", ""), ("cursor", "x"),
            ("cursor", "%C3%A9"), ("cursor", "x" * 65), ("as_of", "1"),
            *(
                ("cursor", base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))
                for text in ("before:", "before:x", "before:-1", "after:1", "before:²", "before:٣",
                             f"before:{2**63}", "before:1:2", "\udcff".encode("utf-8", "replace").decode())
            ),
        )
    ),
    ("/v1/jobs?label=a%00=1", "label.0"),
    *(
        (f"/v1/jobs/1{view}?as_of={quote(value)}", "as_of")
        for view in ("", "/timeline", "/explain")
        for value in ("", "x", "-1", "1.5", str(2**63), "9" * 30, "2026-01-01", "now", "²", "t" * 65,
                      "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "1&as_of=2", "\0")
        if "&" not in value
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
    name = field.partition(".")[0] if field != "a field's name" else "params"
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
        inner = field if field == "a field's name" else f"callbacks.1.{field}"
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


async def test_every_wrong_field_is_named_at_once(shared_api: Api) -> None:
    body = {"dataset_id": 1, "model_name": "", "epochs": -1, "colour": "red"}

    told = _fields(await shared_api.post("/v1/jobs", body))

    assert sorted(told) == ["colour", "dataset_id", "epochs", "model_name"]
