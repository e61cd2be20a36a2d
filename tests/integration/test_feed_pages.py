"""The log as a feed over HTTP: in pages, and as lines that go on."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from service.feed import Patience
from tests.http import Api
from tests.polling import eventually
from tests.streams import positions, reading_lines


async def some_events(api: Api, jobs: int = 2, beats: int = 3) -> list[Any]:
    """Make jobs with some heartbeats each; every event, by position."""
    made = [await api.create_job() for _ in range(jobs)]
    for _ in range(beats):
        for job in made:
            await api.call_back(job, "heartbeat", {"epoch": 1})
    events = [event for job in made for event in await api.events(job)]
    return sorted(events, key=lambda event: int(event["position"]))


async def read(lines: Any, count: int) -> list[Any]:
    """Take so many lines."""
    async with asyncio.timeout(20):
        return [await anext(lines) for _ in range(count)]


async def test_pages_follow_each_other_to_the_end(still_api: Api) -> None:
    known = await some_events(still_api)
    read: list[Any] = []
    after = 0

    while (page := (await still_api.get("/v1/events", after=after, limit=3)).json)["events"]:
        assert len(page["events"]) <= 3
        after = page["next_after"]
        assert after == page["events"][-1]["position"]
        read += page["events"]

    assert page["next_after"] == after == known[-1]["position"]
    assert read == known
    assert (await still_api.get("/v1/events")).json == {"events": known, "next_after": after}


async def test_a_page_has_a_hundred_events_unless_asked_otherwise(still_api: Api) -> None:
    job = await still_api.create_job()
    await still_api.call_back(job, "callbacks", {"callbacks": [{"kind": "heartbeat"}] * 150})

    assert positions((await still_api.get("/v1/events")).json["events"]) == list(range(1, 101))
    assert len((await still_api.get("/v1/events", limit=1000)).json["events"]) == 151
    far = (await still_api.get("/v1/events", after=10**15)).json
    assert far == {"events": [], "next_after": 10**15}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"after": "-1"}, "after"),
        ({"after": "x"}, "after"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"follow": "perhaps"}, "follow"),
        ({"before": "1"}, "before"),
    ],
    ids=str,
)
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_wrong_parameter_is_named(
    shared_api: Api, accept: str, query: dict[str, str | int], field: str
) -> None:
    answer = await shared_api.call("GET", "/v1/events", params=query, headers={"Accept": accept})

    assert answer.status == 400
    assert [item["field"] for item in answer.json["errors"]] == [field]


async def test_only_api_tokens_open_the_feed(shared_api: Api) -> None:
    viewer = (await shared_api.post("/v1/tokens", {"role": "viewer"})).json["token"]
    job = await shared_api.create_job()

    for headers in ({}, {"Accept": "application/x-ndjson"}):
        assert (await shared_api.call("GET", "/v1/events", token="", headers=headers)).status == 401
        answer = await shared_api.call(
            "GET", "/v1/events", token=job["callback_token"], headers=headers
        )
        assert (answer.status, answer.json["code"]) == (401, "token_invalid")
    assert (await shared_api.call("GET", "/v1/events", token=viewer)).status == 200


async def test_lines_are_the_events_of_the_pages_and_then_go_on(still_api: Api) -> None:
    known = await some_events(still_api)
    job = await still_api.create_job()

    async with reading_lines(still_api.service.url, still_api.service.api_token, after=2) as lines:
        assert await read(lines, len(known) - 2) == known[2:]
        assert (await read(lines, 1))[0]["type"] == "created"
        for epoch in (1, 2, 3):
            beat = {"epoch": epoch, "metrics": {"loss": 0.5}}
            position = (await still_api.call_back(job, "heartbeat", beat)).json["position"]
            [event] = await read(lines, 1)
            assert event == (await still_api.events(job))[-1]
            assert event["position"] == position


@pytest.mark.parametrize("limit", [1, 5, 8])
async def test_lines_end_after_the_limit(still_api: Api, limit: int) -> None:
    known = await some_events(still_api, jobs=1, beats=4)
    token = still_api.service.api_token

    async with reading_lines(still_api.service.url, token, limit=limit) as lines:
        first = await read(lines, min(limit, len(known)))
        if limit > len(known):
            job = await still_api.create_job()
            beats = [{"kind": "heartbeat"}] * 10
            await still_api.call_back(job, "callbacks", {"callbacks": beats})
            first += await read(lines, limit - len(known))
        assert [line async for line in lines] == []

    assert positions(first) == list(range(1, limit + 1))


async def test_lines_end_at_the_head_where_asked_to(still_api: Api) -> None:
    known = await some_events(still_api)

    async with reading_lines(
        still_api.service.url, still_api.service.api_token, follow="false"
    ) as lines:
        assert [line async for line in lines] == known


async def test_a_reader_of_lines_who_has_left_is_forgotten(still_api: Api) -> None:
    await still_api.create_job()
    feed = still_api.service.instance.feed

    async with reading_lines(still_api.service.url, still_api.service.api_token) as lines:
        await read(lines, 1)
        assert feed.subscribers == 1

    await eventually(lambda: feed.subscribers == 0)


async def test_a_reader_of_lines_who_takes_nothing_is_hung_up_on(still_api: Api) -> None:
    service = still_api.service
    service.instance.feed.patience = Patience(slow=0.3)
    job = await still_api.create_job()
    large = {"type": "note", "data": {"text": "x" * 200_000}}
    for _ in range(60):
        await still_api.call_back(job, "event", large)

    async with reading_lines(service.url, service.api_token) as lines:
        await eventually(lambda: service.instance.feed.subscribers == 0, within=30)
        with pytest.raises(aiohttp.ClientPayloadError):
            assert [line async for line in lines]
    assert 'subscribers_dropped_total{code="1013"} 1.0' in (await still_api.get("/metrics")).text


async def test_lines_end_when_the_service_stops(still_api: Api) -> None:
    await still_api.create_job()

    async with reading_lines(still_api.service.url, still_api.service.api_token) as lines:
        await read(lines, 1)
        still_api.service.instance.feed.end()
        assert [line async for line in lines] == []
