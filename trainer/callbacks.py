"""The trainer's voice: callbacks to the service, in order, until each was heard."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.answers import Delivered
from trainer.bearer import Bearer
from trainer.leftovers import Leftovers, journal_path
from trainer.limits import fitted
from trainer.outbox import Said, open_outbox
from trainer.sender import Sender
from trainer.traceparent import Traceparent

log = logging.getLogger(__name__)


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
        attempt: int = 1,
        folder: Path | None = None,
    ) -> None:
        """Start the sending thread; `hear` is called there with each directive but `continue`.

        `folder` keeps what is not delivered yet; without one it is only in memory.
        """
        self.job_url = f"{base_url}/v1/jobs/{job_id}"
        path = None if folder is None else journal_path(folder, job_id, attempt)
        self._outbox = open_outbox(path, trace_id)
        self._outbox.note(token=token)
        self.trace = Traceparent(trace_id, attempt, os.environ)
        self.bearer = Bearer(
            self.job_url, token, lambda newer: self._outbox.note(token=newer), self.trace
        )
        self._sender = Sender(self.job_url, self.bearer, self._outbox, hear)
        self._leftovers = Leftovers(folder, job_id, path, self.job_url, trace_id)
        self._leftovers.start()
        threading.Thread(target=self._send, name="callbacks", daemon=True).start()

    def event(self, kind: str, **data: Any) -> None:
        """Say that something happened; never dropped."""
        self.say(event(kind, **data))

    def heartbeat(self, body: dict[str, Any], *, timed: bool = False) -> None:
        """Say how far it is; a timed one may be dropped when the service is away for long."""
        self.say(("heartbeat", body, timed))

    def say(self, *said: Said) -> None:
        """Say several things that belong together: all of them are kept, or none."""
        self._outbox.put(*((kind, fitted(kind, body), timed) for kind, body, timed in said))

    def done(self, body: dict[str, Any], *, patience: float) -> bool:
        """Say how it ended, last of all, and return whether the service has it."""
        word = fitted("done", body)
        if "left_out" in word:
            log.warning("the last word holds more than the service takes: %s", word["left_out"])
            message = "The last word held more than the service takes; the rest was left out."
            self.event("done_reduced", message=message, left_out=word["left_out"])
        self._outbox.put(("done", word, False))
        self._sender.conclude()
        self._outbox.wait_until_empty(patience)
        return self._sender.done_delivered

    def hasten(self) -> None:
        """Hold nothing back for what earlier attempts left: there is little time."""
        self._leftovers.stand_aside()

    def flush(self, patience: float) -> bool:
        """Return whether all that was said so far got through within the time."""
        return self._outbox.wait_until_empty(patience)

    def settle_past(self, patience: float) -> bool:
        """Return whether what earlier attempts left got through, or never will, within the time."""
        return self._leftovers.wait(patience)

    @property
    def token(self) -> str:
        """The newest callback token."""
        return self.bearer.token

    def renew(self, used: str) -> str | None:
        """Return a token newer than one that has expired, or None where there is none now."""
        match self.bearer.renew(used):
            case Delivered(token=str(token)):
                return token
            case _:
                return None

    def close(self) -> None:
        """Send nothing more; what was not delivered stays in the folder for the next attempt."""
        self._leftovers.close()
        self._outbox.close()
        self._sender.wake()

    def _send(self) -> None:
        self._leftovers.let_through()
        self._sender.run()


def event(kind: str, **data: Any) -> Said:
    """Return an event, to be said together with others."""
    return "event", {"type": kind, "data": data}, False
