"""A service with an incident behind it, and what it said of its jobs: for tests of bundles."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from tests.command_line import epochlog
from tests.processes import SCRIPTED, ServiceProcess

MARKUP = '</script><img src=x onerror="document.title=1">'
SECRET = "abcdefghijklmnop0123456789"
FAILED_JOB, RUNNING_JOB, WAITING_JOB = 2, 3, 4

# Prints a secret and markup before it trains.
TRAINER = f"""
import os, runpy
print("Authorization: Bearer {SECRET}")
print({MARKUP!r}, flush=True)
runpy.run_path({str(SCRIPTED)!r}, run_name="__main__")
"""


@dataclass
class Incident:
    """The service that had it, and its answers before it was stopped."""

    service: ServiceProcess
    bundles: dict[int, Path] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)

    def ask(self, path: str) -> Any:
        """Ask the service, and keep the answer."""
        self.answers[path] = self.service.call("GET", path)
        return self.answers[path]


async def have_incident(service: ServiceProcess) -> Incident:
    """Have a job, one that fails once, one that goes on, one that waits; export the last three."""
    (service.folder / "trainer.py").write_text(TRAINER)
    command = f"{sys.executable} -P {service.folder / 'trainer.py'}"
    service.environ["EPOCHLOG_TRAINER_COMMAND"] = command
    service.start()
    incident = Incident(service)
    first = service.submit(epochs=2)["id"]
    failing = {"params": {"exit_after": 2, "exit_code": 3}, "labels": {"note": MARKUP}}
    assert service.submit(epochs=4, **failing)["id"] == FAILED_JOB
    service.wait_for(first, "succeeded")
    service.wait_for(FAILED_JOB, "succeeded")
    service.wait_for_event(FAILED_JOB, "succeeded")
    assert service.submit(epochs=500, params={"seconds": 0.2})["id"] == RUNNING_JOB
    service.wait_for_trainer_event(RUNNING_JOB, "epoch_end")
    assert service.submit(epochs=1)["id"] == WAITING_JOB
    service.wait_for(WAITING_JOB, "queued")
    for job_id in (FAILED_JOB, RUNNING_JOB, WAITING_JOB):
        path = incident.bundles[job_id] = service.folder / f"job-{job_id}.zip"
        ran = await epochlog("export", str(job_id), "-o", str(path), environ=service.environ)
        assert ran.code == 0, ran
    _ask_everything(incident)
    for job_id in (WAITING_JOB, RUNNING_JOB):
        service.call("POST", f"/v1/jobs/{job_id}/cancel", {})
        service.wait_for(job_id, "cancelled")
    assert service.stop() == 0
    return incident


def _ask_everything(incident: Incident) -> None:
    path = f"/v1/jobs/{FAILED_JOB}"
    events = incident.ask(f"{path}/events?limit=1000")["events"]
    for view in ("", "/timeline", "/explain"):
        incident.ask(path + view)
        for event in events:
            incident.ask(f"{path}{view}?as_of={event['position']}")
            incident.ask(f"{path}{view}?as_of={event['recorded_at']}")


def empty_instance() -> ServiceProcess:
    """Return a service that was never started, on a folder that is not there yet."""
    service = ServiceProcess()
    trainer = f"{sys.executable} -P {SCRIPTED}"
    service.environ["EPOCHLOG_TRAINER_COMMAND"] = trainer
    return service


def rewritten(bundle: Path, to: Path, changes: Mapping[str, bytes | None]) -> Path:
    """Copy a bundle with some of its files changed, added, or (None) left out."""
    with ZipFile(bundle) as old, ZipFile(to, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = changes[name] if name in changes else old.read(name)
            if content is not None:
                new.writestr(name, content)
        for name in changes.keys() - set(old.namelist()):
            added = changes[name]
            assert added is not None
            new.writestr(name, added)
    return to
