"""One attempt, from its first callback to `done`: fetch, unpack, prepare, train, upload."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, assert_never

from trainer.callbacks import Callbacks
from trainer.configuration import Configuration
from trainer.dataset import obtain_dataset, ready_dataset
from trainer.dataset_cache import DatasetCache, default_folder
from trainer.errors import (
    DatasetInvalidError,
    Interrupted,
    ObjectMissingError,
    ResumeError,
    TrainerError,
)
from trainer.findings import LEVELS
from trainer.inspection import inspect
from trainer.offline import offline_environment
from trainer.params import read_params, resolve_model, task_of
from trainer.progress import Heart
from trainer.recorder import Recorder, artifact
from trainer.stop import EXIT_CODE, Stop
from trainer.storage import Storage, open_storage
from trainer.tracking import Tracking, default_uri

if TYPE_CHECKING:
    from trainer.train import Plan

log = logging.getLogger(__name__)

# How long the last word is repeated to a service that does not answer.
DONE_PATIENCE = 600.0
# How long MLflow may take to end; less where somebody waits for us to go.
TRACKING_PATIENCE = 60.0
TRACKING_PATIENCE_STOPPED = 5.0
# A cancel is often said in the answer to what we have just sent: hear it before the last word.
HEARING_PATIENCE = 3.0
LONGEST_MESSAGE = 2000
MOST_FINDINGS = 10


def run(configuration: Configuration, stop: Stop, leave: Callable[[int], NoReturn]) -> int:
    """Do the attempt and tell the service; return the exit code, or leave with it at once."""
    callbacks = Callbacks(
        base_url=configuration.base_url,
        job_id=configuration.job_id,
        trace_id=configuration.trace_id,
        token=configuration.token,
        hear=stop.hear,
        attempt=configuration.attempt,
        folder=configuration.outbox_dir,
    )
    heart = Heart(
        configuration.heartbeat_seconds, lambda body: callbacks.heartbeat(body, timed=True)
    )
    with work_folder(configuration.work_dir) as work:
        attempt = Attempt(
            configuration=configuration,
            stop=stop,
            callbacks=callbacks,
            heart=heart,
            tracking=_open_tracking(configuration, callbacks),
            work=work,
            exit_with=leave,
        )
        stop.listen(attempt.leave)
        heart.start()
        code = attempt.end(_outcome_of(attempt))
    callbacks.close()
    return code


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The training went through."""

    metrics: dict[str, float]
    artifacts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody asked the trainer to end."""


Outcome: TypeAlias = Succeeded | Failed | Left


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The phases of one attempt, in order."""

    configuration: Configuration
    stop: Stop
    callbacks: Callbacks
    heart: Heart
    tracking: Tracking
    work: Path
    exit_with: Callable[[int], NoReturn]

    def do(self) -> Succeeded:
        """Fetch, unpack, prepare, train, upload."""
        configuration = self.configuration
        params = read_params(configuration.train_params)
        model = resolve_model(configuration.model_name)
        storage = open_storage(configuration.storage_type, configuration.bucket)
        recorder = self._recorder(storage)
        root = self._dataset(storage, recorder)
        recorder.phase("prepare")
        task = task_of(configuration.model_name)
        self._inspect(root, task, recorder)
        data = ready_dataset(root, self.work / "data.yaml", task)
        train = _import_train(self.work)
        plan = train.Plan(
            model=model,
            data=data,
            epochs=configuration.epochs,
            imgsz=configuration.imgsz,
            batch=configuration.batch,
            params=params,
            folder=self.work / "run",
        )
        train.check_arguments(plan)
        metrics = self._train(train, plan, storage, recorder)
        self.stop.hold()
        recorder.phase("upload")
        return self._upload(plan, metrics, recorder)

    def end(self, ended: Outcome) -> int:
        """Tell the service how it went, once; return the exit code."""
        if isinstance(ended, Failed) and self.stop.wanted:
            ended = Left()  # what breaks while it is told to end is no fault of its own
        run_id = self.tracking.run_id
        if isinstance(ended, Left):
            self.callbacks.flush(HEARING_PATIENCE)
        else:
            status = "FINISHED" if isinstance(ended, Succeeded) else "FAILED"
            run_id = self.tracking.finish(status, TRACKING_PATIENCE)
        if not self.stop.claim():
            threading.Event().wait()  # another thread is ending the process
        if self.stop.outranks_success:
            ended = Left()
        self.heart.stop()
        heard = self._say_done(_done_body(ended, run_id, self.stop))
        if isinstance(ended, Left):
            self.tracking.finish("KILLED", TRACKING_PATIENCE_STOPPED)
            return EXIT_CODE
        return 0 if heard and isinstance(ended, Succeeded) else 1

    def leave(self) -> NoReturn:
        """End the process without its main thread: there is nothing to keep, or nobody wants it."""
        self.heart.stop()
        if not self.stop.abandoned:
            self.callbacks.flush(HEARING_PATIENCE)
            self._say_done(_done_body(Left(), self.tracking.run_id, self.stop))
        self.tracking.finish("KILLED", TRACKING_PATIENCE_STOPPED)
        clean(self.work, made_up=self.configuration.work_dir is None)
        self.exit_with(EXIT_CODE)

    def _say_done(self, body: dict[str, Any]) -> bool:
        log.info("done: %s %s", body["status"], body.get("error", ""))
        heard = self.callbacks.done(body, patience=DONE_PATIENCE)
        if not heard:
            log.error("the service never took the result")
        return heard

    def _recorder(self, storage: Storage) -> Recorder:
        return Recorder(
            job_id=self.configuration.job_id,
            callbacks=self.callbacks,
            heart=self.heart,
            tracking=self.tracking,
            storage=storage,
        )

    def _dataset(self, storage: Storage, recorder: Recorder) -> Path:
        configuration = self.configuration
        cache = DatasetCache(
            configuration.dataset_cache_dir or default_folder(), configuration.dataset_cache_bytes
        )
        recorder.phase("fetch_dataset")
        fetched = obtain_dataset(storage, configuration.dataset_id, self.work, cache)
        self.callbacks.event(
            "dataset_fetched", dataset_id=configuration.dataset_id, **fetched.facts
        )
        if fetched.archive is not None:
            recorder.phase("unpack_dataset")
            fetched.unpack()
        return fetched.root

    def _inspect(self, root: Path, task: str | None, recorder: Recorder) -> None:
        """Refuse a data set that cannot be trained on, in words for whoever labelled it."""
        if self.configuration.dataset_check == "off":
            return
        findings = inspect(root, task).findings
        errors, warnings = findings.total("error"), findings.total("warning")
        if errors and self.configuration.dataset_check == "errors":
            raise DatasetInvalidError(findings.sentence("error", MOST_FINDINGS))
        if errors or warnings:
            said = [str(one) for level in LEVELS for one in findings.of(level)]
            recorder.remark("dataset_warnings", count=errors + warnings, first=said[:MOST_FINDINGS])

    def _train(
        self, train: ModuleType, plan: Plan, storage: Storage, recorder: Recorder
    ) -> dict[str, float]:
        uri = self.configuration.resume_from
        metrics: dict[str, float] | None = None
        if uri is not None:
            metrics = self._resume(train, plan, storage, recorder, uri)
        return metrics if metrics is not None else train.train(plan, recorder, self.stop)

    def _resume(
        self, train: ModuleType, plan: Plan, storage: Storage, recorder: Recorder, uri: str
    ) -> dict[str, float] | None:
        """Go on from a checkpoint; None where only a start from the first epoch is left."""
        checkpoint = self.work / "resume.pt"
        try:
            storage.fetch_uri(uri, checkpoint)
            standing = train.read_checkpoint(checkpoint, plan)
        except (ObjectMissingError, ResumeError) as error:
            recorder.remark("resume_failed", uri=uri, message=str(error))
            return None
        plan.last.parent.mkdir(parents=True, exist_ok=True)
        self._fetch_best(storage, uri, plan, checkpoint if standing.complete else None)
        if not standing.complete:
            plan = replace(plan, resumed_from=uri)
            return dict(train.resume(plan, checkpoint, standing, recorder, self.stop))
        message = f"All {standing.epochs_done} epochs were done already; only validating."
        recorder.remark("resume_complete", uri=uri, message=message)
        checkpoint.replace(plan.last)
        return dict(train.finish(plan))

    def _fetch_best(self, storage: Storage, uri: str, plan: Plan, otherwise: Path | None) -> None:
        """Bring back the best weights so far: no later epoch may be better."""
        try:
            storage.fetch_uri(storage.sibling(uri, plan.best.name), plan.best)
        except ObjectMissingError:
            if otherwise is not None:
                shutil.copyfile(otherwise, plan.best)

    def _upload(self, plan: Plan, metrics: dict[str, float], recorder: Recorder) -> Succeeded:
        self.tracking.artifact(plan.best)
        files = [plan.best, plan.last]
        return Succeeded(metrics, [artifact(file.name, recorder.store(file)) for file in files])


