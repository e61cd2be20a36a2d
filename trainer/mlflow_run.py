"""One run in MLflow: the only file that knows MLflow, or waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import curves
from trainer.backlog import Artifact, Batch, Ended, Metrics, Params
from trainer.refusals import UnusableError, is_refusal
from trainer.unfinished import clear_beside, folder_beside, name_first

EXPERIMENT = "epochlog"
SQLITE = "sqlite:///"
NOTE = "mlflow.note.content"
# By which a run is found whose id nobody was told.
IDENTITY = ("epochlog.job_id", "epochlog.trace_id")


def default_uri(folder: Path) -> str:
    """Return the tracking URI of a data base file in the folder."""
    return f"{SQLITE}{folder.absolute()}/mlflow.db"


def artifact_location(uri: str) -> str | None:
    """Return where a sqlite store keeps its files: beside the data base. Others know better."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts").as_uri()


def tags_of(job_id: int, attempt: int, trace_id: str, base_url: str) -> dict[str, str]:
    """Return what leads from a run back to its job."""
    url = f"{base_url}/v1/jobs/{job_id}/timeline"
    return {
        "epochlog.job_id": str(job_id),
        "epochlog.attempt": str(attempt),
        "epochlog.trace_id": trace_id,
        "epochlog.url": url,
        NOTE: f"[The timeline of job {job_id}]({url}) in Epochlog. Trace: `{trace_id}`",
    }


class RunGoneError(Exception):
    """The run was deleted under our hands."""

    def __init__(self, run_id: str) -> None:
        """Take the run's id."""
        super().__init__(run_id)
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class Run:
    """A run that can be written to. Its calls raise what MLflow and its storage raise."""

    client: Any
    id: str
    params: Mapping[str, str]
    """What was known of it when it was opened."""

    def write(self, batch: Batch) -> None:
        """Write records; to repeat it changes nothing."""
        for record in batch:
            match record:
                case Params(values):
                    self._write_params(values)
                case Artifact(file, drawn_from):
                    if drawn_from is not None:
                        curves.draw(drawn_from, file)
                    if not file.is_file():
                        raise UnusableError(f"{file.name} is gone")
                    self.client.log_artifact(self.id, str(file))
                case Ended(status, at):
                    self.client.set_terminated(self.id, status, end_time=at)
                case Metrics():
                    pass
        self._write_metrics([one for one in batch if isinstance(one, Metrics)])

    def is_there(self) -> bool:
        """Whether the run can still be written to."""
        return _active(self.client, self.id) is not None

    def _write_params(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        fresh = [Param(name, text) for name, text in values.items() if name not in self.params]
        self.client.log_batch(self.id, params=fresh, synchronous=True)

    def _write_metrics(self, epochs: list[Metrics]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        metrics = [
            Metric(name, value, one.at, one.step)
            for one in epochs
            for name, value in one.values.items()
        ]
        self.client.log_batch(self.id, metrics=metrics, synchronous=True)


def open_run(
    *, uri: str, name: str, tags: Mapping[str, str], began: int, earlier: str | None
) -> tuple[Run, bool]:
    """Return the job's run, and whether it is one of before."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds

    _make_whole(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = _experiment(client, uri)
    found = _active(client, earlier) if earlier is not None else None
    found = found or _by_identity(client, experiment, tags)
    if found is None:
        made = client.create_run(experiment, start_time=began, tags=dict(tags), run_name=name)
        return Run(client, str(made.info.run_id), {}), False
    _take_up(client, found, tags)
    return Run(client, str(found.info.run_id), dict(found.data.params)), True


def _make_whole(uri: str) -> None:
    """Make a new SQLite store under another name: MLflow never mends one that was made by half."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    place = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or "?" in uri or ":memory:" in uri:
        return
    clear_beside(place)
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(place) as folder:
        part = folder / place.name
        MlflowClient(tracking_uri=f"{SQLITE}{part}").search_experiments(max_results=1)
        name_first(part, place)


def _active(client: Any, run_id: str) -> Any | None:
    """Return a run, or None where it is deleted or never was."""
    try:
        run = client.get_run(run_id)
    except Exception as error:
        if is_refusal(error):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _by_identity(client: Any, experiment: str, tags: Mapping[str, str]) -> Any | None:
    """Return the job's run by its tags: the answer that named it may have been lost."""
    if not set(IDENTITY) <= tags.keys():
        return None
    wanted = " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in IDENTITY)
    found = client.search_runs([experiment], filter_string=wanted, max_results=1)
    return found[0] if found else None


def _take_up(client: Any, run: Any, tags: Mapping[str, str]) -> None:
    """Let it run again. What somebody wrote into its description stays."""
    from mlflow.entities import RunTag  # noqa: PLC0415

    kept = {NOTE} & dict(run.data.tags).keys()
    told = [RunTag(name, text) for name, text in tags.items() if name not in kept]
    client.log_batch(run.info.run_id, tags=told, synchronous=True)
    client.update_run(run.info.run_id, status="RUNNING")


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
