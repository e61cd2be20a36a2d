"""The run in MLflow, written by a thread of its own: slow to import, and free to fail."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

log = logging.getLogger(__name__)

EXPERIMENT = "epochlog"
LONGEST_PARAM = 500
SQLITE = "sqlite:///"

Step: TypeAlias = Callable[[Any, str], None]


def default_uri(folder: Path) -> str:
    """Return the tracking URI of a data base file in the folder."""
    return f"{SQLITE}{folder.absolute()}/mlflow.db"


def artifact_location(uri: str) -> str | None:
    """Return where a sqlite store keeps its files: beside the data base. Others know better."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts").as_uri()


class Tracking:
    """One MLflow run. Whatever fails in it is reported once, and then left alone."""

    def __init__(
        self, *, uri: str, run_name: str, tags: dict[str, str], lost: Callable[[str], None]
    ) -> None:
        """Take the run's name and tags; `lost` is told why there will be no (more) tracking."""
        self._uri = uri
        self._run_name = run_name
        self._tags = tags
        self._lost = lost
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._gave_up = False
        self.run_id: str | None = None

    def start(self, params: Mapping[str, Any]) -> None:
        """Open the run, in the background."""
        self._steps.put(lambda client, run: _log_params(client, run, params))
        self._thread.start()

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Write one epoch's metrics."""
        self._steps.put(lambda client, run: _log_metrics(client, run, metrics, number))

    def artifact(self, file: Path) -> None:
        """Copy a file into the run."""
        self._steps.put(lambda client, run: client.log_artifact(run, str(file)))

    def finish(self, status: str, patience: float) -> str | None:
        """Close the run as FINISHED, FAILED or KILLED, and return its id where there is one."""
        if self._thread.is_alive():
            self._steps.put(lambda client, run: client.set_terminated(run, status))
            self._steps.put(None)
            self._thread.join(patience)
            if self._thread.is_alive():
                self._give_up(f"MLflow did not finish within {patience:.0f} seconds.")
        return self.run_id

    def _work(self) -> None:
        try:
            client, self.run_id = self._open()
            while step := self._steps.get():
                step(client, self.run_id)
        except Exception as error:
            log.exception("MLflow is given up for this attempt")
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, why: str) -> None:
        if not self._gave_up:
            self._gave_up = True
            self._lost(why)

    def _open(self) -> tuple[Any, str]:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds

        client = MlflowClient(tracking_uri=self._uri)
        experiment = _experiment(client, self._uri)
        run = client.create_run(experiment, tags=self._tags, run_name=self._run_name)
        return client, str(run.info.run_id)


def _experiment(client: Any, uri: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifact_location(uri)))
    except Exception:
        # Another job was faster; only where it was not is this an error.
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            raise
        return str(found.experiment_id)


def _log_params(client: Any, run: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param  # noqa: PLC0415

    texts = {name: str(value)[:LONGEST_PARAM] for name, value in params.items()}
    client.log_batch(run, params=[Param(name, text) for name, text in texts.items()])


def _log_metrics(client: Any, run: str, metrics: Mapping[str, float], step: int) -> None:
    from mlflow.entities import Metric  # noqa: PLC0415

    now = int(time.time() * 1000)
    client.log_batch(
        run, metrics=[Metric(name, value, now, step) for name, value in metrics.items()]
    )