def _outcome_of(attempt: Attempt) -> Outcome:
    """Return how the attempt went, whatever happened in it."""
    try:
        return attempt.do()
    except Interrupted:
        return Left()
    except TrainerError as error:
        log.exception("the attempt failed: %s", error.code)
        return Failed(error.code, str(error), error.retryable)
    except ImportError as error:
        log.exception("the attempt failed: a library is missing or broken")
        return Failed("not_installed", f"{type(error).__name__}: {error}", retryable=False)
    except Exception as error:
        log.exception("the attempt failed")
        text = " ".join(str(error).split())
        return Failed("error", f"{type(error).__name__}: {text}", retryable=True)


def _done_body(ended: Outcome, run_id: str | None, stop: Stop) -> dict[str, Any]:
    body: dict[str, Any] = {"mlflow_run_id": run_id} if run_id else {}
    match ended:
        case Succeeded(metrics, artifacts):
            return {"status": "succeeded", **body, "artifacts": artifacts, "metrics": metrics}
        case Failed(code, message, retryable):
            error = {"code": code, "message": message[:LONGEST_MESSAGE], "retryable": retryable}
            return {"status": "failed", **body, "error": error}
        case Left():
            words = "cancelled" if stop.cancelled else "told to end by a signal"
            left = Failed(stop.code, f"The training was {words}.", retryable=not stop.cancelled)
            return _done_body(left, run_id, stop)
        case _:
            assert_never(ended)


