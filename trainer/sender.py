"""Delivers an outbox to the service, one request at a time, for as long as it takes."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import assert_never

import requests

from trainer.answers import Answer, Delivered, Expired, Refused, TryAgain, read_answer
from trainer.backoff import delay
from trainer.bearer import TIMEOUT, Bearer
from trainer.journal import Item
from trainer.outbox import Outbox

log = logging.getLogger(__name__)

JSON = {"Content-Type": "application/json"}
LONGEST_MESSAGE = 2000


class Sender:
    """Sends what an outbox holds, in its order, and passes on what the service directs."""

    def __init__(
        self,
        job_url: str,
        bearer: Bearer,
        outbox: Outbox,
        hear: Callable[[str], None],
        *,
        insists: bool = True,
    ) -> None:
        """Take the job's address, whose word it is, and whom to tell the directives.

        One that does not insist closes the outbox where its token is refused: what it holds stays.
        """
        self._url = job_url
        self._outbox = outbox
        self._hear = hear
        self._insists = insists
        self._bearer = bearer
        self._session = requests.Session()
        self._session.auth = bearer
        self._awake = threading.Event()
        self.done_delivered = False
        self.gave_up = False
        """Whether the service wants nothing more from this token."""

    def run(self) -> None:
        """Send until the outbox is closed, or the token is over for good."""
        failures = 0
        while not self.gave_up and (batch := self._outbox.take()):
            try:
                self._deliver(batch)
                failures = 0
            except Exception as error:  # ours: what was said is not at fault, and stays
                log.exception("%d callbacks could not be sent", len(batch))
                self._pause(TryAgain(why=type(error).__name__), failures)
                failures += 1

    def wake(self) -> None:
        """End the pause before the next try."""
        self._awake.set()

    def conclude(self) -> None:
        """Send the last word at once; who is not let in now does not insist any more."""
        self._insists = False
        self.wake()

    def _deliver(self, batch: list[Item]) -> None:
        tries = renewals = denials = 0
        while not (self._outbox.closed or self.gave_up):
            used = self._bearer.token
            match answer := self._post(batch):
                case Delivered():
                    self._settle(batch, answer, tries)
                    return
                case TryAgain():
                    self._pause(answer, tries)
                    tries += 1
                case Refused() if answer.about_the_caller:
                    self._denied(answer, denials)
                    denials += 1
                case Refused() if len(batch) > 1:
                    # One of them is what it cannot take: look for it by halves.
                    middle = len(batch) // 2
                    self._deliver(batch[:middle])
                    self._deliver(batch[middle:])
                    return
                case Refused():
                    self._refused(batch[0], answer)
                    return
                case Expired():
                    self._renew(used, renewals)
                    renewals += 1
                case _:
                    assert_never(answer)

    def _post(self, batch: list[Item]) -> Answer:
        try:
            url, body = _request(self._url, batch)
            response = self._session.post(
                url, data=body, headers=JSON, timeout=TIMEOUT, allow_redirects=False
            )
        except Exception as error:  # no memory, no CA bundle: it is no fault of what was said
            return TryAgain(why=type(error).__name__)
        now = datetime.now(UTC)
        return read_answer(response.status_code, response.headers, response.content, now)

    def _settle(self, batch: list[Item], answer: Delivered, tries: int) -> None:
        if tries:
            log.info("the service answers again after %d failed tries", tries)
        if answer.token:
            self._bearer.take(answer.token)
        self.done_delivered |= any(item.kind == "done" for item in batch)
        if answer.directive != "continue":
            self._hear(answer.directive)  # first: who waits for the outbox waits for this word
        self._outbox.settle(batch)

    def _refused(self, item: Item, answer: Refused) -> None:
        detail = answer.detail[:LONGEST_MESSAGE]
        log.error(
            "the service refused %s %d: HTTP %d %s %s",
            item.kind,
            item.seq,
            answer.status,
            answer.code,
            detail,
        )
        self._outbox.refuse(item, status=answer.status, code=answer.code, detail=detail)

    def _denied(self, answer: Refused, tries: int) -> None:
        """Keep what was said: it is not at fault where the service takes nothing from us."""
        if self._insists:
            self._pause(TryAgain(why=f"HTTP {answer.status} {answer.code}"), tries)
            return
        log.error("the service takes nothing: HTTP %d %s", answer.status, answer.code)
        self._outbox.close()

    def _renew(self, used: str, tries: int) -> None:
        """Have a newer token; without one nothing more can be sent, but it stays on disk."""
        match answer := self._bearer.renew(used):
            case Delivered(token=str()):
                if tries:
                    self._pause(TryAgain(why="the renewed token has expired, too"), tries)
            case TryAgain():
                self._pause(answer, tries)
            case Refused():
                self._denied(answer, tries)
            case _:
                log.error("the callback token has expired and is not renewed: %s", answer)
                self.gave_up = True
                self._outbox.close()

    def _pause(self, answer: TryAgain, tries: int) -> None:
        seconds = delay(tries, random.random(), answer.after)  # noqa: S311 - jitter, no secret
        if tries == 0:
            self._outbox.sync()  # it may take hours; the machine may not last so long
        if tries < 3 or tries % 20 == 0:
            log.warning("callbacks wait %.1f s for their next try: %s", seconds, answer.why)
        self._awake.wait(seconds)
        self._awake.clear()


def _request(job_url: str, batch: list[Item]) -> tuple[str, bytes]:
    """Return where the batch goes, and its body: put together from bytes, never encoded anew."""
    if len(batch) == 1:
        return f"{job_url}/{batch[0].kind}", batch[0].body
    told = (b'{"kind":%b,%b' % (json.dumps(i.kind).encode(), i.body[1:]) for i in batch)
    return f"{job_url}/callbacks", b'{"callbacks":[%b]}' % b",".join(told)
