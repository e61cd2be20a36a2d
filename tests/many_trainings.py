"""Runs several real attempts one after the other in one process, so that torch is loaded once.

The environments come as a JSON list on the standard input; the exit codes go out as one.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from trainer.configuration import read_configuration
from trainer.run import run
from trainer.stop import Stop


def main() -> None:
    codes = []
    for variables in json.load(sys.stdin):
        os.environ.update(variables)
        codes.append(run(read_configuration(os.environ), Stop(), leave))
    sys.stdout.write(f"{json.dumps(codes)}\n")


def leave(code: int) -> NoReturn:
    os._exit(code)


if __name__ == "__main__":
    main()
