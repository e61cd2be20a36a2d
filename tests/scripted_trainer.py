"""A trainer that trains nothing: it calls back over real HTTP as a real one does, in milliseconds.

Its epochs, their pace and its end come from the job's params. It writes down what it was started
for and what was acknowledged, so that a test can hold the log against it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

PATIENCE = 60.0


def main() -> int:
    params = json.loads(os.environ.get("TRAIN_PARAMS", "{}"))
    notes = Path(params["notes"])
    _note(notes / "launches", f"{os.environ['JOB_ID']}/{os.environ['ATTEMPT']} {os.getpid()}")
    trainer = _Trainer(notes / "acknowledged")
    epochs = int(os.environ["EPOCHS"])
    first = _resumed_after() + 1
    for epoch in range(first, epochs + 1):
        time.sleep(params.get("seconds", 0.05))
        told = trainer.say("event", {"type": "epoch_end", "data": {"epoch": epoch}})
        saved = {"epoch": epoch, "uri": f"file:///checkpoints/{epoch}"}
        trainer.say("event", {"type": "checkpoint_saved", "data": saved})
        if told == "cancel":
            error = {"code": "cancelled", "message": "cancelled", "retryable": False}
            trainer.say("done", {"status": "failed", "error": error})
            return 143
        if params.get("exit_after") == epoch and os.environ["ATTEMPT"] == "1":
            return int(params.get("exit_code", 1))
    if params.get("hang"):
        time.sleep(3600)
    trainer.say("done", {"status": "succeeded"})
    time.sleep(params.get("linger", 0))
    return 0


def _resumed_after() -> int:
    resume = os.environ.get("RESUME_FROM")
    return int(resume.rsplit("/", 1)[1]) if resume else 0


class _Trainer:
    def __init__(self, acknowledged: Path) -> None:
        self._acknowledged = acknowledged
        self._seq = 0

    def say(self, kind: str, body: dict[str, Any]) -> str:
        """Send a callback until it is acknowledged; return the directive."""
        self._seq += 1
        body = {**body, "event_id": str(uuid.uuid4()), "seq": self._seq}
        answer = _post(f"/v1/jobs/{os.environ['JOB_ID']}/{kind}", body)
        _note(self._acknowledged, f"{body['event_id']} {answer['position']}")
        return str(answer["directive"])


def _post(path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        os.environ["BACKEND_BASE_URL"] + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {os.environ['CALLBACK_TOKEN']}"},
    )
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code < 500 or time.monotonic() > give_up:
                raise
        except OSError:
            if time.monotonic() > give_up:
                raise
        time.sleep(0.05)


def _note(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main())
