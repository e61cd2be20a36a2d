"""A program that tells when a processor stood still: each line of its input gets an answer.

A virtual machine may be stopped as a whole, or one of its processors alone; so a thread on each
looks at the clock. The answer is when the last standstill of all ended, by the monotonic clock.
"""

from __future__ import annotations

import os
import sys
import threading
import time

PERIOD = 0.05


class Look:
    """One processor's thread: what is late where nothing else is to do is late everywhere."""

    def __init__(self, processor: int | None, longest: float) -> None:
        self._processor, self._longest = processor, longest
        self._before = time.monotonic()
        self._stood = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def stood(self, now: float) -> float:
        """When the last standstill ended: now, while one lasts."""
        if now - self._before > self._longest:
            self._stood = now
        return self._stood

    def _watch(self) -> None:
        if self._processor is not None:
            os.sched_setaffinity(0, {self._processor})
        while True:
            time.sleep(PERIOD)
            now = time.monotonic()
            self.stood(now)
            self._before = now


def main() -> None:
    """Answer until the input ends; the argument says how late, in seconds, is a standstill."""
    longest = float(sys.argv[1])
    bound = hasattr(os, "sched_setaffinity")
    processors = sorted(os.sched_getaffinity(0)) if bound else [None]
    looks = [Look(processor, longest) for processor in processors]
    for _ in sys.stdin:
        print(max(look.stood(time.monotonic()) for look in looks), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
