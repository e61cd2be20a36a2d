"""Our own replay, in a process of its own: of every projection, or to each job's status alone.

`python -m bench.rebuild check|quick_check` reads the database's URL from stdin and writes how many
seconds it took.
"""

from __future__ import annotations

import sys
import time

import uvloop

from service.rebuilding import check
from service.standings import quick_check

CHECKS = {"check": check, "quick_check": quick_check}


def main() -> None:
    """Replay once; what it makes must be what is stored."""
    url = sys.stdin.read()
    start = time.perf_counter()
    comparison = uvloop.run(CHECKS[sys.argv[1]](url))
    seconds = time.perf_counter() - start
    if not comparison.is_clean:
        raise RuntimeError(f"the replay differs from what is stored: {comparison.differing}")
    sys.stdout.write(str(seconds))


if __name__ == "__main__":
    main()
