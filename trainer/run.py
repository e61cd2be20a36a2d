"""One attempt, from its first callback to `done`: fetch, unpack, prepare, train, upload."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from trainer.callbacks import Callbacks
from trainer.configuration import Configuration
from trainer.dataset import obtain_dataset, ready_dataset
from trainer.dataset_cache import DatasetCache, default_folder
from trainer.errors import DatasetInvalidError, Interrupted
from trainer.findings import LEVELS
from trainer.inspection import inspect
from trainer.last_word import HEARING_PATIENCE, LAST_SECOND, decided, hear_out, say_done
from trainer.mlflow_run import default_uri, tags_of
from trainer.offline import offline_environment
from trainer.outcomes import Failed, Left, Outcome, Succeeded, failed
from trainer.params import read_params, resolve_model
from trainer.past import Past, ask_past
from trainer.plan import Plan, task_named
from trainer.progress import Heart
from trainer.recorder import Recorder
from trainer.results import Results
from trainer.resume import Ground, Search
from trainer.stop import EXIT_CODE, Stop
from trainer.storage import Owner, Storage, open_storage
from trainer.telemetry import Telemetry
from trainer.tracking import Tracking
from trainer.unfinished import clear_parts
from trainer.uploads import OutOfTimeError, Uploads, patiently, until

log = logging.getLogger(__name__)

# How long MLflow may take to end; less where somebody waits for us to go.
TRACKING_PATIENCE = 60.0
TRACKING_PATIENCE_STOPPED = 5.0
# How long a failed training may still store what it has reached.
RESCUE_PATIENCE = 60.0
# How long it is asked before that whether the attempt still counts.
RESCUE_HEARING = 1.0
# Of the grace, what is kept for the last callbacks.
LAST_WORDS_SECONDS = 6.0
MOST_FINDINGS = 10
# What an earlier process of the same attempt may have left, and this one makes anew.
SCRATCH = ("dataset", "run", "uploads")


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
    try:
        code = _attempted(configuration, stop, leave, callbacks)
    except Exception as error:
        log.exception("the trainer itself failed")
        say_done(callbacks, stop, Left() if stop.wanted else failed(error))
        code = EXIT_CODE if stop.wanted else 1
    callbacks.close()
    return code


def _attempted(
    configuration: Configuration,
    stop: Stop,
    leave: Callable[[int], NoReturn],
    callbacks: Callbacks,
) -> int:
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
            results=_results(configuration, stop),
            work=work,
            exit_with=leave,
        )
        stop.listen(attempt.leave)
        heart.start()
        return attempt.end(_outcome_of(attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The phases of one attempt, in order."""

    configuration: Configuration
    stop: Stop
    callbacks: Callbacks
    heart: Heart
    tracking: Tracking
    results: Results
    work: Path
    exit_with: Callable[[int], NoReturn]

    def do(self) -> Succeeded:
        """Fetch, unpack, prepare, train, upload."""
        configuration = self.configuration
        params = read_params(configuration.train_params)
        model = resolve_model(configuration.model_name)
        storage = open_storage(
            configuration, self.callbacks.job_url, self.callbacks.bearer, self.heart.step
        )
        uploads = self._uploads(storage)
        recorder = self._recorder(uploads)
        root = self._dataset(storage, recorder)
        recorder.phase("prepare")
        train = _import_train(self.work)
        plan = Plan(
            model=model,
            data=self._prepared(root, task_named(model) or train.task_of(model), recorder),
            epochs=configuration.epochs,
            imgsz=configuration.imgsz,
            batch=configuration.batch,
            params=params,
            folder=self.work / "run",
        )
        train.check_arguments(plan)
        self.results.begin(storage, uploads, plan)
        metrics = self._train(train, plan, storage, recorder, uploads)
        self.stop.hold()
        recorder.phase("upload")
        self._track_files(plan)
        if not self._still_counts(HEARING_PATIENCE):
            raise Interrupted
        artifacts = self.results.store(lambda: self.stop.left(LAST_WORDS_SECONDS))
        return Succeeded(metrics, artifacts)

    def end(self, ended: Outcome) -> int:
        """Tell the service how it went, once; return the exit code."""
        if isinstance(ended, Failed) and self.stop.wanted:
            ended = Left()  # what breaks while it is told to end is no fault of its own
        ended = self._rescued(ended)
        if isinstance(ended, Left):
            hear_out(self.callbacks, self.stop)
        else:
            status = "FINISHED" if isinstance(ended, Succeeded) else "FAILED"
            self._finish_tracking(status)
        ended = decided(ended, self.stop)
        self.heart.stop()
        heard = say_done(self.callbacks, self.stop, ended, self.tracking.conclude())
        if isinstance(ended, Left):
            self.callbacks.close()  # whatever else goes wrong now, `done` was the last word
            self.tracking.finish("KILLED", self._at_most(TRACKING_PATIENCE_STOPPED))
            return EXIT_CODE
        return 0 if heard and isinstance(ended, Succeeded) else 1

    def leave(self) -> NoReturn:
        """End the process without its main thread: there is nothing to keep, or no time for it."""
        try:
            self._take_leave()
        except Exception:
            log.exception("the last word was not said")
        self.exit_with(EXIT_CODE)

    def _take_leave(self) -> None:
        self.heart.stop()
        if not self.stop.abandoned:
            hear_out(self.callbacks, self.stop)
            say_done(self.callbacks, self.stop, Left(), self.tracking.conclude())
        self.tracking.finish("KILLED", self._at_most(TRACKING_PATIENCE_STOPPED))
        clean(self.work, made_up=self.configuration.work_dir is None)

    def _finish_tracking(self, status: str) -> None:
        """End the run in MLflow: a signal that comes meanwhile does not wait for it."""
        with suppress(OutOfTimeError):
            patiently(
                lambda: self.tracking.finish(status, TRACKING_PATIENCE),
                lambda: self.stop.left(LAST_WORDS_SECONDS),
            )

    def _rescued(self, ended: Outcome) -> Outcome:
        """Keep what was trained until then; where the storage failed, it would fail again."""
        if isinstance(ended, Succeeded):
            return ended
        if isinstance(ended, Failed) and ended.code.startswith("storage_"):
            return ended
        if not self._still_counts(RESCUE_HEARING):
            return ended
        left = until(RESCUE_PATIENCE, lambda: self.stop.left(LAST_WORDS_SECONDS))
        return replace(ended, artifacts=self.results.rescue(left))

    def _still_counts(self, patience: float) -> bool:
        """Hear, if that can be had, whether it may write in the name of the whole job."""
        if not self.stop.abandoned:
            self.callbacks.flush(max(0.0, min(patience, self.stop.left(LAST_WORDS_SECONDS))))
        return not self.stop.abandoned

    def _at_most(self, seconds: float) -> float:
        """Return so many seconds, or what is left of the grace of whoever asked us to end."""
        return max(0.0, min(seconds, self.stop.left(LAST_SECOND)))

    def _track_files(self, plan: Plan) -> None:
        table = plan.folder / "results.csv"
        for file in (plan.best, table, plan.folder / "args.yaml"):
            if file.exists():
                self.tracking.artifact(file)
        self.tracking.artifact(plan.folder / "results.png", drawn_from=table)

    def _uploads(self, storage: Storage) -> Uploads:
        attempt = self.configuration.attempt
        return Uploads(
            storage=storage,
            folder=f"checkpoints/job-{self.configuration.job_id}/attempt-{attempt}",
            say=self.callbacks.event,
            aside=self.work / "uploads",
        )

    def _recorder(self, uploads: Uploads) -> Recorder:
        return Recorder(
            callbacks=self.callbacks,
            heart=self.heart,
            tracking=self.tracking,
            uploads=uploads,
            telemetry=Telemetry(),
        )

    def _dataset(self, storage: Storage, recorder: Recorder) -> Path:
        configuration = self.configuration
        cache = DatasetCache(
            configuration.dataset_cache_dir or default_folder(), configuration.dataset_cache_bytes
        )
        recorder.phase("fetch_dataset")
        fetched = obtain_dataset(
            storage, configuration.dataset_id, self.work, cache, self.heart.step
        )
        self.callbacks.event(
            "dataset_fetched", dataset_id=configuration.dataset_id, **fetched.facts
        )
        if fetched.archive is not None:
            recorder.phase("unpack_dataset")
            fetched.unpack(self.heart.step)
        return fetched.root

    def _prepared(self, root: Path, task: str, recorder: Recorder) -> Path:
        """Refuse a data set that cannot be trained on, in words for whoever labelled it."""
        if self.configuration.dataset_check != "off":
            findings = inspect(root, task, self.heart.step).findings
            errors, warnings = findings.total("error"), findings.total("warning")
            if errors and self.configuration.dataset_check == "errors":
                raise DatasetInvalidError(findings.sentence("error", MOST_FINDINGS))
            if errors or warnings:
                said = [str(one) for level in LEVELS for one in findings.of(level)]
                count, first = errors + warnings, said[:MOST_FINDINGS]
                recorder.remark("dataset_warnings", count=count, first=first)
        return ready_dataset(root, self.work / "data.yaml", task)

    def _train(
        self, train: ModuleType, plan: Plan, storage: Storage, recorder: Recorder, uploads: Uploads
    ) -> dict[str, float]:
        past = self._past()
        recorder.epochs_reported = past.epochs_reported
        self.tracking.continue_run(past.mlflow_run_id or self.configuration.mlflow_run_id)
        if not past.checkpoints:
            return dict(train.train(plan, recorder, self.stop))
        search = Search(
            storage=storage,
            recorder=recorder,
            read=lambda file: train.read_checkpoint(file, plan),
            forget_best=train.forget_best,
        )
        ground = search.find(past, self.work / "resume.pt", plan.best)
        if ground is None:
            message = "No earlier checkpoint can be continued; the training starts anew."
            recorder.remark("resume_failed", uri=past.checkpoints[0].uri, message=message)
            return dict(train.train(plan, recorder, self.stop))
        uploads.know_ground(ground.uri)
        uploads.know_best(ground.best, plan.best, ground.standing.epochs_done)
        return self._resume(train, plan, recorder, ground)

    def _past(self) -> Past:
        """Return where earlier processes of this job ended, once all that they said is known.

        A first attempt may have had one, too: before its Job was suspended and admitted again.
        """
        configuration = self.configuration
        is_first = configuration.attempt == 1 and configuration.resume_from is None
        return ask_past(self.callbacks, configuration.resume_from, is_first=is_first)

    def _resume(
        self, train: ModuleType, plan: Plan, recorder: Recorder, ground: Ground
    ) -> dict[str, float]:
        standing = ground.standing
        if not standing.complete:
            plan = replace(plan, resumed_from=ground.uri)
            return dict(train.resume(plan, ground.file, standing, recorder, self.stop))
        message = f"All {standing.epochs_done} epochs were done already; only validating."
        recorder.remark("resume_complete", uri=ground.uri, message=message)
        self.tracking.start({})
        ground.file.replace(plan.last)
        return dict(train.finish(plan, self.heart.step))


