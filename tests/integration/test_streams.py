"""The WebSockets: everything since a number, and then what comes, once and in order."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import aiohttp
import asyncpg
import pytest
import structlog
from structlog.testing import LogCapture

from service.feed import Patience
from service.recent import ROOM
from tests.http import Answer, Api
from tests.polling import eventually
from tests.streams import Subscriber, positions

BEATS = {"callbacks": [{"kind": "heartbeat", "epoch": 1}] * 50}
LARGE = {"type": "note", "data": {"text": "x" * 200_000}}


def subscriber(api: Api, path: str = "/v1/stream", **options: Any) -> Subscriber:
    """A subscriber with the service's own token."""
    return Subscriber(api.service.url, path, api.service.api_token, **options)


async def refused(api: Api, path: str, **request: Any) -> Answer:
    """Ask for a WebSocket and be refused; the answer, which is held against the schema."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers = {**upgrade, **request.pop("headers", {})}
    answer = await api.call("GET", path, headers=headers, **request)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    return answer


async def test_the_log_is_sent_from_the_beginning_and_then_as_it_grows(still_api: Api) -> None:
    first, second = await still_api.create_job(), await still_api.create_job()
    await still_api.call_back(first, "callbacks", BEATS)

    async with subscriber(still_api) as stream:
        await stream.until(52)
        for job in (first, second, first):
            await still_api.call_back(job, "callbacks", BEATS)
        events = await stream.until(202)

    assert positions(events) == list(range(1, 203))
    for message in stream.messages:
        assert {event["job_id"] for event in message["events"]} == {message["job"]["id"]}
        assert message["job"]["version"] >= message["events"][-1]["version"]
    last = {job["id"]: await still_api.events(job) for job in (first, second)}
    assert events == sorted(last[first["id"]] + last[second["id"]], key=lambda one: one["position"])
    shown = (await still_api.get(f"/v1/jobs/{first['id']}")).json
    assert {**stream.messages[-1]["job"], "health": None} == {**shown, "health": None}


async def test_a_job_is_sent_alone_by_version(still_api: Api) -> None:
    job, other = await still_api.create_job(), await still_api.create_job()
    await still_api.call_back(job, "callbacks", BEATS)

    async with subscriber(still_api, f"/v1/jobs/{job['id']}/stream?after=40") as stream:
        await stream.until(51, "version")
        await asyncio.gather(
            still_api.call_back(other, "callbacks", BEATS),
            still_api.call_back(job, "callbacks", BEATS),
        )
        events = await stream.until(101, "version")

    assert [event["version"] for event in events] == list(range(41, 102))
    assert {event["job_id"] for event in events} == {job["id"]}


async def test_nothing_comes_before_its_number(still_api: Api) -> None:
    job = await still_api.create_job()
    await still_api.call_back(job, "heartbeat")

    async with (
        subscriber(still_api, "/v1/stream?after=10") as log,
        subscriber(still_api, f"/v1/jobs/{job['id']}/stream?after=10") as own,
    ):
        for _ in range(12):
            await still_api.call_back(job, "heartbeat")
        assert positions(await log.until(14)) == [11, 12, 13, 14]
        assert positions(await own.until(14)) == [11, 12, 13, 14]


async def test_who_comes_while_the_log_grows_misses_and_doubles_nothing(still_api: Api) -> None:
    jobs = [await still_api.create_job() for _ in range(4)]
    per_job = 40

    async def write(job: Any) -> None:
        for _ in range(per_job):
            await still_api.call_back(job, "heartbeat")

    async def follow(after: int) -> list[int]:
        await eventually(lambda: (still_api.service.instance.feed.head or 0) >= after)
        async with subscriber(still_api, f"/v1/stream?after={after}") as stream:
            return positions(await stream.until(last))

    last = len(jobs) * (per_job + 1)
    starts = range(0, 100, 9)
    found, *_ = await asyncio.gather(
        asyncio.gather(*(follow(after) for after in starts)), *(write(job) for job in jobs)
    )

    assert found == [list(range(after + 1, last + 1)) for after in starts]


async def test_a_hundred_subscribers_are_sent_the_same(still_api: Api) -> None:
    jobs = [await still_api.create_job() for _ in range(5)]
    streams = [subscriber(still_api, f"/v1/stream?after={number % 5}") for number in range(100)]
    await asyncio.gather(*(stream.__aenter__() for stream in streams))
    assert still_api.service.instance.feed.subscribers == 100

    for _ in range(10):
        await asyncio.gather(*(still_api.call_back(job, "heartbeat") for job in jobs))
    sent = await asyncio.gather(*(stream.until(55) for stream in streams))

    whole = sent[0]
    assert positions(whole) == list(range(1, 56))
    assert all(events == whole[number % 5 :] for number, events in enumerate(sent))
    await asyncio.gather(*(stream.__aexit__(None, None, None) for stream in streams))
    await eventually(lambda: still_api.service.instance.feed.subscribers == 0)


async def test_who_takes_nothing_is_dropped_and_the_others_go_on(still_api: Api) -> None:
    service = still_api.service
    service.instance.feed.patience = Patience(slow=1)
    job = await still_api.create_job()

    async with subscriber(still_api) as quick, subscriber(still_api, max_msg_size=0) as slow:
        for _ in range(60):
            await still_api.call_back(job, "event", LARGE)
            await quick.message()  # the other one reads nothing
        await eventually(lambda: service.instance.feed.subscribers == 1, within=30)
        await still_api.call_back(job, "heartbeat")
        assert positions(await quick.until(62)) == list(range(1, 63))
        assert await slow.end() == 1013
    assert 'subscribers_dropped_total{code="1013"} 1.0' in (await still_api.get("/metrics")).text


async def test_what_a_slow_one_has_not_taken_is_not_kept_for_it(still_api: Api) -> None:
    service = still_api.service
    service.instance.feed.patience = Patience(slow=30)
    job = await still_api.create_job()

    async with subscriber(still_api, max_msg_size=0) as slow:
        for _ in range(100):
            await still_api.call_back(job, "event", LARGE)
        held = [
            transport.get_write_buffer_size()
            for transport in gc.get_objects()
            if isinstance(transport, asyncio.WriteTransport)
        ]
        assert 64 * 1024 < max(held) < 1024 * 1024  # of 20 MB
        assert service.instance.feed.recent.size <= ROOM
        assert positions(await slow.until(101)) == list(range(1, 102))


async def test_pings_are_sent_and_have_to_be_answered(still_api: Api) -> None:
    still_api.service.instance.feed.patience = Patience(ping=1)  # a busy machine answers late
    await still_api.create_job()

    async with subscriber(still_api) as alive, subscriber(still_api, autoping=False) as dead:
        await asyncio.gather(alive.message(), dead.message())
        job_id = (await still_api.create_job())["id"] + 1
        listening = asyncio.create_task(_until_it_is_sent(alive, job_id))
        while (received := await dead.socket.receive(10)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        assert received.data == 4408
        assert "no answer to a ping" in (received.extra or "")
        assert (await still_api.create_job())["id"] == job_id
        await listening


async def _until_it_is_sent(stream: Subscriber, job_id: int) -> None:
    while (await stream.message())["job"]["id"] != job_id:
        pass


async def test_a_ping_of_the_client_is_answered_and_what_it_says_ignored(still_api: Api) -> None:
    await still_api.create_job()

    async with subscriber(still_api, autoping=False) as stream:
        await stream.message()
        await stream.socket.send_str("hello")
        await stream.socket.ping(b"are you there?")
        answer = await stream.socket.receive(10)
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, b"are you there?")
        await stream.socket.send_str("x" * 5000)
        assert await stream.end() == 1009


async def test_a_feed_goes_on_after_the_schema_was_away(
    still_api: Api, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while somebody brings back a backup: neither the feed nor the service ends."""
    said = LogCapture()
    monkeypatch.setattr("service.feed.log", structlog.wrap_logger(None, processors=[said]))
    job = await still_api.create_job()
    connection = await asyncpg.connect(database)

    async with subscriber(still_api) as stream:
        await stream.until(1)
        await connection.execute("alter table log_head rename to log_head_away")
        await eventually(lambda: [one for one in said.entries if one["event"] == "feed_failed"])
        await connection.execute("alter table log_head_away rename to log_head")
        await still_api.call_back(job, "heartbeat")
        assert positions(await stream.until(2)) == [1, 2]
    assert not still_api.service.broken.is_set()
    await connection.close()