def _import_train(work: Path) -> ModuleType:
    """Import torch and ultralytics, once they can only write to the work folder."""
    os.environ.update(offline_environment(work, os.environ))
    began = time.monotonic()
    from trainer import train  # noqa: PLC0415 - seconds, and only after the environment

    log.info("torch and ultralytics were imported in %.1f s", time.monotonic() - began)
    train.stay_offline()
    return train


def _open_tracking(configuration: Configuration, callbacks: Callbacks) -> Tracking:
    return Tracking(
        uri=configuration.mlflow_uri or default_uri(configuration.work_dir or Path.cwd()),
        run_name=f"job-{configuration.job_id}-attempt-{configuration.attempt}",
        tags={
            "epochlog.job_id": str(configuration.job_id),
            "epochlog.attempt": str(configuration.attempt),
            "epochlog.trace_id": configuration.trace_id,
        },
        lost=lambda why: callbacks.event("mlflow_unavailable", message=why[:LONGEST_MESSAGE]),
    )


@contextmanager
def work_folder(wanted: Path | None) -> Iterator[Path]:
    """Give a scratch folder; one that we made up ourselves is gone afterwards."""
    work = wanted or Path(tempfile.mkdtemp(prefix="epochlog-"))
    work.mkdir(parents=True, exist_ok=True)
    for leftover in ("dataset", "run"):  # of an earlier process of the same attempt
        shutil.rmtree(work / leftover, ignore_errors=True)
    try:
        yield work
    finally:
        clean(work, made_up=wanted is None)


def clean(work: Path, *, made_up: bool) -> None:
    """Remove a folder that we made up; in somebody else's, only the unpacked data set."""
    shutil.rmtree(work if made_up else work / "dataset", ignore_errors=True)
