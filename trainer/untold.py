"""Metrics that MLflow was not told yet, in a file: a further attempt tells what one could not."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from trainer.backlog import Metrics

log = logging.getLogger(__name__)

MOST_BYTES = 16 * 1024 * 1024


class Untold:
    """One line an epoch, until all of them are told. To tell one twice does no harm.

    Nothing here raises: without the file, what waits is in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        """Take the file; without one nothing outlives the process."""
        self._path = path

    def read(self) -> list[Metrics]:
        """Return what earlier attempts left; a line that was cut off is none."""
        if self._path is None:
            return []
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("what MLflow was not told of earlier attempts is lost: %s", error)
            return []
        return [found for line in lines if (found := _read_line(line)) is not None]

    def note(self, metrics: Metrics) -> None:
        """Keep an epoch's metrics."""
        if self._path is None:
            return
        line = json.dumps([metrics.step, metrics.at, dict(metrics.values)]).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                if file.tell() < MOST_BYTES:
                    file.write(b"\n" + line)  # never behind a line that was cut off
        except OSError as error:
            log.warning("MLflow's metrics wait in memory only: %s", error)
            self._path = None

    def forget(self) -> None:
        """All of them are told."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("what MLflow was told will be told again: %s", error)


def _read_line(line: bytes) -> Metrics | None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    match found:
        case [int(step), int(at), dict(values)] if all(map(_is_number, values.values())):
            return Metrics(step, at, values)
        case _:
            return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
