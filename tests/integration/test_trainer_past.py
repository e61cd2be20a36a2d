"""Asking the service over real HTTP where a training may go on."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator

import pytest

from tests.callback_server import CallbackServer
from trainer import backoff
from trainer.answers import Answer, TryAgain
from trainer.bearer import Bearer
from trainer.past import Past, Question

SAVED = {"epoch": 2, "uri": "s3://b/c.pt", "sha256": "ab"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_CEILING", 0.01)
    monkeypatch.setattr(backoff, "HIGHEST_CEILING", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[CallbackServer]:
    server = CallbackServer(knows_the_past=True)
    server.records = [
        {"kind": "event", "type": "checkpoint_saved", "data": SAVED},
        {"kind": "event", "type": "epoch_end", "data": {"epoch": 3}},
    ]
    await server.start()
    yield server
    await server.stop()


async def ask(
    server: CallbackServer, *, token: str | None = None, patience: float = 5
) -> Past | None:
    job_url = f"{server.url}/v1/jobs/{server.job_id}"
    kept: list[str] = []
    question = Question(job_url, Bearer(job_url, token or server.token, kept.append))
    return await to_thread(question.ask, patience)


async def test_the_service_says_where_to_go_on(server: CallbackServer) -> None:
    past = await ask(server)

    assert past is not None
    assert [one.uri for one in past.checkpoints] == ["s3://b/c.pt"]
    assert past.epochs_reported == 3


async def test_a_service_in_trouble_is_asked_again(server: CallbackServer) -> None:
    server.troubles.extend([503, "cut", 429, 500])

    assert await ask(server) is not None
    assert len(server.requests) == 5


@pytest.mark.parametrize("trouble", [302, 401, 404, 405, 410])
async def test_a_page_that_is_not_the_services_says_nothing_of_the_past(
    server: CallbackServer, trouble: int
) -> None:
    server.troubles.extend([trouble] * 2)  # as of a proxy that has no service behind it

    assert await ask(server) is not None
    assert server.requests == ["resume"] * 3


async def test_a_renewal_that_fails_in_passing_is_tried_again(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.exchange = "second-token"
    renew, failures = Bearer.renew, [TryAgain(why="HTTP 503")]

    def renewed(bearer: Bearer, used: str) -> Answer:
        return failures.pop() if failures else renew(bearer, used)

    monkeypatch.setattr(Bearer, "renew", renewed)

    assert await ask(server, token="expired") is not None


async def test_an_expired_token_is_renewed(server: CallbackServer) -> None:
    server.exchange = "second-token"

    assert await ask(server, token="expired") is not None
    assert server.token == "second-token"


async def test_a_token_that_nobody_renews_is_not_tried_for_ever(server: CallbackServer) -> None:
    assert await ask(server, token="wrong") is None
    assert server.requests == ["resume", "renew"]


async def test_an_older_service_does_not_know(server: CallbackServer) -> None:
    server.knows_the_past = False

    assert await ask(server) is None
    assert server.requests == ["resume"]


async def test_a_service_that_is_away_is_not_waited_for_for_ever(server: CallbackServer) -> None:
    await server.stop()

    assert await ask(server, patience=0.2) is None
