"""Who runs on which core: the server under test has the first to itself, the load the others.

PostgreSQL may use every core, for every contender alike. On a machine with one core all share it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

ALL = frozenset(os.sched_getaffinity(0))
SERVER = frozenset({min(ALL)})
LOAD = ALL - SERVER or ALL


@contextmanager
def here(cores: frozenset[int]) -> Iterator[None]:
    """Keep this thread on these cores for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
