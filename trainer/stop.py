"""Being asked to end: by a signal, or by a directive in the service's answers."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trainer.errors import Interrupted

log = logging.getLogger(__name__)

EXIT_CODE = 143
# A directive `stop` means at once; a main thread stuck in native code is not waited for longer.
ABANDON_SECONDS = 10.0


class Stop:
    """Whether, and by whom, the trainer was asked to end.

    While `interruptible`, the main thread is thrown out of what it does; otherwise it looks here
    at each batch's end.
    """

    def __init__(self) -> None:
        """Start with nobody asking."""
        self.cancelled = False
        self.terminated = False
        self.abandoned = False
        self._interruptible = False
        self._settled = False
        self._process = os.getpid()

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

    def listen(self) -> None:
        """Take SIGTERM, SIGINT and our own wake-up signal; for the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_wake_up)

    def hear(self, directive: str) -> None:
        """Take a directive of the service; called in the sending thread."""
        if self._settled:
            return
        if directive == "cancel" and not self.cancelled:
            log.warning("the service asks to cancel this job")
            self.cancelled = True
        elif directive == "stop" and not self.abandoned:
            log.warning("the service says that this attempt no longer counts; ending at once")
            self.abandoned = True
            self._end_soon()
        else:
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def settle(self) -> None:
        """From here on the end is decided: hear nothing more, interrupt nothing more."""
        self._settled = True
        self._interruptible = False

    def hold(self) -> None:
        """Interrupt nothing more, but still listen to who asks."""
        self._interruptible = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a request to end throw the main thread out of this block, whatever it does there."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        """Raise Interrupted where the trainer was asked to end."""
        if self.wanted and not self._settled:
            raise Interrupted

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data loader's worker inherits this handler
            os._exit(EXIT_CODE)
        if self.terminated:
            os._exit(EXIT_CODE)
        self.terminated = True
        # Not the logger: the signal may have come amid one of its own writes.
        os.write(1, f"{signal.Signals(number).name}: the trainer is asked to end\n".encode())
        self._interrupt()

    def _on_wake_up(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupt()

    def _interrupt(self) -> None:
        if self._interruptible or (self.abandoned and not self._settled):
            self._interruptible = False
            raise Interrupted

    def _end_soon(self) -> None:
        timer = threading.Timer(ABANDON_SECONDS, os._exit, (EXIT_CODE,))
        timer.daemon = True
        timer.start()
