"""The callback token: the newest one there is, and how a newer one is had."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import requests

from trainer.answers import Answer, Delivered, TryAgain, read_answer
from trainer.traceparent import HEADER, Traceparent

log = logging.getLogger(__name__)

TIMEOUT = (5, 30)
"""Seconds to connect, and to wait for an answer."""


class Bearer(requests.auth.AuthBase):
    """Signs requests; as an auth object, it also keeps a .netrc from replacing the token."""

    def __init__(
        self,
        job_url: str,
        token: str,
        keep: Callable[[str], None],
        trace: Traceparent | None = None,
    ) -> None:
        """Start with the token of the environment; `keep` is given each newer one.

        `trace` knows in which span of the job's trace a request is made.
        """
        self.token = token
        self._url = f"{job_url}/token/renew"
        self._keep = keep
        self._trace = trace
        self._renewing = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign one request, and say where in the trace it is made."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        if self._trace is not None and (header := self._trace.header()) is not None:
            request.headers[HEADER] = header
        return request

    def take(self, token: str) -> None:
        """Use a newer token from now on."""
        if token != self.token:
            self.token = token
            self._keep(token)

    def renew(self, used: str) -> Answer:
        """Have a newer token than one that has expired: somebody else's, or the service's."""
        with self._renewing:
            if self.token != used:
                return Delivered(directive="continue", token=self.token)
            answer = self._ask()
            if isinstance(answer, Delivered) and answer.token:
                log.info("the callback token had expired and was renewed")
                self.take(answer.token)
            return answer

    def _ask(self) -> Answer:
        try:
            response = requests.post(self._url, auth=self, timeout=TIMEOUT, allow_redirects=False)
        except Exception as error:  # no memory, no CA bundle: it says nothing of the token
            return TryAgain(why=type(error).__name__)
        now = datetime.now(UTC)
        return read_answer(response.status_code, response.headers, response.content, now)
