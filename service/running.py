"""How a command is run: settings in, an exit code out, and one sentence for what made it fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from rich.console import Console
from rich.text import Text

from service.bundle import BundleError
from service.client import ClientError
from service.embedded import EmbeddedPostgresError
from service.errors import ServiceError, SettingsError, StateFolderInUseError
from service.page import open_console
from service.s3_server import S3ServerError
from service.settings import Settings

DONE, FAILED, WRONG_USAGE = 0, 1, 2

Work = Callable[[Settings, Console], Coroutine[Any, Any, int]]


class CommandError(Exception):
    """A command cannot do what it is for; the message says why."""


EXPECTED = (
    BundleError,
    CommandError,
    EmbeddedPostgresError,
    S3ServerError,
    ServiceError,
    SettingsError,
    StateFolderInUseError,
)


def run(work: Work) -> int:
    """Do a command's work and return the exit code."""
    try:
        settings = Settings.from_env(os.environ)
        for unknown in settings.unknown:
            complain(f"Warning: {unknown}")
        return uvloop.run(work(settings, open_console()))
    except ClientError as error:
        complain(str(error))
        return WRONG_USAGE if error.is_wrong_usage else FAILED
    except EXPECTED as error:
        complain(str(error))
        return FAILED


def complain(sentence: str) -> None:
    """Say a sentence on stderr."""
    open_console(stderr=True).print(Text(f"epochlog: {sentence}"), soft_wrap=True)
