"""Why no pod is made: what the cluster says of a Job, as long as it still holds."""

from __future__ import annotations

from typing import Any

import pytest

from projections.look import Look, lacks_a_pod, refusal_since

POD = {"metadata": {"uid": "p", "creationTimestamp": "2026-11-23T01:02:10Z"}}
JOB: dict[str, Any] = {"spec": {"parallelism": 1, "suspend": False}}
BEFORE, AFTER = "2026-11-23T01:02:03Z", "2026-11-23T01:03:03Z"


def said(message: str, reason: str = "FailedCreate", **times: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, **times}


def refusal(*warnings: dict[str, Any], last: Any = None) -> str | None:
    return refusal_since(Look(job=JOB, warnings=warnings), last)


def test_the_newest_refusal_is_told() -> None:
    first, second = said("quota", lastTimestamp=BEFORE), said("policy", lastTimestamp=AFTER)
    other = said("Created pod", reason="SuccessfulCreate", lastTimestamp=AFTER)

    assert refusal(first, second, other) == "policy"
    assert refusal(other) is None


@pytest.mark.parametrize(
    "times",
    [
        {"lastTimestamp": None, "eventTime": "2026-11-23T01:03:03.123456Z"},
        {"eventTime": BEFORE, "series": {"count": 7, "lastObservedTime": AFTER}},
        {"lastTimestamp": AFTER},
    ],
    ids=["the newer kind", "the newer kind, again and again", "the older kind"],
)
def test_a_refusal_after_the_last_pod_was_made_is_told(times: dict[str, Any]) -> None:
    assert refusal(said("quota", **times), last=POD) == "quota"


@pytest.mark.parametrize("times", [{"lastTimestamp": BEFORE}, {"eventTime": BEFORE}, {}])
def test_a_refusal_before_the_last_pod_was_made_is_over(times: dict[str, Any]) -> None:
    assert refusal(said("quota", **times), last=POD) is None


@pytest.mark.parametrize(
    ("job", "lacks"),
    [
        (JOB, True),
        (None, False),
        ({"spec": {"parallelism": 1, "suspend": True}}, False),
        ({"spec": {"parallelism": 0}}, False),
        ({**JOB, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}, False),
        ({}, True),
    ],
    ids=["wants one", "is not there", "suspended", "scaled to none", "over", "unreadable"],
)
def test_a_job_that_wants_no_pod_lacks_none(job: Any, lacks: bool) -> None:
    assert lacks_a_pod(job, 2, 2) is lacks
    assert not lacks_a_pod(job, 2, 1)
