"""What earlier attempts left behind: asked of the service, which knows it from the log."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from trainer.answers import Answer, Delivered, Expired, Refused, TryAgain, read_answer
from trainer.backoff import delay
from trainer.bearer import Bearer
from trainer.callbacks import Callbacks
from trainer.local_storage import path_of
from trainer.uploads import Best

log = logging.getLogger(__name__)

ASKING_PATIENCE = 20.0
# How long an attempt waits for the service to hear what earlier ones could not say.
LEFTOVERS_PATIENCE = 10.0
# Where there is something to go on from: to start anew would cost more than to wait.
ASKING_PATIENCE_AGAIN = 300.0
CONNECT_SECONDS = 5
READ_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that the log names."""

    uri: str
    sha256: str | None = None
    epoch: int | None = None
    best: Best | None = None

    @property
    def path(self) -> Path:
        """Where it lies on this machine; raises ObjectMissingError where it is no file:// URI."""
        return path_of(self.uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Where a training may go on, the newest first, and what was said of it already."""

    checkpoints: tuple[Checkpoint, ...] = ()
    epochs_reported: int = 0
    mlflow_run_id: str | None = None

    def and_from(self, uri: str | None) -> Past:
        """Add, as the last resort, the address that the launcher named."""
        if uri is None or any(known.uri == uri for known in self.checkpoints):
            return self
        return Past(
            checkpoints=(*self.checkpoints, Checkpoint(uri=uri)),
            epochs_reported=self.epochs_reported,
            mlflow_run_id=self.mlflow_run_id,
        )


class Question:
    """GET /v1/jobs/{id}/resume."""

    def __init__(self, job_url: str, bearer: Bearer) -> None:
        """Take the job's address, and whose question it is."""
        self._url = f"{job_url}/resume"
        self._bearer = bearer

    def ask(self, patience: float = ASKING_PATIENCE) -> Past | None:
        """Return the past, or None where the service cannot say."""
        deadline, tries = time.monotonic() + patience, 0
        while True:
            answer = self._once()
            if not isinstance(answer, str):
                return answer
            pause = delay(tries, random.random())  # noqa: S311 - jitter, no secret
            if time.monotonic() + pause > deadline:
                log.warning("the service did not say where to resume: %s", answer)
                return None
            threading.Event().wait(pause)
            tries += 1

    def _once(self) -> Past | str | None:
        """Return the past, why to ask again, or None where that is of no use."""
        used = self._bearer.token
        try:
            answer, past = self._get()
            if isinstance(answer, Expired | Refused) and _is_of_the_token(answer):
                renewed = self._bearer.renew(used)
                answer, past = self._get() if isinstance(renewed, Delivered) else (renewed, None)
        except requests.RequestException as error:
            return type(error).__name__
        match answer:
            case Delivered():
                return past
            case TryAgain(why=why):
                return why
            case _:
                log.info("the service knows no place to resume from: %s", answer)
                return None

    def _get(self) -> tuple[Answer, Past | None]:
        response = requests.get(
            self._url,
            auth=self._bearer,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            allow_redirects=False,
        )
        now = datetime.now(UTC)
        answer = read_answer(response.status_code, response.headers, response.content, now)
        past = read_past(response.json()) if isinstance(answer, Delivered) else None
        return answer, past


def _is_of_the_token(answer: Expired | Refused) -> bool:
    return isinstance(answer, Expired) or answer.status == 401


def ask_past(callbacks: Callbacks, resume_from: str | None, *, is_first: bool) -> Past:
    """Return where earlier processes of this job ended, once all that they said is known.

    A first attempt may have had one, too; it does not wait for a service that is away for long.
    """
    callbacks.settle_past(LEFTOVERS_PATIENCE)
    callbacks.flush(LEFTOVERS_PATIENCE)
    question = Question(callbacks.job_url, callbacks.bearer)
    asked = question.ask(ASKING_PATIENCE if is_first else ASKING_PATIENCE_AGAIN)
    return (asked or Past()).and_from(resume_from)


def read_past(content: Mapping[str, Any]) -> Past:
    """Return what the answer says; a part of it that makes no sense is left out."""
    listed = content.get("checkpoints")
    found = [_read_checkpoint(one) for one in listed] if isinstance(listed, list) else []
    reported, run_id = content.get("epochs_reported"), content.get("mlflow_run_id")
    return Past(
        checkpoints=tuple(one for one in found if one is not None),
        epochs_reported=reported if isinstance(reported, int) else 0,
        mlflow_run_id=run_id if isinstance(run_id, str) and run_id else None,
    )


def _read_checkpoint(one: Any) -> Checkpoint | None:
    if not isinstance(one, Mapping) or not isinstance(one.get("uri"), str):
        return None
    epoch = one.get("epoch")
    return Checkpoint(
        uri=one["uri"],
        sha256=_text(one.get("sha256")),
        epoch=epoch if isinstance(epoch, int) else None,
        best=_read_best(one.get("best")),
    )


def _read_best(one: Any) -> Best | None:
    if not isinstance(one, Mapping) or not isinstance(one.get("uri"), str):
        return None
    size, epoch = one.get("bytes"), one.get("epoch")
    return Best(
        uri=one["uri"],
        sha256=_text(one.get("sha256")),
        bytes=size if isinstance(size, int) else None,
        epoch=epoch if isinstance(epoch, int) else 0,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
