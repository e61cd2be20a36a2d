"""The entry point of the command `epochlog`."""

from __future__ import annotations

import sys

import typer

from service.cli import app
from service.page import buffered


def main() -> None:
    """Run a command; exit 0 when it is done, 1 when it failed, 2 on wrong usage."""
    sys.stdout = buffered(sys.stdout)
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        if sentence := error.format_message().strip():
            print(f"epochlog: {sentence}", file=sys.stderr)  # noqa: T201 - this is a command line
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