def _outcome_of(attempt: Attempt) -> Outcome:
    """Return how the attempt went, whatever happened in it."""
    try:
        return attempt.do()
    except Interrupted:
        return Left()
    except SystemExit as error:  # a library may think that the process is its own
        log.exception("the attempt failed: a library ends the process")
        return Failed("error", f"A library ended the training: {error!r}", True, error)
    except Exception as error:
        ended = failed(error)
        log.exception("the attempt failed: %s", ended.code)
        return ended


def _import_train(work: Path) -> ModuleType:
    """Import torch and ultralytics, once they can only write to the work folder."""
    os.environ.update(offline_environment(work, os.environ))
    began = time.monotonic()
    from trainer import train  # noqa: PLC0415 - seconds, and only after the environment

    log.info("torch and ultralytics were imported in %.1f s", time.monotonic() - began)
    train.stay_offline()
    return train


def _results(configuration: Configuration, stop: Stop) -> Results:
    owner = Owner(configuration.trace_id, configuration.attempt)
    return Results(
        f"checkpoints/job-{configuration.job_id}", owner, given_up=lambda: stop.abandoned
    )


def _open_tracking(configuration: Configuration, callbacks: Callbacks) -> Tracking:
    return Tracking(
        uri=configuration.mlflow_uri or default_uri(configuration.work_dir or Path.cwd()),
        run_name=f"job-{configuration.job_id}",
        tags=tags_of(
            configuration.job_id,
            configuration.attempt,
            configuration.trace_id,
            configuration.base_url,
        ),
        say=callbacks.event,
        untold=configuration.outbox_dir
        / f"job-{configuration.job_id}-{configuration.trace_id}.mlflow",
    )


@contextmanager
def work_folder(wanted: Path | None) -> Iterator[Path]:
    """Give a scratch folder; one that we made up ourselves is gone afterwards."""
    work = wanted or Path(tempfile.mkdtemp(prefix="epochlog-"))
    work.mkdir(parents=True, exist_ok=True)
    for leftover in SCRATCH:
        shutil.rmtree(work / leftover, ignore_errors=True)
    clear_parts(work)
    try:
        yield work
    finally:
        clean(work, made_up=wanted is None)


def clean(work: Path, *, made_up: bool) -> None:
    """Remove a folder that we made up; in somebody else's, only what is large and of no use."""
    for folder in [work] if made_up else [work / "dataset", work / "uploads"]:
        shutil.rmtree(folder, ignore_errors=True)
