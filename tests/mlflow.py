"""A real tracking server for the tests, which can be killed, paused and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

from tests.processes import free_port

START_SECONDS = 90.0


class MlflowServer:
    """`mlflow server` on a data base in a folder; it keeps its port over a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        command = Path(sys.executable).with_name("mlflow")
        store = ("--backend-store-uri", f"sqlite:///{self._folder}/server.db")
        files = ("--artifacts-destination", str(self._folder / "artifacts"))
        with (self._folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                [command, "server", *store, *files, "--port", str(self._port), "--workers", "1"],
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self._folder / "mlflow.log").read_text(errors="replace")

    def kill(self) -> None:
        """End it, and what it has started, as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        """Let it take connections and never answer."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def post(self, path: str, **body: Any) -> Any:
        """Call the REST API; JSON in and out."""
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        return self._call(request)

    def get(self, path: str) -> Any:
        return self._call(f"{self.url}/api/2.0/mlflow/{path}")

    def runs(self) -> list[dict[str, Any]]:
        """Return every run of the experiment, deleted ones too."""
        found = self.get("experiments/get-by-name?experiment_name=epochlog")
        ids = [found["experiment"]["experiment_id"]]
        said = self.post("runs/search", experiment_ids=ids, run_view_type="ALL")
        return list(said.get("runs", []))

    def history(self, run_id: str, metric: str) -> list[tuple[int, float, int]]:
        """Return every value of a metric as step, value, timestamp, in the order of steps."""
        path = f"metrics/get-history?run_id={run_id}&metric_key={metric}&max_results=1000"
        found = self.get(path).get("metrics", [])
        return sorted((int(one["step"]), one["value"], int(one["timestamp"])) for one in found)

    def files(self) -> set[str]:
        return {file.name for file in (self._folder / "artifacts").rglob("*") if file.is_file()}

    def _call(self, request: urllib.request.Request | str) -> Any:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


def by_key(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Return tags or parameters as a dictionary."""
    return {one["key"]: one["value"] for one in listed}


class Heard:
    """Collects what a tracking says."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, **data: Any) -> None:
        self.events.append((kind, data))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def of(self, kind: str) -> list[dict[str, Any]]:
        by_kind = defaultdict(list)
        for one, data in self.events:
            by_kind[one].append(data)
        return by_kind[kind]
