"""The same callback again: answered as the first was, and never written twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.http import Api

KEPT = ("position", "version", "applied", "rule")


def _kept(answer: Any) -> dict[str, Any]:
    return {name: answer.get(name) for name in KEPT}


@pytest.mark.parametrize(
    "name", [{"event_id": "0199a6f0-1111-7222-8333-444455556666"}, {"seq": 4}, {"seq": 2**63 - 1}]
)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("heartbeat", {"epoch": 1, "metrics": {"a": 0.1, "b": 1e22, "c": -0.0}}),
        ("heartbeat", {}),
        ("event", {"type": "epoch_end", "data": {"big": 1.2345678901234567e19, "deep": [[{}]]}}),
        ("done", {"status": "failed", "error": {"code": "oom", "message": "m"}, "new": [1]}),
    ],
    ids=["heartbeat", "empty heartbeat", "event", "done"],
)
async def test_a_callback_sent_again_is_a_duplicate(
    shared_api: Api, name: dict[str, Any], kind: str, body: dict[str, Any]
) -> None:
    job = await shared_api.create_job()
    first = await shared_api.call_back(job, kind, body | name)
    events = await shared_api.events(job)

    again = await shared_api.call_back(job, kind, dict(reversed((body | name).items())))
    batched = {"callbacks": [{"kind": kind} | body | name]}
    in_batch = await shared_api.call_back(job, "callbacks", batched)

    assert (again.status, in_batch.status) == (200, 200)
    assert again.json["duplicate"] is True
    assert in_batch.json["results"][0]["duplicate"] is True
    assert _kept(again.json) == _kept(in_batch.json["results"][0]) == _kept(first.json)
    assert await shared_api.events(job) == events


async def test_an_event_ids_spelling_does_not_matter(shared_api: Api) -> None:
    job = await shared_api.create_job()
    event_id = str(uuid4())
    first = await shared_api.call_back(job, "heartbeat", {"event_id": event_id})

    for spelling in (event_id.upper(), event_id.replace("-", "")):
        again = await shared_api.call_back(job, "heartbeat", {"event_id": spelling})
        assert again.json["duplicate"] is True
        assert again.json["position"] == first.json["position"]


async def test_a_duplicate_keeps_the_verdict_of_the_first_and_tells_todays_directive(
    shared_api: Api,
) -> None:
    job = await shared_api.create_job()
    first = await shared_api.call_back(job, "heartbeat", {"seq": 1})
    await shared_api.call_back(job, "done", {"status": "succeeded", "seq": 2})
    late = await shared_api.call_back(job, "heartbeat", {"seq": 3})

    again = await shared_api.call_back(job, "heartbeat", {"seq": 1})
    late_again = await shared_api.call_back(job, "heartbeat", {"seq": 3})

    assert _kept(again.json) == _kept(first.json)
    assert (again.json["applied"], again.json["status"]) == (True, "succeeded")
    assert again.json["directive"] == "stop"
    assert _kept(late_again.json) == _kept(late.json)
    assert late_again.json["rule"] == "job_is_final"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("heartbeat", {"epoch": 2}),
        ("heartbeat", {"epoch": 1, "new": 1}),
        ("heartbeat", {}),
        ("heartbeat", {"epoch": 1, "occurred_at": "2026-01-01T00:00:00Z"}),
        ("event", {"type": "epoch_end"}),
        ("done", {"status": "succeeded"}),
    ],
    ids=["value", "more", "less", "clock", "kind", "done"],
)
@pytest.mark.parametrize("name", [{"event_id": str(uuid4())}, {"seq": 9}], ids=["id", "seq"])
async def test_another_body_under_the_same_name_is_a_conflict(
    shared_api: Api, name: dict[str, Any], kind: str, body: dict[str, Any]
) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat", {"epoch": 1} | name)
    before = await shared_api.said()

    answer = await shared_api.call_back(job, kind, body | name)

    assert (answer.status, answer.json["code"]) == (409, "event_id_conflict")
    assert await shared_api.said() == before


@pytest.mark.parametrize(("first", "second"), [(1, True), (0, False), (1, "1"), ([], {})])
async def test_other_values_that_python_takes_for_equal_are_a_conflict(
    shared_api: Api, first: Any, second: Any
) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat", {"seq": 1, "gpu": {"x": first}})

    answer = await shared_api.call_back(job, "heartbeat", {"seq": 1, "gpu": {"x": second}})

    assert answer.status == 409


async def test_an_event_id_and_another_seq_are_a_conflict(shared_api: Api) -> None:
    job = await shared_api.create_job()
    name = {"event_id": str(uuid4())}
    await shared_api.call_back(job, "heartbeat", name | {"seq": 1})

    answer = await shared_api.call_back(job, "heartbeat", name | {"seq": 2})

    assert answer.status == 409


async def test_names_are_a_jobs_own(shared_api: Api) -> None:
    one, other = await shared_api.create_job(), await shared_api.create_job()
    name = {"event_id": str(uuid4()), "seq": 1}

    answers = [await shared_api.call_back(job, "heartbeat", name) for job in (one, other)]

    assert [answer.json["duplicate"] for answer in answers] == [False, False]


async def test_an_id_of_the_services_own_events_is_taken(shared_api: Api) -> None:
    job = await shared_api.create_job()
    created = (await shared_api.events(job, "created"))[0]

    answer = await shared_api.call_back(job, "heartbeat", {"event_id": created["event_id"]})

    assert answer.status == 409


async def test_callbacks_without_a_name_are_never_duplicates(shared_api: Api) -> None:
    job = await shared_api.create_job()

    answers = [await shared_api.call_back(job, "heartbeat", {"epoch": 1}) for _ in range(2)]

    assert [answer.json["duplicate"] for answer in answers] == [False, False]


async def test_a_repetition_within_a_batch_is_a_duplicate(shared_api: Api) -> None:
    job = await shared_api.create_job()
    event_id = str(uuid4())
    named = {"kind": "heartbeat", "epoch": 1, "seq": 1, "event_id": event_id}
    counted = {"kind": "heartbeat", "epoch": 1, "seq": 1}
    body = {"callbacks": [named, named, counted, {"kind": "heartbeat", "seq": 2}]}

    answer = await shared_api.call_back(job, "callbacks", body)
    again = await shared_api.call_back(job, "callbacks", body)

    results = answer.json["results"]
    assert [item["duplicate"] for item in results] == [False, True, True, False]
    assert len({item["position"] for item in results[:3]}) == 1
    assert [item["duplicate"] for item in again.json["results"]] == [True] * 4
    assert [_kept(item) for item in again.json["results"]] == [_kept(item) for item in results]
    assert len(await shared_api.events(job, "heartbeat")) == 2


@pytest.mark.parametrize("name", [{"event_id": str(uuid4())}, {"seq": 9}], ids=["id", "seq"])
async def test_two_bodies_under_one_name_within_a_batch_are_a_conflict(
    shared_api: Api, name: dict[str, Any]
) -> None:
    job = await shared_api.create_job()
    beats = [{"kind": "heartbeat", "epoch": epoch} | name for epoch in (1, 2)]

    answer = await shared_api.call_back(job, "callbacks", {"callbacks": beats})

    assert (answer.status, answer.json["code"]) == (409, "event_id_conflict")
    assert await shared_api.events(job, "heartbeat") == []


async def test_a_batch_that_is_partly_known_writes_only_the_rest(shared_api: Api) -> None:
    job = await shared_api.create_job()
    beats = [{"kind": "heartbeat", "epoch": seq, "seq": seq} for seq in range(1, 7)]
    await shared_api.call_back(job, "callbacks", {"callbacks": beats[:3]})

    answer = await shared_api.call_back(job, "callbacks", {"callbacks": beats})

    assert [item["duplicate"] for item in answer.json["results"]] == [True] * 3 + [False] * 3
    said = [event["seq"] for event in await shared_api.events(job, "heartbeat")]
    assert said == [1, 2, 3, 4, 5, 6]


async def test_the_same_callback_many_times_at_once_is_written_once(shared_api: Api) -> None:
    job = await shared_api.create_job()
    body = {"event_id": str(uuid4()), "epoch": 1}

    answers = await asyncio.gather(
        *(shared_api.call_back(job, "heartbeat", body) for _ in range(20))
    )

    assert sorted(answer.json["duplicate"] for answer in answers) == [False] + [True] * 19
    assert len({answer.json["position"] for answer in answers}) == 1
    assert len(await shared_api.events(job, "heartbeat")) == 1
