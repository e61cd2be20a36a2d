"""The entry point of the command `epochlog`."""

from __future__ import annotations

import os
import sys

import typer

from service.cli import app
from service.page import buffered

FAILED = 1


def main() -> None:
    """Run a command; exit 0 when it is done, 1 when it failed, 2 on wrong usage."""
    sys.stdout = buffered(sys.stdout)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        # Typer lists choices in lines of their own, and hands on pydantic's prefix.
        if sentence := " ".join(error.format_message().replace("Value error, ", "").split()):
            _complain(sentence)
        code = error.exit_code
    except OSError as error:
        code = _failed(error)
    sys.exit(code)


def _failed(error: OSError) -> int:
    """Say what the machine refused, most often a full disk under stdout; return the exit code."""
    what = f"{error.filename} cannot be used" if error.filename else "The output cannot be written"
    _complain(f"{what}: {error.strerror or error}.")
    # What still waits for stdout would fail once more, at the end, where nobody catches it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _complain(sentence: str) -> None:
    print(f"epochlog: {sentence}", file=sys.stderr)  # noqa: T201 - this is a command line


if __name__ == "__main__":
    main()
