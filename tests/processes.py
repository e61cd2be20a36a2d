"""The service as a process of its own, which a test may kill at any moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import psutil

SERVE = [sys.executable, "-m", "service", "serve"]
SCRIPTED = Path(__file__).parent / "scripted_trainer.py"


def free_port() -> int:
    """Return a port that nobody listens on now.

    It is below those that a system gives away by itself, so that nobody is given it before the
    server that is meant to have it starts.
    """
    while True:
        port = random.randrange(10_000, 32_000)  # noqa: S311
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class ServiceProcess:
    """`epochlog serve` on a state folder of its own, with the embedded database."""

    def __init__(self, **variables: str) -> None:
        # Not pytest's own folder: each pytest that starts closes that one to the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="epochlog-tests-"))
        self.state = self.folder / "state"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environ = {
            **{name: value for name, value in os.environ.items() if "EPOCHLOG" not in name},
            "EPOCHLOG_STATE_DIR": str(self.state),
            "EPOCHLOG_PORT": self.url.rsplit(":", 1)[1],
            "EPOCHLOG_TRAINER_COMMAND": f"{sys.executable} -P {SCRIPTED}",
            "EPOCHLOG_RETRY_BACKOFF": "0.2",
            "EPOCHLOG_DONE_GRACE": "3",
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        end_all_of(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *, within: float = 60.0) -> None:
        """Start it and wait until it can work."""
        self.spawn()
        until = time.monotonic() + within
        while not self.is_ready():
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.02)

    def spawn(self) -> None:
        """Start it and do not wait."""
        self.folder.joinpath("notes").mkdir(exist_ok=True)
        with (self.folder / "service.log").open("ab") as log:
            self._process = subprocess.Popen(
                SERVE,
                env=self.environ,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """End it as an operator would; its exit code."""
        return self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still, as a machine that is frozen."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on as if no time had passed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        path = self.folder / "service.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def submit(self, **fields: Any) -> Any:
        """Make a job for the scripted trainer."""
        params = {"notes": str(self.folder / "notes"), **fields.pop("params", {})}
        job = {"dataset_id": "none", "model_name": "scripted", "epochs": 5, **fields}
        return self.call("POST", "/v1/jobs", {**job, "params": params})

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API; JSON in and out."""
        return orjson.loads(self.text(path, method, body))

    def text(self, path: str, method: str = "GET", body: Any = None) -> str:
        """Call the API; what it answers, as text."""
        token = (self.state / "api-token").read_text().strip()
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else orjson.dumps(body),
            headers={"Authorization": f"Bearer {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(response.read().decode())

    def job(self, job_id: int) -> Any:
        return self.call("GET", f"/v1/jobs/{job_id}")

    def events(self, job_id: int) -> list[Any]:
        """Return all of the job's events."""
        found: list[Any] = []
        while True:
            after = found[-1]["version"] if found else 0
            page = self.call("GET", f"/v1/jobs/{job_id}/events?after={after}&limit=1000")["events"]
            if not page:
                return found
            found.extend(page)

    def wait_for(self, job_id: int, *statuses: str, within: float = 60.0) -> Any:
        """Poll until the job has one of these statuses; it."""
        until = time.monotonic() + within
        while True:
            job = self._job_if_up(job_id)
            if job is not None and job["status"] in statuses:
                return job
            assert time.monotonic() < until, (job, self.log()[-4000:])
            time.sleep(0.05)

    def wait_for_event(self, job_id: int, type_name: str, within: float = 30.0) -> Any:
        """Poll until the job has an event of this type; the first."""
        return self._wait_for_one(job_id, lambda event: event["type"] == type_name, within)

    def wait_for_trainer_event(self, job_id: int, name: str, within: float = 30.0) -> Any:
        """Poll until the job's trainer has sent an event of this name; the first."""
        return self._wait_for_one(job_id, lambda event: event["data"].get("type") == name, within)

    def _wait_for_one(self, job_id: int, wanted: Callable[[Any], bool], within: float) -> Any:
        until = time.monotonic() + within
        while True:
            for event in self.events(job_id):
                if wanted(event):
                    return event
            assert time.monotonic() < until, self.log()[-4000:]
            time.sleep(0.05)

    def notes(self, name: str) -> list[str]:
        """Return the lines that the trainers wrote down."""
        path = self.folder / "notes" / name
        return path.read_text().splitlines() if path.exists() else []

    def _job_if_up(self, job_id: int) -> Any:
        try:
            return self.job(job_id)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        except OSError:
            pass
        return None

    def _end(self, number: signal.Signals) -> int | None:
        if self._process is None:
            return None
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)  # one that was paused has to hear of it
        code = self._process.wait(timeout=30)
        self._process = None
        return code


def end_all_of(folder: Path) -> None:
    """Kill every process that belongs to a test's folder."""
    for process in living_in(folder):
        process.kill()


def living_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose command, working folder or environment names the folder."""
    return [process for process in psutil.process_iter() if _belongs(process, str(folder))]


def _belongs(process: psutil.Process, folder: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        told = [*process.cmdline(), process.cwd(), *process.environ().values()]
    except psutil.Error:
        return False
    return any(folder in word for word in told)
