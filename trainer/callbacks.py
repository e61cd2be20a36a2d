"""The trainer's voice: callbacks to the service, in order, until each was heard."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_never

import requests

from trainer.answers import Answer, Delivered, Expired, Refused, TryAgain, read_answer
from trainer.backoff import delay
from trainer.identity import new_event_id, timestamp
from trainer.outbox import Item, Outbox, make_item

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5
READ_SECONDS = 30
LONGEST_MESSAGE = 2000


class Bearer(requests.auth.AuthBase):
    """The callback token; as an auth object, it also keeps a .netrc from replacing it."""

    def __init__(self, token: str) -> None:
        """Start with the token of the environment."""
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign one request."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Sender:
    """Delivers an outbox, one request at a time, in its own thread."""

    def __init__(
        self, jobs_url: str, token: str, outbox: Outbox, hear: Callable[[str], None]
    ) -> None:
        """Take the job's address, and whom to tell what the service directs."""
        self._url = jobs_url
        self._outbox = outbox
        self._hear = hear
        self._bearer = Bearer(token)
        self._session = requests.Session()
        self._session.auth = self._bearer
        self._awake = threading.Event()
        self.done_delivered = False

    def run(self) -> None:
        """Send until the outbox is closed."""
        while batch := self._outbox.take():
            try:
                self._deliver(batch)
            except Exception:
                log.exception("a callback could not be sent and was dropped")

    def wake(self) -> None:
        """End the pause before the next try."""
        self._awake.set()

    def _deliver(self, batch: list[Item]) -> None:
        tries = 0
        while not self._outbox.closed:
            match answer := self._post(batch):
                case Delivered():
                    self._settle(batch, answer, tries)
                    return
                case TryAgain():
                    self._pause(answer, tries)
                    tries += 1
                case Refused() if len(batch) > 1 and not answer.about_the_caller:
                    for item in batch:
                        self._deliver([item])
                    return
                case Refused():
                    _log_refusal(batch, answer)
                    return
                case Expired():
                    log.error("the callback token has expired; nothing more can be sent")
                    self._outbox.close()
                case _:
                    assert_never(answer)

    def _post(self, batch: list[Item]) -> Answer:
        url, body = _request(self._url, batch)
        try:
            response = self._session.post(
                url, json=body, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False
            )
        except requests.RequestException as error:
            return TryAgain(why=type(error).__name__)
        return read_answer(
            response.status_code, response.headers, response.content, datetime.now(UTC)
        )

    def _settle(self, batch: list[Item], answer: Delivered, tries: int) -> None:
        if tries:
            log.info("the service answers again after %d failed tries", tries)
        if answer.token:
            self._bearer.token = answer.token
        self.done_delivered |= any(item.kind == "done" for item in batch)
        if answer.directive != "continue":
            self._hear(answer.directive)

    def _pause(self, answer: TryAgain, tries: int) -> None:
        seconds = delay(tries, random.random(), answer.after)  # noqa: S311 - jitter, no secret
        if tries < 3 or tries % 20 == 0:
            log.warning("a callback waits %.1f s for its next try: %s", seconds, answer.why)
        self._awake.wait(seconds)
        self._awake.clear()


def _request(jobs_url: str, batch: list[Item]) -> tuple[str, dict[str, Any]]:
    if len(batch) == 1:
        return f"{jobs_url}/{batch[0].kind}", batch[0].body
    return f"{jobs_url}/callbacks", {
        "callbacks": [{"kind": item.kind, **item.body} for item in batch]
    }


def _log_refusal(batch: list[Item], answer: Refused) -> None:
    log.error(
        "the service refused %d callback(s) from %s %s on: HTTP %d %s %s",
        len(batch),
        batch[0].kind,
        batch[0].body["event_id"],
        answer.status,
        answer.code,
        answer.detail[:LONGEST_MESSAGE],
    )


class Callbacks:
    """What the rest of the trainer says; saying it never waits for the network."""

    def __init__(
        self,
        *,
        base_url: str,
        job_id: int,
        trace_id: str,
        token: str,
        hear: Callable[[str], None],
    ) -> None:
        """Start the sending thread; `hear` is called there with each directive but `continue`."""
        self._trace_id = trace_id
        self._seq = 0
        self._order = threading.Lock()
        self._outbox = Outbox()
        self._sender = Sender(f"{base_url}/v1/jobs/{job_id}", token, self._outbox, hear)
        threading.Thread(target=self._sender.run, name="callbacks", daemon=True).start()

    def event(self, kind: str, **data: Any) -> None:
        """Say that something happened; never dropped."""
        self._put("event", {"type": kind, "data": data})

    def heartbeat(self, body: dict[str, Any], *, timed: bool = False) -> None:
        """Say how far it is; a timed one may be dropped when the service is away for long."""
        self._put("heartbeat", body, timed=timed)

    def done(self, body: dict[str, Any], *, patience: float) -> bool:
        """Say how it ended, last of all, and return whether the service has it."""
        self._put("done", body)
        self._sender.wake()
        self._outbox.wait_until_empty(patience)
        return self._sender.done_delivered

    def flush(self, patience: float) -> bool:
        """Return whether all that was said so far got through within the time."""
        return self._outbox.wait_until_empty(patience)

    def close(self) -> None:
        """Send nothing more."""
        self._outbox.close()
        self._sender.wake()

    def _put(self, kind: str, body: dict[str, Any], *, timed: bool = False) -> None:
        # One lock over number and place: the order of `seq` is the order of delivery.
        with self._order:
            self._seq += 1
            envelope = {
                "event_id": new_event_id(),
                "seq": self._seq,
                "occurred_at": timestamp(),
                "trace_id": self._trace_id,
            }
            self._outbox.put(make_item(kind, {**envelope, **body}, timed=timed))
