"""The last word of an attempt: how it ended, said once, in the time that is left."""

from __future__ import annotations

import logging
import os
import threading

from trainer.callbacks import Callbacks
from trainer.failures import evidence, secrets_in
from trainer.outcomes import Failed, Left, Outcome, done_body
from trainer.stop import Stop
from trainer.uploads import OutOfTimeError, patiently, until

log = logging.getLogger(__name__)

# How long the last word is repeated to a service that does not answer.
DONE_PATIENCE = 600.0
HEARING_PATIENCE = 3.0
# Of the grace of whoever asked us to end, what is kept for the end of the process.
LAST_SECOND = 1.0


def hear_out(callbacks: Callbacks, stop: Stop) -> None:
    """Let what was said so far get through: a cancel is often said in the answer to it."""
    callbacks.hasten()
    callbacks.flush(max(0.0, min(HEARING_PATIENCE, stop.left(LAST_SECOND))))


def decided(ended: Outcome, stop: Stop) -> Outcome:
    """Return what counts of this end; never returns where another thread ends the process."""
    if not stop.claim():
        threading.Event().wait()
    if stop.outranks_success and not isinstance(ended, Left):
        return Left(ended.artifacts)
    return ended


def say_done(callbacks: Callbacks, stop: Stop, ended: Outcome, run_id: str | None = None) -> bool:
    """Say how it ended, after its evidence; return whether the service has it."""
    secrets = secrets_in(os.environ)
    if isinstance(ended, Failed) and ended.error is not None:
        callbacks.event("traceback", **evidence(ended.error, secrets, ended.code))
    body = done_body(ended, run_id, told=stop.code, secrets=secrets)
    log.info("done: %s %s", body["status"], body.get("error", ""))
    left = until(DONE_PATIENCE, lambda: stop.left(LAST_SECOND))
    try:
        heard = patiently(lambda: callbacks.done(body, patience=DONE_PATIENCE), left)
    except OutOfTimeError:
        heard = False
    if not heard:
        log.error("the service never took the result")
    return heard