async def test_a_stopping_service_says_so(still_api: Api) -> None:
    async with subscriber(still_api) as stream:
        still_api.service.instance.feed.end()
        assert await stream.end() == 1001


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/jobs/{id}/stream"])
async def test_errors_are_told_before_the_upgrade(shared_api: Api, path: str) -> None:
    job = await shared_api.create_job()
    address = path.replace("{id}", str(job["id"]))
    viewer = (await shared_api.post("/v1/tokens", {"role": "viewer"})).json["token"]

    assert (await refused(shared_api, address, token="")).json["code"] == "token_missing"
    assert (await refused(shared_api, address, token="x")).json["code"] == "token_invalid"
    wrong = await refused(shared_api, address, token=job["callback_token"])
    assert wrong.json["code"] == "token_invalid"
    for query in ({"after": "-1"}, {"after": "first"}, {"since": "1"}):
        answer = await refused(shared_api, address, params=query)
        assert answer.json["errors"][0]["field"] in query
    plain = await shared_api.get(address)
    assert (plain.status, plain.json["errors"][0]["field"]) == (400, "Upgrade")
    assert (await refused(shared_api, "/v1/jobs/999999/stream")).json["code"] == "job_not_found"
    assert (await refused(shared_api, "/v1/jobs/x/stream")).json["errors"][0]["field"] == "id"
    async with Subscriber(shared_api.service.url, address, viewer) as stream:
        assert (await stream.message())["events"]


async def test_a_browser_offers_its_token_as_a_protocol(shared_api: Api) -> None:
    await shared_api.create_job()
    token = (await shared_api.post("/v1/tokens", {"role": "viewer"})).json["token"]
    url = f"{shared_api.service.url}/v1/stream"

    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, protocols=("epochlog", f"bearer.{token}")) as socket:
            assert socket.protocol == "epochlog"
            assert (await socket.receive(10)).type is aiohttp.WSMsgType.TEXT
        for offered, status in (
            (("epochlog", "bearer.wrong"), 401),
            (("epochlog",), 401),
            ((f"bearer.{token}",), 400),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
                await session.ws_connect(url, protocols=offered)
            assert failure.value.status == status


async def test_too_many_subscribers_are_refused(
    still_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.feed.SUBSCRIBERS", 1)

    async with subscriber(still_api):
        answer = await refused(still_api, "/v1/stream")
        assert (answer.status, answer.json["code"]) == (503, "overloaded")
        assert int(answer.headers["Retry-After"]) > 0
    await eventually(lambda: still_api.service.instance.feed.subscribers == 0)
    async with subscriber(still_api):
        pass
