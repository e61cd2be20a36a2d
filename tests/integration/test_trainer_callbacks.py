"""The trainer's callbacks over real HTTP, against a service that misbehaves."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.callback_server import ENVELOPE, CallbackServer, until
from trainer import backoff, sender
from trainer.callbacks import Callbacks


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_CEILING", 0.01)
    monkeypatch.setattr(backoff, "HIGHEST_CEILING", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[CallbackServer]:
    server = CallbackServer()
    await server.start()
    yield server
    await server.stop()


FIRST_TOKEN = "first-token"


class Trainer:
    """What a training says, and what it hears."""

    def __init__(
        self,
        server: CallbackServer,
        folder: Path | None = None,
        *,
        attempt: int = 1,
        token: str = FIRST_TOKEN,
    ) -> None:
        self.heard: list[str] = []
        self.callbacks = Callbacks(
            base_url=server.url,
            job_id=server.job_id,
            trace_id=server.trace_id,
            token=token,
            hear=self.heard.append,
            attempt=attempt,
            folder=folder,
        )

    def say_epochs(self, *epochs: int) -> None:
        for epoch in epochs:
            self.callbacks.event("epoch_end", epoch=epoch)


@pytest.fixture
def trainer(server: CallbackServer) -> Iterator[Trainer]:
    trainer = Trainer(server)
    yield trainer
    trainer.callbacks.close()


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def epochs(server: CallbackServer) -> list[int]:
    return [data["epoch"] for data in server.events("epoch_end")]


async def test_what_is_said_arrives_once_in_order_and_numbered(
    server: CallbackServer, trainer: Trainer
) -> None:
    trainer.say_epochs(*range(250))

    await until(lambda: len(server.records) == 250)
    assert epochs(server) == list(range(250))
    assert [body["seq"] for body in server.records] == list(range(1, 251))
    assert len({body["event_id"] for body in server.records}) == 250
    assert server.duplicates == 0


async def test_a_lone_callback_takes_its_own_route_and_many_share_one(
    server: CallbackServer, trainer: Trainer
) -> None:
    trainer.callbacks.heartbeat({"epoch": 1})
    await until(lambda: server.records)
    await server.stop()
    trainer.say_epochs(*range(5))
    await server.start()

    await until(lambda: len(server.records) == 6)
    assert server.requests[0] == "heartbeat"
    assert "callbacks" in server.requests


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, 302, "cut"])
async def test_trouble_is_waited_out(
    server: CallbackServer, trainer: Trainer, trouble: int | str
) -> None:
    server.troubles.extend([trouble] * 4)

    trainer.say_epochs(1, 2, 3)

    await until(lambda: len(server.records) == 3)
    assert epochs(server) == [1, 2, 3]


async def test_an_answer_lost_on_its_way_doubles_nothing(
    server: CallbackServer, trainer: Trainer
) -> None:
    server.cut_after_recording = 2

    trainer.say_epochs(*range(30))

    await until(lambda: len(server.records) == 30 and server.cut_after_recording == 0)
    await until(lambda: server.duplicates)
    assert epochs(server) == list(range(30))


async def test_a_service_that_is_restarted_gets_all_it_missed(
    server: CallbackServer, trainer: Trainer
) -> None:
    trainer.say_epochs(1)
    await until(lambda: epochs(server) == [1])
    for first in (2, 12, 22):
        await server.stop()
        trainer.say_epochs(*range(first, first + 10))
        await server.start()
        await until(lambda: len(epochs(server)) == first + 9)  # noqa: B023 - awaited at once

    assert epochs(server) == list(range(1, 32))


async def test_a_fresh_token_is_used_from_then_on(server: CallbackServer, trainer: Trainer) -> None:
    server.renewal = "second-token"
    trainer.say_epochs(1)
    await until(lambda: server.token == "second-token")

    trainer.say_epochs(2)

    await until(lambda: epochs(server) == [1, 2])


@pytest.mark.parametrize("directive", ["cancel", "stop"])
async def test_a_directive_is_heard(
    server: CallbackServer, trainer: Trainer, directive: str
) -> None:
    trainer.say_epochs(1)
    await until(lambda: server.records)
    assert trainer.heard == []
    server.directive = directive

    trainer.say_epochs(2)

    await until(lambda: trainer.heard == [directive])


async def test_who_waits_for_what_was_said_has_heard_the_answer_to_it(
    server: CallbackServer,
) -> None:
    flushed: list[bool] = []
    callbacks = Callbacks(
        base_url=server.url,
        job_id=server.job_id,
        trace_id=server.trace_id,
        token=FIRST_TOKEN,
        hear=lambda _directive: flushed.append(callbacks.flush(0)),
    )
    server.directive = "stop"

    callbacks.event("phase_started", phase="upload")

    await until(lambda: flushed)
    assert flushed == [False]
    callbacks.close()


async def test_one_bad_callback_in_a_batch_costs_only_itself(
    server: CallbackServer, trainer: Trainer
) -> None:
    server.refuses = lambda body: body.get("data") == {"epoch": 3}
    await server.stop()
    trainer.say_epochs(1, 2, 3, 4, 5)
    await server.start()

    await until(lambda: server.events("callbacks_dropped"))
    assert epochs(server) == [1, 2, 4, 5]
    (told,) = server.events("callbacks_dropped")
    assert (told["seqs"], told["code"]) == ([[3, 3]], "invalid_request")


async def test_a_refused_token_is_no_fault_of_what_was_said_and_is_waited_out(
    server: CallbackServer, trainer: Trainer
) -> None:
    server.token = "another"
    trainer.say_epochs(1, 2)
    await until(lambda: len(server.requests) > 3)
    server.token = FIRST_TOKEN

    await until(lambda: epochs(server) == [1, 2])
    assert server.events("callbacks_dropped") == []


async def test_what_an_earlier_attempt_left_is_kept_while_its_token_is_refused(
    server: CallbackServer, tmp_path: Path
) -> None:
    await server.stop()
    killed = Trainer(server, tmp_path)
    killed.say_epochs(1)
    killed.callbacks.close()
    server.token = "second-token"
    await server.start()

    second = Trainer(server, tmp_path, attempt=2, token="second-token")
    second.say_epochs(2)
    await until(lambda: epochs(server) == [2])
    assert await to_thread(second.callbacks.settle_past, 10)
    second.callbacks.close()
    server.older_tokens, server.token = frozenset({FIRST_TOKEN}), "third-token"
    third = Trainer(server, tmp_path, attempt=3, token="third-token")

    await until(lambda: epochs(server) == [2, 1])
    assert await to_thread(third.callbacks.settle_past, 10)
    third.callbacks.close()
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("trouble", [401, 404, 405, 410])
async def test_a_page_that_is_not_the_services_refuses_nothing(
    server: CallbackServer, trainer: Trainer, trouble: int
) -> None:
    server.troubles.extend([trouble] * 4)  # as of a proxy that has no service behind it

    trainer.say_epochs(1, 2, 3)

    await until(lambda: len(server.records) == 3)
    assert epochs(server) == [1, 2, 3]


async def test_whatever_breaks_while_sending_is_no_proof_that_it_arrived(
    server: CallbackServer, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError("no CA bundle"), MemoryError(), OSError("no CA bundle")]
    post = requests.Session.post

    def failing(*args: Any, **options: Any) -> requests.Response:
        if failures:
            raise failures.pop()
        return post(*args, **options)

    monkeypatch.setattr(requests.Session, "post", failing)
    trainer.say_epochs(1, 2, 3)

    await until(lambda: epochs(server) == [1, 2, 3])
    assert failures == []


async def test_a_failure_of_our_own_loses_nothing_of_what_was_said(
    server: CallbackServer, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: dict[str, list[Exception]] = {
        "_request": [MemoryError()],
        "read_answer": [RecursionError(), RecursionError()],
    }

    def failing(name: str) -> Callable[..., Any]:
        works = getattr(sender, name)

        def fail(*args: Any) -> Any:
            if failures[name]:
                raise failures[name].pop()
            return works(*args)

        return fail

    for name in failures:
        monkeypatch.setattr(sender, name, failing(name))
    trainer.say_epochs(1, 2, 3)

    assert await to_thread(trainer.callbacks.done, {"status": "succeeded"}, patience=20)
    assert epochs(server) == [1, 2, 3]
    assert not any(failures.values())


async def test_a_token_that_has_expired_as_soon_as_it_is_renewed_is_not_hammered_with(
    server: CallbackServer, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []

    def short(tries: int, *_: object) -> float:
        pauses.append(tries)
        return 0.01

    monkeypatch.setattr(sender, "delay", short)
    server.expired = server.still_expired = True  # two replicas, and one's clock is ahead
    server.exchange = "second-token"

    trainer.say_epochs(1)
    await until(lambda: server.requests.count("renew") > 3)
    server.expired = False

    await until(lambda: epochs(server) == [1])
    assert pauses[:3] == [1, 2, 3], "only the first renewal is worth a try at once"


async def test_an_expired_token_that_nobody_renews_ends_the_sending(
    server: CallbackServer, trainer: Trainer
) -> None:
    server.expired = True
    trainer.say_epochs(1)
    await until(lambda: "renew" in server.requests)
    assert await to_thread(trainer.callbacks.flush, 5)

    trainer.say_epochs(2, 3)

    assert not await to_thread(trainer.callbacks.done, {"status": "succeeded"}, patience=5)
    assert server.requests == ["event", "renew"]


async def test_an_expired_token_is_renewed_and_nothing_is_lost(
    server: CallbackServer, trainer: Trainer
) -> None:
    trainer.say_epochs(1)
    await until(lambda: epochs(server) == [1])
    server.expired, server.exchange = True, "second-token"

    trainer.say_epochs(2, 3)

    await until(lambda: epochs(server) == [1, 2, 3])
    assert trainer.callbacks.token == "second-token"
    assert trainer.callbacks.renew("first-token") == "second-token"
    assert server.requests.count("renew") == 1


async def test_what_a_killed_attempt_left_is_sent_first_with_its_own_token(
    server: CallbackServer, tmp_path: Path
) -> None:
    await server.stop()
    killed = Trainer(server, tmp_path)
    killed.say_epochs(1, 2)
    killed.callbacks.close()
    server.older_tokens, server.token = frozenset({"first-token"}), "second-token"
    await server.start()

    later = Trainer(server, tmp_path, attempt=2, token="second-token")
    later.say_epochs(3)

    await until(lambda: len(epochs(server)) == 3)
    assert epochs(server) == [1, 2, 3]
    assert [body["seq"] for body in server.records] == [1, 2, 1]
    assert later.heard == [], "what an older attempt is told is not for this one"
    assert await to_thread(later.callbacks.flush, 5)
    later.callbacks.close()
    assert left_in(tmp_path) == []


async def test_the_same_attempt_goes_on_with_its_count(
    server: CallbackServer, tmp_path: Path
) -> None:
    first = Trainer(server, tmp_path)
    first.say_epochs(1, 2)
    await until(lambda: epochs(server) == [1, 2])
    await server.stop()
    first.say_epochs(3)
    first.callbacks.close()
    await server.start()

    again = Trainer(server, tmp_path)
    again.say_epochs(4)

    await until(lambda: epochs(server) == [1, 2, 3, 4])
    assert [body["seq"] for body in server.records] == [1, 2, 3, 4]
    again.callbacks.close()


async def test_what_nobody_takes_is_removed(server: CallbackServer, tmp_path: Path) -> None:
    server.expired = True
    await server.stop()
    killed = Trainer(server, tmp_path)
    killed.say_epochs(1)
    killed.callbacks.close()
    await server.start()

    later = Trainer(server, tmp_path, attempt=2)

    assert await to_thread(later.callbacks.settle_past, 10)
    later.callbacks.close()
    assert left_in(tmp_path) == []


async def test_one_that_is_too_large_costs_only_itself_and_is_said(
    server: CallbackServer, trainer: Trainer
) -> None:
    await server.stop()
    trainer.say_epochs(*range(200))
    trainer.callbacks.event("large", text="x" * 300_000)
    trainer.say_epochs(*range(200, 400))
    await server.start()

    await until(lambda: len(epochs(server)) == 400)
    await until(lambda: server.events("callbacks_dropped"))
    (told,) = server.events("callbacks_dropped")
    assert (told["seqs"], told["why"], told["status"]) == ([[201, 201]], "refused", 413)
    assert len(server.requests) < 40, "the bad one is looked for by halves"


async def test_the_last_word_comes_after_all_others_and_is_waited_for(
    server: CallbackServer, trainer: Trainer
) -> None:
    server.troubles.extend([503] * 3)
    trainer.say_epochs(*range(120))

    assert await to_thread(trainer.callbacks.done, {"status": "succeeded"}, patience=20)

    assert server.records[-1]["kind"] == "done"
    assert len(server.records) == 121


@pytest.mark.parametrize(
    ("word", "bare"),
    [
        ({"status": "succeeded", "metrics": {"loss": 0.5}}, {"status": "succeeded"}),
        (
            {
                "status": "failed",
                "mlflow_run_id": "run",
                "artifacts": [{"name": "half.pt", "uri": "s3://b/half.pt"}],
                "error": {"code": "oom", "message": "too little", "retryable": False},
            },
            {
                "status": "failed",
                "error": {"code": "oom", "message": "too little", "retryable": False},
            },
        ),
    ],
    ids=["succeeded", "failed"],
)
async def test_a_last_word_that_is_refused_is_said_again_with_its_verdict_only(
    server: CallbackServer, trainer: Trainer, word: dict[str, Any], bare: dict[str, Any]
) -> None:
    server.refuses = lambda body: not body.keys().isdisjoint(word.keys() - bare.keys())
    trainer.say_epochs(1, 2)

    assert await to_thread(trainer.callbacks.done, word, patience=20)

    *_, dropped, reduced, last = server.records
    assert (dropped["data"]["kind"], dropped["data"]["seqs"]) == ("done", [[3, 3]])
    assert reduced["type"] == "done_reduced"
    told = {name: value for name, value in last.items() if name not in ENVELOPE}
    assert told == {"kind": "done", **bare}


async def test_a_verdict_that_is_refused_is_not_said_for_ever(
    server: CallbackServer, trainer: Trainer
) -> None:
    server.refuses = lambda body: body["kind"] == "done"

    assert not await to_thread(trainer.callbacks.done, {"status": "succeeded"}, patience=20)

    await until(lambda: server.events("callbacks_dropped"))
    assert server.requests.count("done") == 1


async def test_a_last_word_is_kept_within_what_the_service_takes_and_says_so(
    server: CallbackServer, trainer: Trainer
) -> None:
    metrics = {f"metric_{number}": 0.5 for number in range(1001)}

    assert await to_thread(
        trainer.callbacks.done, {"status": "succeeded", "metrics": metrics}, patience=20
    )

    reduced, last = server.records
    assert reduced["data"]["left_out"] == {"metrics": 1}
    assert len(last["metrics"]) == 1000
    assert server.requests.count("done") <= 1


async def test_a_last_word_that_nobody_takes_is_given_up_in_time(
    server: CallbackServer, trainer: Trainer
) -> None:
    await server.stop()

    assert not trainer.callbacks.done({"status": "succeeded"}, patience=0.1)
