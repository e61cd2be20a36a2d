"""The callback client: what any training script says of itself, in five lines.

    with epochlog_run() as run:
        for epoch in range(1, epochs + 1):
            loss = train_one_epoch()
            run.heartbeat(epoch=epoch, epochs=epochs, metrics={"loss": loss})
            run.check()

It needs `requests`, and no framework. Nothing that is said waits for the network.
"""

from __future__ import annotations

import logging
import operator
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex

from trainer.callbacks import Callbacks
from trainer.configuration import Caller, read_caller
from trainer.errors import ConfigurationError, Interrupted, NotHeardError
from trainer.failures import explain_machine
from trainer.last_word import decided, hear_out, say_done
from trainer.limits import encoded
from trainer.metrics import tidy
from trainer.outbox import Said
from trainer.outcomes import Failed, Left, Outcome, Succeeded, failed
from trainer.past import Checkpoint, Past, ask_past
from trainer.progress import Heart
from trainer.stop import EXIT_CODE, GRACE_SECONDS, Stop

if TYPE_CHECKING:
    from trainer.telemetry import Telemetry

log = logging.getLogger(__name__)

REQUIRED = ("JOB_ID", "ATTEMPT", "TRACE_ID", "BACKEND_BASE_URL", "CALLBACK_TOKEN")


def epochlog_run(*, optional: bool = False) -> Run:
    """Return the attempt that the environment describes, for a `with` block around the training.

    Without any of the variables, an `optional` run says nothing to anybody; otherwise, and
    wherever some of them are set, a missing or wrong one raises ConfigurationError.
    """
    if any(os.environ.get(name) for name in REQUIRED):
        return Run(read_caller(os.environ))
    if optional:
        return Run(None)
    raise ConfigurationError(
        f"This is no job of Epochlog: none of {', '.join(REQUIRED)} is set. A script that may also "
        "run by hand asks for epochlog_run(optional=True)."
    )


