"""Being asked to end: by a signal, or by a directive in the service's answers."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from trainer.errors import Interrupted

log = logging.getLogger(__name__)

EXIT_CODE = 143
# What a service, a cluster or a person usually gives from SIGTERM to SIGKILL is a little more.
GRACE_SECONDS = 25.0
# Of these, the last ones are for a last word where the main thread has not come to it.
LAST_WORD_SECONDS = 4.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether, and by whom, the trainer was asked to end.

    As long as there is nothing to keep, a thread of its own ends the process: the main thread may
    be deep in a library that would swallow an exception, or break by it. Once there is (`hold`),
    the main thread looks here at each batch's end.
    """

    def __init__(self, grace: float = GRACE_SECONDS, *, at_once: bool = True) -> None:
        """Start with nobody asking; who asks will wait for the grace.

        `at_once` is whether an attempt that no longer counts ends even where there is something
        to keep.
        """
        self._grace = grace
        self._at_once = at_once
        self._last_word = min(LAST_WORD_SECONDS, grace / 4)
        self._deadline = math.inf
        self.cancelled = False
        self.terminated = False
        self.abandoned = False
        self._interrupted = False
        self._holding = False
        self._claimed = False
        self._claiming = threading.Lock()
        self._closed = False
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()
        self._asked, self._ask = os.pipe()
        os.set_blocking(self._ask, False)

    @property
    def wanted(self) -> bool:
        """Whether the trainer should end."""
        return self.cancelled or self.terminated or self.abandoned

    @property
    def outranks_success(self) -> bool:
        """Whether even a finished training no longer counts; a mere signal came too late then."""
        return self.cancelled or self.abandoned

    @property
    def code(self) -> str:
        """Who asked; a cancel outranks the signal that so often comes with it."""
        return "cancelled" if self.cancelled else "terminated"

    def left(self, reserve: float = 0.0) -> float:
        """Return the seconds until the grace is over, less those kept for something else."""
        return self._deadline - reserve - time.monotonic()

    def catch(self) -> None:
        """Take SIGTERM and SIGINT, and keep in mind that they came; nobody acts on it yet."""
        if threading.current_thread() is not threading.main_thread():
            log.warning("only the main thread can take signals: SIGTERM will end it unheard")
            return
        self._before = {each: signal.signal(each, self._on_signal) for each in SIGNALS}
        # A handler only runs once the main thread is back in Python, which it never is while a
        # driver or a dead mount holds it. The signal's number is written to the pipe at once.
        taken = signal.set_wakeup_fd(self._ask, warn_on_full_buffer=False)
        if taken != -1:
            signal.set_wakeup_fd(taken)  # an event loop of the script's own needs it
        # What a data loader's worker is told, it alone is told.
        os.register_at_fork(after_in_child=self._let_go_of_wakeups)

    def listen(self, leave: Callable[[], NoReturn]) -> None:
        """Take SIGTERM and SIGINT; `leave` is called, in another thread, to end the process."""
        if not self._before:
            self.catch()
        threading.Thread(target=self._attend, args=(leave,), name="stop", daemon=True).start()

    def close(self) -> None:
        """Hear nothing more, and give the signals back to whoever took them before."""
        self._closed = True
        if self._before:
            self._let_go_of_wakeups()
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._wake()

    def hear(self, directive: str) -> None:
        """Take a directive of the service."""
        if self._claimed:
            return
        if directive == "cancel" and not self.cancelled:
            log.warning("the service asks to cancel this job")
            self.cancelled = True
        elif directive == "stop" and not self.abandoned:
            log.warning("the service says that this attempt no longer counts; ending at once")
            self.abandoned = True
        self._begin_grace()
        self._wake()

    def hold(self) -> None:
        """From here on there is something to keep: only `check` ends the training."""
        self._holding = True

    def claim(self) -> bool:
        """Return whether the caller is the first, and so the only one, to decide the end."""
        with self._claiming:
            first = not self._claimed
            self._claimed = True
        return first

    def check(self) -> None:
        """Raise Interrupted where the trainer was asked to end."""
        if self.wanted:
            raise Interrupted

    @property
    def claimed(self) -> bool:
        """Whether the end is decided, so that nothing more need be kept."""
        return self._claimed

    def _let_go_of_wakeups(self) -> None:
        taken = signal.set_wakeup_fd(-1)
        if taken != self._ask:
            signal.set_wakeup_fd(taken)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # A data loader's worker inherits this handler; and who presses Ctrl-C twice does not want
        # to wait. SIGTERM may come again from a service or a kubelet that was started anew.
        by_hand = number == signal.SIGINT
        if os.getpid() != self._process or (by_hand and self._interrupted):
            os._exit(EXIT_CODE)
        self._interrupted |= by_hand
        self._terminate()
        # Nothing here may take a lock (as logging does): the main thread may be holding it.
        os.write(1, f"{signal.Signals(number).name}: the trainer is asked to end\n".encode())
        self._wake()

    def _terminate(self) -> None:
        self.terminated = True
        self._begin_grace()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full: it will wake up all the same
            os.write(self._ask, b"\0")

    def _begin_grace(self) -> None:
        if self.wanted and self._deadline == math.inf:
            self._deadline = time.monotonic() + self._grace

    def _attend(self, leave: Callable[[], NoReturn]) -> None:
        while True:
            by_signal = self._wait() in SIGNALS
            if self._closed:
                return
            if by_signal:
                self._terminate()
            late = self.left(self._last_word) <= 0
            at_once = (self.abandoned and self._at_once) or (self.wanted and not self._holding)
            if (at_once or late) and self.claim():
                leave()
            if late:
                return  # the main thread has come to the end, and will say it

    def _wait(self) -> int:
        """Return when somebody asks for something, or the grace is almost over: by which signal."""
        left = self.left(self._last_word)
        ready, _, _ = select.select(
            [self._asked], [], [], None if left == math.inf else max(0, left)
        )
        return os.read(self._asked, 1)[0] if ready else 0
