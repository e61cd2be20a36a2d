"""`python -m trainer`: one attempt of one job, described by the environment."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
from typing import NoReturn

from trainer import logs
from trainer.configuration import known_log_format, known_origin, read_configuration
from trainer.errors import ConfigurationError
from trainer.stop import Stop

log = logging.getLogger(__name__)

NEEDED = ("torch", "ultralytics", "mlflow", "requests", "yaml")
WRONG_USAGE = 2
NOT_INSTALLED = 3


def main() -> int:
    """Return the exit code: 0 trained, 1 failed, 2 wrong environment, 3 not installed, 143 told."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only look whether it could train")
    checking = parser.parse_args().check
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _complain(f"Training needs {', '.join(missing)}: pip install 'epochlog[trainer]'")
        return NOT_INSTALLED
    if checking:
        return 0
    try:
        configuration = read_configuration(os.environ)
    except ConfigurationError as error:
        _complain(str(error))
        return WRONG_USAGE
    stop = Stop(configuration.grace_seconds)
    stop.catch()  # the kernel drops what the first process of a container does not take
    from trainer.run import run  # noqa: PLC0415 - only here is it sure that it can be imported

    stamper = logs.start(configuration.origin, configuration.log_format)

    def leave(code: int) -> NoReturn:
        try:
            logs.finish(stamper)
        finally:  # whatever has become of the log
            # Not sys.exit: a library's thread or atexit hook must not hold an ended attempt up.
            os._exit(code)

    try:
        leave(run(configuration, stop, leave))
    except Exception:
        log.exception("the trainer itself failed")
        leave(1)


def _complain(sentence: str) -> None:
    logs.complain(sentence, known_origin(os.environ), known_log_format(os.environ))


if __name__ == "__main__":
    sys.exit(main())
