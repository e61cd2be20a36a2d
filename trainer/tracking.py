"""The run in MLflow, written by a thread of its own: MLflow is slow, and free to be away."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.backlog import Artifact, Backlog, Batch, Ended, Metrics, Params, smaller, spoken
from trainer.backoff import delay
from trainer.mlflow_run import Run, RunGoneError, open_run
from trainer.outage import Outage
from trainer.refusals import LONGEST_MESSAGE, is_refusal, why
from trainer.untold import Untold

log = logging.getLogger(__name__)

LONGEST_PARAM = 500
# How soon MLflow is asked again while somebody waits for the end.
HURRIED_PAUSE = 0.5
# A request that takes longer is taken for one that MLflow may never answer.
HANGS_AFTER = 5.0
# How many refusals are told one by one; all are counted.
MOST_REFUSALS_TOLD = 10
# A further attempt has another one each time, which a parameter could not take.
RESUMED_FROM = "resumed_from"


class Tracking:
    """One job's run. What MLflow misses while it is away, it is told when it is back.

    Nothing here but `finish` waits for MLflow. What happened is said in events.
    """

    def __init__(
        self,
        *,
        uri: str,
        run_name: str,
        tags: Mapping[str, str],
        say: Callable[..., None],
        untold: Path | None = None,
    ) -> None:
        """Take the run's name and tags; `say` is called with an event's type and data.

        `untold` is a file of the job's, in which metrics wait that a killed attempt could not tell.
        """
        self._uri = uri
        self._run_name = run_name
        self._tags = dict(tags)
        self._say_to = say
        self._params: dict[str, str] = {}
        self._earlier: str | None = None
        self._began = 0
        self._changed = threading.Condition()
        self._backlog = Backlog()
        self._untold = Untold(untold)
        self._outage = Outage()
        self._refused: set[str] = set()
        self._last_trouble = ""
        self._hurried = self._ending = self._concluded = False
        self._asked_at: float | None = None  # since when MLflow owes an answer
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self.run_id: str | None = None

    def continue_run(self, run_id: str | None) -> None:
        """Go on with an earlier attempt's run, where it is still there."""
        self._earlier = run_id

    def start(self, params: Mapping[str, Any]) -> None:
        """Open the run, in the background."""
        self._params = {
            name: str(value)[:LONGEST_PARAM]
            for name, value in params.items()
            if name != RESUMED_FROM
        }
        if RESUMED_FROM in params:
            self._tags[f"epochlog.{RESUMED_FROM}"] = str(params[RESUMED_FROM])
        self._began = self._began or _now()
        self._put(Params(self._params))
        if self._thread is None:
            self._take_over(self._untold.read())
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Write one epoch's metrics, as of now.

        Of an epoch that is trained again MLflow keeps both values: the later one is newer.
        """
        record = Metrics(number, _now(), dict(metrics))
        with self._changed:
            self._untold.note(record)
            self._put(record)

    def artifact(self, file: Path, drawn_from: Path | None = None) -> None:
        """Copy a file into the run, once it is drawn from the table that is named."""
        self._put(Artifact(file, drawn_from))

    def finish(self, status: str, patience: float) -> str | None:
        """Close the run as FINISHED, FAILED or KILLED, and return its id where there is one."""
        if self._thread is None:
            return self.run_id
        with self._changed:
            self._ending = True
            self._put(Ended(status, _now()))
            self._hurried = True
            self._changed.notify_all()
            told = self._changed.wait_for(lambda: not len(self._backlog), patience)
            self._hurried = False
        if not told:
            log.warning("MLflow did not take all within %.0f seconds", patience)
        return self.run_id

    def conclude(self) -> str | None:
        """Say what MLflow lacks, if it does, and nothing more; return the run's id."""
        with self._changed:
            waits = len(self._backlog) if self._is_late() else 0
            dropped = self._backlog.dropped
        refused = len(self._refused)
        if missed := waits + refused + dropped:
            words = f"Of this attempt, {waits} records still waited for MLflow, {refused} were "
            words += f"refused, and {dropped} were too many to keep. {self._last_trouble}"
            self._say("mlflow_incomplete", missed=missed, message=words.strip()[:LONGEST_MESSAGE])
        self._concluded = True
        return self.run_id

    def _is_late(self) -> bool:
        """Whether what waits now is more than what is always under way while all is well."""
        if self._ending or self._outage.is_on:
            return True
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at > HANGS_AFTER

    def _take_over(self, left: list[Metrics]) -> None:
        if left:
            log.info("%d epochs of earlier attempts are still to be told to MLflow", len(left))
            ago = (_now() - min(one.at for one in left)) / 1000
            self._outage.goes_on(time.monotonic() - max(0.0, ago))
        for record in left:
            self._put(record)

    def _put(self, record: Params | Metrics | Artifact | Ended) -> None:
        with self._changed:
            self._backlog.put(record)
            self._changed.notify_all()

    def _say(self, kind: str, **data: Any) -> None:
        if not self._concluded:
            self._say_to(kind, **data)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._backlog))
                batch = self._backlog.take()
            try:
                run = self._run or self._open()  # which may take long by itself
                self._asked_at = time.monotonic()
                self._tell(run, batch)
            except RunGoneError as error:
                self._begin_anew(error)
            except Exception as error:
                self._missed(error)
            else:
                self._told(batch)
            self._asked_at = None

    def _tell(self, run: Run, batch: Batch) -> None:
        """Tell MLflow; what it refuses is narrowed down and left out."""
        try:
            run.write(batch)
        except Exception as error:
            if not is_refusal(error):
                raise
            if not run.is_there():
                raise RunGoneError(run.id) from error
            parts = smaller(batch)
            if not parts:
                what = spoken(batch[0])
                self._leave_out(what, f"MLflow refuses {what}: {why(error)}")
            for part in parts:
                self._tell(run, part)

    def _told(self, batch: Batch) -> None:
        with self._changed:
            nothing_waits = len(self._backlog) == len(batch)
        over = self._outage.told(len(batch), time.monotonic(), nothing_waits=nothing_waits)
        if over is not None:
            log.info("MLflow answers again; it had missed %d records", over.missed)
            self._say("mlflow_recovered", missed=over.missed, seconds=over.seconds)
        with self._changed:
            self._backlog.settle()
            if not len(self._backlog):
                self._untold.forget()
            self._changed.notify_all()

    def _missed(self, error: Exception) -> None:
        self._last_trouble = why(error)
        with self._changed:
            self._backlog.give_back()
        if self._outage.failed(time.monotonic()):
            log.warning("MLflow is away: %s", self._last_trouble)
            self._say("mlflow_unavailable", message=self._last_trouble)
        pause = delay(self._outage.tries - 1, random.random())  # noqa: S311 - jitter, no secret
        with self._changed:
            hurried = self._hurried
            limit = min(pause, HURRIED_PAUSE) if hurried else pause
            self._changed.wait_for(lambda: self._hurried != hurried, limit)

    def _leave_out(self, what: str, message: str) -> None:
        if what in self._refused:
            return
        self._refused.add(what)
        self._last_trouble = message[:LONGEST_MESSAGE]
        log.warning("%s", self._last_trouble)
        if len(self._refused) <= MOST_REFUSALS_TOLD:
            self._say("mlflow_refused", message=self._last_trouble)

    def _begin_anew(self, gone: RunGoneError) -> None:
        self._run, self._earlier = None, gone.run_id
        with self._changed:
            self._backlog.give_back()
            self._backlog.put(Params(self._params))

    def _open(self) -> Run:
        run, found = open_run(
            uri=self._uri,
            name=self._run_name,
            tags=self._tags,
            began=self._began,
            earlier=self._earlier,
        )
        if self._earlier not in {None, run.id}:
            message = (
                f"The run {self._earlier} is no longer in MLflow; run {run.id} takes its place."
            )
            self._say("mlflow_run_gone", mlflow_run_id=self._earlier, message=message)
        for name in _differing(self._params, run.params):
            was, would_be = run.params[name], self._params[name]
            message = f"MLflow keeps {name} as {was!r}; this attempt has {would_be!r}."
            self._leave_out(f"the parameter {name}", message)
        self._run, self.run_id, self._earlier = run, run.id, run.id
        self._say("tracking_started", mlflow_run_id=run.id, continued=found)
        return run


def _differing(wanted: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    return [name for name, text in wanted.items() if known.get(name, text) != text]


def _now() -> int:
    return int(time.time() * 1000)