class Run:
    """One attempt. Leaving its `with` block at the end is a success, by an exception a failure."""

    def __init__(self, caller: Caller | None) -> None:
        """Take who calls back; nobody does where there is none."""
        self._caller = caller
        self._callbacks: Callbacks | None = None
        self._stop = Stop(caller.grace_seconds if caller else GRACE_SECONDS, at_once=False)
        self._heart = Heart(caller.heartbeat_seconds if caller else 0, self._beat)
        self._gauges: Telemetry | None = None
        self._inside = False
        self._place: dict[str, Any] = {}  # where the training is, as timed heartbeats repeat it
        self._artifacts: list[dict[str, Any]] = []
        self._results: dict[str, float] = {}
        self._complete = False  # whether the script said so itself
        self._told_to_end = False  # whether the script knows that it was asked to

    def __enter__(self) -> Self:
        """Begin to report, and to hear signals and directives."""
        if self._callbacks is not None:
            raise RuntimeError("A run has one `with` block: an attempt ends only once.")
        self._inside = True
        if self._caller is not None:
            self._callbacks = _open_callbacks(self._caller, self._stop.hear)
            self._stop.hold()
            self._stop.listen(self._leave)
            self.heartbeat()
            self._gauges = _open_gauges()
            self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say how it ended; leave with the exit code 143 where it was told to end."""
        self._inside = False
        if self._callbacks is not None:
            self._end(self._callbacks, self._outcome(error), raised=error)

    @property
    def trace_id(self) -> str:
        """The job's trace, which each log line should carry; empty where nobody calls back."""
        return self._caller.trace_id if self._caller else ""

    def heartbeat(
        self,
        *,
        epoch: SupportsIndex | None = None,
        epochs: SupportsIndex | None = None,
        batch: SupportsIndex | None = None,
        batches: SupportsIndex | None = None,
        progress: float | None = None,
        metrics: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Say now how far it is: after an epoch or, with `batch`, within it."""
        place = self.reach(
            epoch=epoch, epochs=epochs, batch=batch, batches=batches, progress=progress
        )
        self._tell(("heartbeat", {**place, **_measured(metrics), **more}, False))

    def reach(
        self,
        *,
        epoch: SupportsIndex | None = None,
        epochs: SupportsIndex | None = None,
        batch: SupportsIndex | None = None,
        batches: SupportsIndex | None = None,
        progress: float | None = None,
    ) -> Mapping[str, Any]:
        """Note how far it is, for the next timed heartbeat to say: cheap enough for each batch."""
        counts = {"epoch": epoch, "epochs": epochs, "batch": batch, "batches": batches}
        place: dict[str, float] = {
            name: _count(name, value) for name, value in counts.items() if value is not None
        }
        if progress is not None:
            place["progress"] = _fraction(progress)
        if place:
            # Not changed in place: the heart's thread reads it.
            lasting = {"epochs": self._place["epochs"]} if "epochs" in self._place else {}
            self._place = {**lasting, **place}
        return place

    def epoch_end(
        self, epoch: SupportsIndex, metrics: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """Say that an epoch is complete, counted from 1, and what was measured in it."""
        place = self.reach(epoch=epoch, epochs=more.pop("epochs", None))
        redone = {"redone": True} if place["epoch"] <= self._reported else {}
        self.event("epoch_end", **place, **_measured(metrics), **redone, **more)

    def checkpoint_saved(
        self, epoch: SupportsIndex, uri: str | os.PathLike[str], **facts: Any
    ) -> None:
        """Say that a whole checkpoint of this epoch lies at an address, or in a file of this name.

        `sha256` and `bytes` are the facts that the service knows.
        """
        self.event("checkpoint_saved", epoch=_count("epoch", epoch), uri=_address(uri), **facts)

    def event(self, kind: str, /, **data: Any) -> None:
        """Say that something else happened."""
        self._tell(("event", {"type": kind, "data": data}, False))

    def artifact(self, name: str, uri: str | os.PathLike[str], **facts: Any) -> None:
        """Have the last word name what the training made; `sha256` and `bytes` are known facts."""
        made = {"name": name, "uri": _address(uri), **facts}
        encoded(made)  # the last word is too late to find that JSON cannot say it
        self._artifacts.append(made)

    def succeed(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Note that the training is complete: a signal comes too late from here on."""
        self._complete = True
        self._results, _ = tidy(metrics or {})

    def watch_gpu(self, uuid: str) -> None:
        """Let timed heartbeats say how this GPU is, where nvidia-ml-py can see it."""
        if self._gauges is not None:
            self._gauges.watch_gpu(uuid)

    @property
    def should_stop(self) -> bool:
        """Whether to save a checkpoint and end: a cancel, a signal, or an attempt that is over."""
        self._told_to_end |= self._stop.wanted
        return self._stop.wanted

    def check(self) -> None:
        """Leave the block here where it should stop; the process then ends with code 143."""
        if self.should_stop:
            raise Interrupted

    @cached_property
    def past(self) -> Past:
        """What earlier attempts reported; the service is asked once, and not for ever."""
        self._refuse_outside()
        if self._caller is None or self._callbacks is None:
            return Past()
        is_first = self._caller.attempt == 1 and self._caller.resume_from is None
        return ask_past(self._callbacks, self._caller.resume_from, is_first=is_first)

    @property
    def resume_from(self) -> Checkpoint | None:
        """The furthest checkpoint that was reported, if there is one."""
        return next(iter(self.past.checkpoints), None)

    @property
    def _reported(self) -> int:
        """How far earlier attempts came, as far as it was asked."""
        known: Past | None = self.__dict__.get("past")
        return known.epochs_reported if known else 0

    def _tell(self, said: Said) -> None:
        self._refuse_outside()
        if self._callbacks is not None:
            self._callbacks.say(said)
        else:
            encoded(said[1])  # what JSON cannot say is wrong here, too

    def _refuse_outside(self) -> None:
        if not self._inside:
            raise RuntimeError("A run only reports inside its `with` block.")

    def _beat(self, _body: dict[str, Any]) -> None:
        if self._callbacks is not None:
            machine = self._gauges.facts() if self._gauges else {}
            self._callbacks.heartbeat({**self._place, **machine}, timed=True)

    def _outcome(self, error: BaseException | None) -> Outcome:
        match error:
            case None if not self._told_to_end or self._complete:
                return Succeeded(self._results, self._artifacts)
            case None | Interrupted() | KeyboardInterrupt():
                return Left(self._artifacts)
            case _ if self._stop.wanted:
                return Left(self._artifacts)  # what breaks meanwhile is no fault of its own
            case Exception():
                ended = failed(error, explain_machine)
                return Failed(ended.code, ended.message, ended.retryable, error, self._artifacts)
            case _:
                message = f"The script left by {error!r}, before its end."
                return Failed("error", message, True, error, self._artifacts)

    def _end(self, callbacks: Callbacks, ended: Outcome, *, raised: BaseException | None) -> None:
        if isinstance(ended, Left):
            hear_out(callbacks, self._stop)
        ended = decided(ended, self._stop)
        self._heart.stop()
        heard = self._stop.abandoned or say_done(callbacks, self._stop, ended)
        callbacks.close()
        self._stop.close()
        if isinstance(ended, Left) and (raised is None or isinstance(raised, Interrupted)):
            raise SystemExit(EXIT_CODE) from None
        if not heard and raised is None:
            raise NotHeardError("The training is complete, but the service never took the result.")

    def _leave(self) -> NoReturn:
        """End the process without its main thread, which did not look in time."""
        self._heart.stop()
        if self._callbacks is not None and not self._stop.abandoned:
            hear_out(self._callbacks, self._stop)
            say_done(self._callbacks, self._stop, Left(self._artifacts))
            self._callbacks.close()
        log.warning("the script did not end in time; it is ended")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(EXIT_CODE)


def _open_callbacks(caller: Caller, hear: Callable[[str], None]) -> Callbacks:
    return Callbacks(
        base_url=caller.base_url,
        job_id=caller.job_id,
        trace_id=caller.trace_id,
        token=caller.token,
        hear=hear,
        attempt=caller.attempt,
        folder=caller.outbox_dir,
    )


def _open_gauges() -> Telemetry | None:
    """Return what reads the machine's gauges, where psutil is installed."""
    try:
        from trainer.telemetry import Telemetry  # noqa: PLC0415 - what it needs may not be there
    except ImportError:
        return None
    return Telemetry()


def _measured(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    if metrics is None:
        return {}
    finite, others = tidy(metrics)
    return {"metrics": finite, **({"non_finite": others} if others else {})}


def _count(name: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}.") from None
    if count < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}.")
    return count


def _fraction(value: Any) -> float:
    fraction = float(value)
    if not 0 <= fraction <= 1:
        raise ValueError(f"progress must be from 0 to 1, not {value!r}.")
    return fraction


def _address(uri: str | os.PathLike[str]) -> str:
    return uri if isinstance(uri, str) else Path(uri).absolute().as_uri()
