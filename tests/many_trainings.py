"""Runs several real attempts one after the other in one process, so that torch is loaded once.

The environments come as a JSON list on the standard input; the exit codes go out as one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn

from trainer.configuration import read_configuration
from trainer.run import run
from trainer.stop import Stop


def main() -> None:
    codes = []
    for variables in json.load(sys.stdin):
        os.environ.update(variables)
        if "TERMINATE_BEFORE_VALIDATION" in variables:
            terminate_before_validation(int(variables["TERMINATE_BEFORE_VALIDATION"]))
        codes.append(run(read_configuration(os.environ), Stop(), leave))
    sys.stdout.write(f"{json.dumps(codes)}\n")


def terminate_before_validation(epoch: int) -> None:
    """Let this process be told to end when the epoch was trained, and is not yet validated."""
    from ultralytics.utils import callbacks  # noqa: PLC0415 - after the first training set it up

    def terminate(trainer: Any) -> None:
        if trainer.epoch + 1 == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    callbacks.default_callbacks["on_train_epoch_end"].append(terminate)


def leave(code: int) -> NoReturn:
    os._exit(code)


if __name__ == "__main__":
    main()
