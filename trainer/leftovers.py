"""What earlier attempts of the job still had to say when they were killed: sent first."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from trainer.bearer import Bearer
from trainer.journal import JournalError, open_journal
from trainer.outbox import Outbox
from trainer.sender import Sender
from trainer.traceparent import Traceparent

log = logging.getLogger(__name__)

# How long a new attempt holds its own first word back for the last ones of those before it.
PATIENCE = 30.0


def journal_path(folder: Path, job_id: int, attempt: int) -> Path:
    """Return where an attempt keeps its callbacks."""
    return folder / f"job-{job_id}-attempt-{attempt}.sqlite3"


class Leftovers:
    """The journals of a job's other attempts, each sent with its own token."""

    def __init__(
        self,
        folder: Path | None,
        job_id: int,
        own: Path | None,
        job_url: str,
        trace_id: str = "",
    ) -> None:
        """Look for them; `own` is the journal that is none."""
        found = _journals(folder, job_id) if folder is not None else ()
        self._paths = [path for path in sorted(found) if path != own]
        self._url = job_url
        self._trace_id = trace_id
        self._under_way: list[tuple[Outbox, Sender]] = []
        self._done = threading.Event()
        self._stood_aside = threading.Event()  # also where there is nothing, or no more, to send
        self._closed = False
        if not self._paths:
            self._end()

    def start(self) -> None:
        """Begin to send, in a thread of its own."""
        if self._paths:
            threading.Thread(target=self._run, name="leftovers", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Return whether all of it was sent, or given up, within the time."""
        return self._done.wait(seconds)

    def let_through(self) -> None:
        """Return when it is the new attempt's turn to speak."""
        self._stood_aside.wait(PATIENCE)

    def stand_aside(self) -> None:
        """Have the new attempt's turn come now; what is left is sent beside it."""
        self._stood_aside.set()

    def close(self) -> None:
        """Send no more; what is left waits for the next attempt."""
        self._closed = True
        for outbox, sender in list(self._under_way):
            outbox.close()
            sender.wake()

    def _run(self) -> None:
        try:
            for path in self._paths:
                self._send(path)
        except Exception:
            log.exception("what an earlier attempt left cannot be sent")
        finally:
            self._end()

    def _end(self) -> None:
        self._done.set()
        self._stood_aside.set()

    def _send(self, path: Path) -> None:
        try:
            journal = open_journal(path)
            token = journal.fact("token")
        except JournalError as error:
            log.warning("what an earlier attempt left is not sent: %s: %s", path.name, error)
            return
        if token is None or not journal.count:
            journal.remove()
            return
        log.info("%d callbacks of an earlier attempt are sent first: %s", journal.count, path.name)
        outbox = Outbox(journal)
        attempt = int(path.stem.rsplit("-", 1)[1])
        trace = Traceparent(self._trace_id, attempt, os.environ)
        bearer = Bearer(self._url, token, lambda newer: outbox.note(token=newer), trace)
        # What the service directs is for the attempt that is over.
        sender = Sender(self._url, bearer, outbox, lambda _directive: None, insists=False)
        self._under_way.append((outbox, sender))
        if self._closed:
            outbox.close()
        threading.Thread(target=sender.run, name="leftovers-sender", daemon=True).start()
        outbox.wait_until_empty(threading.TIMEOUT_MAX)
        outbox.close()
        if sender.gave_up:
            log.error("nobody takes what %s holds; it is removed", path.name)
            path.unlink(missing_ok=True)


def _journals(folder: Path, job_id: int) -> Iterator[Path]:
    named = re.compile(rf"job-{job_id}-attempt-\d+\.sqlite3")
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if named.fullmatch(path.name))
