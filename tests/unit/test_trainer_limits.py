from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.request_schemas import DoneBody, HeartbeatBody
from service.routing import MAX_BODY, read_json
from trainer.limits import encoded, fitted, is_bare, verdict_of

names = st.text(max_size=3) | st.sampled_from(["loss", "n" * 201, "n" * 200])
metrics = st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=20)
facts = st.fixed_dictionaries(
    {"name": names, "uri": st.sampled_from(["s3://b/k", "", "u" * 2001])},
    optional={
        "sha256": st.sampled_from([None, "ab", 7, "0" * 64, "F" * 64, "0" * 64 + "\n"]),
        "bytes": st.sampled_from([None, True, -1, 1.5, 0, 2**63 - 1, 2**63]),
        "more": st.text(max_size=3),
    },
)
errors = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["", "oom", "c" * 101]),
        "message": st.text() | st.just("m" * 20_000),
        "retryable": st.booleans(),
    },
)
words = st.fixed_dictionaries(
    {"status": st.sampled_from(["succeeded", "failed"])},
    optional={
        "metrics": metrics,
        "artifacts": st.lists(facts, max_size=5),
        "error": errors,
        "mlflow_run_id": st.sampled_from(["run", "r" * 201]),
    },
)


def said(count: int) -> dict[str, float]:
    return {f"metric_{number}": float(number) for number in range(count)}


@given(words)
def test_a_last_word_is_always_one_that_the_service_takes(body: dict[str, Any]) -> None:
    read_json(encoded(fitted("done", body)), DoneBody)
    read_json(encoded(verdict_of(body)), DoneBody)
    assert is_bare({**verdict_of(body), "seq": 1, "event_id": "e"})


@given(st.text() | st.characters(categories=["Cs"]))
def test_what_the_service_cannot_read_of_a_text_is_replaced(text: str) -> None:
    read_json(encoded({"metrics": {}, "host": {"name": text}}), HeartbeatBody)
    plain = text.isprintable() and text.isascii()
    assert json.loads(encoded({"a": text}))["a"] == text or not plain


def test_what_is_within_the_limits_is_said_as_it_is() -> None:
    word = {
        "status": "succeeded",
        "metrics": said(1000),
        "artifacts": [{"name": "best.pt", "uri": "s3://b/k", "sha256": "a" * 64, "bytes": 3}],
    }
    assert fitted("done", word) == word
    assert fitted("heartbeat", {"metrics": said(1000)}) == {"metrics": said(1000)}
    event = {"type": "epoch_end", "data": {}, "metrics": said(1001)}
    assert fitted("event", event) == event


@pytest.mark.parametrize("kind", ["heartbeat", "done"])
def test_metrics_beyond_the_thousandth_are_left_out_and_counted(kind: str) -> None:
    kept = fitted(kind, {"status": "succeeded", "metrics": said(1003)})

    assert kept["metrics"] == said(1000)
    assert kept["left_out"] == {"metrics": 3}


def test_what_is_wrong_about_an_artifact_is_left_out_and_counted() -> None:
    right = {"name": "a", "uri": "s3://b/a"}
    wrong = {"name": "", "uri": "s3://b/b"}
    kept = fitted(
        "done",
        {"status": "succeeded", "artifacts": [{**right, "sha256": "no", "bytes": -1}, wrong]},
    )

    assert kept["artifacts"] == [right]
    assert kept["left_out"] == {"artifacts": 1, "facts": 2}


def test_a_last_word_that_is_too_large_loses_no_more_than_it_must() -> None:
    one = {"name": "n" * 300, "uri": "s3://b/k"}
    kept = fitted("done", {"status": "succeeded", "metrics": said(10), "artifacts": [one] * 1000})

    assert kept["metrics"] == said(10)
    assert len(kept["artifacts"]) == 500
    assert len(encoded(kept)) < MAX_BODY
