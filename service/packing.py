"""Makes a job's incident bundle, page by page of its events, on disk: memory stays as it is."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from string import Template
from types import TracebackType
from typing import IO, Any, Self
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import orjson

from projections.events import Evidence, Heartbeat, Record
from projections.policy import Moment, Policy
from service.bundle import (
    EVENTS,
    EVIDENCE_FOLDER,
    EXPLAIN,
    FORMAT,
    FORMAT_VERSION,
    JOB,
    LOGS_FOLDER,
    MANIFEST,
    README,
    TIMELINE,
    VIEWER,
    line_of,
)
from service.changes import Changes
from service.redaction import redact, seems_to_hold_a_secret
from service.viewing import readme, viewer_page
from service.views import event_view, job_view, timeline_view

CHUNK = 256 * 1024
SHOWN_EVENTS = 100_000
"""From here on the viewer is spared heartbeats: a browser has to hold what it shows."""
SHOWN_LOG = 64 * 1024
"""How much of the end of a log the viewer shows, in letters."""
NAMED_SECRETS = 1000
_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


class Packing:
    """A bundle in the making: add a job's records in order, then its logs, then finish it."""

    def __init__(self, policy: Policy) -> None:
        """Begin an empty one; leave it as a context to let go of its files."""
        self._stack = ExitStack()
        self._policy = policy
        self._changes = Changes(policy)
        self._bundle: IO[bytes] = tempfile.TemporaryFile(prefix="epochlog-")  # noqa: SIM115
        self._began = time.gmtime()[:6]
        self._zip = ZipFile(self._bundle, "w", ZIP_DEFLATED)
        self._events, self._shown, self._steps = (self._scratch() for _ in range(3))
        self._files: dict[str, dict[str, Any]] = {}
        self._last: Record | None = None
        self._skipped = 0
        self._secrets: list[int] = []
        self._redacted: dict[str, int] = {}
        self._logs: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Return the packing itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was only needed on the way, and the bundle too where it was not finished."""
        self._stack.close()
        if kind is not None:
            self._zip.close()
            self._bundle.close()

    def add(self, records: Sequence[Record]) -> None:
        """Take the next records."""
        for record in records:
            line = line_of(record)
            self._events.write(line)
            step = self._changes.add(record)
            if record.version > SHOWN_EVENTS and isinstance(record.event, Heartbeat):
                self._skipped += 1
            else:
                self._shown.write(line)
            self._steps.write(_json(step) + b"\n")
            if isinstance(record.event, Evidence):
                name = _UNSAFE.sub("-", record.event.kind.lower())[:40]
                self._put(f"{EVIDENCE_FOLDER}{record.version:06}-{name}.json", _pretty(record))
            if len(self._secrets) < NAMED_SECRETS and seems_to_hold_a_secret(line.decode()):
                self._secrets.append(record.position)
            self._last = record

    def add_log(self, attempt: int, text: str) -> None:
        """Take what an attempt's process printed, as far as it is there."""
        name = f"{LOGS_FOLDER}attempt-{attempt}.txt"
        text, count = redact(text)
        if count:
            self._redacted[name] = count
        self._put(name, [text.encode(errors="replace")])
        self._logs[str(attempt)] = text[-SHOWN_LOG:]

    def finish(self, *, log_id: str, exported_at: datetime, moment: Moment) -> IO[bytes]:
        """Return the whole bundle, at its beginning."""
        story = self._changes.story.finished(moment.now)
        why = self._changes.inquiry.finished(moment, self._policy)
        job = job_view(story.state, moment, self._policy)
        about = self._about(log_id, exported_at, moment)
        self._put(EVENTS, _chunks(self._events))
        self._put(JOB, [_json(job, indent=True)])
        self._put(TIMELINE, [_json(timeline_view(story, moment, self._policy), indent=True)])
        self._put(EXPLAIN, [_json(why, indent=True)])
        self._put(README, [_readme(story.state.id, exported_at)])
        shown = {"bundle": about, "job": job, "why": why, "logs": self._logs}
        self._put(VIEWER, self._page({**shown, "skipped": self._skipped}))
        self._put(MANIFEST, [_json({**about, "files": self._files}, indent=True)])
        self._zip.close()
        self._bundle.seek(0)
        return self._bundle

    def _about(self, log_id: str, exported_at: datetime, moment: Moment) -> dict[str, Any]:
        """Return the manifest as far as it is no list of files."""
        assert self._last is not None  # noqa: S101 - a job has at least the event that made it
        last = self._last
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "product_version": version("epochlog"),
            "log_id": log_id,
            "job_id": last.job_id,
            "exported_at": exported_at,
            "head": {"version": last.version, "position": last.position, "hash": last.hash},
            "moment": moment,
            "possible_secrets": self._secrets,
            "redacted": self._redacted,
        }

    def _page(self, about: dict[str, Any]) -> Iterator[bytes]:
        return viewer_page(
            {
                "about": [_json(about)],
                "events": _chunks(self._shown),
                "steps": _chunks(self._steps),
            }
        )

    def _put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file into the bundle and note its hash."""
        digest, size = sha256(), 0
        entry = ZipInfo(name, date_time=self._began)
        entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
        with self._zip.open(entry, "w", force_zip64=True) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self._files[name] = {"sha256": digest.hexdigest(), "bytes": size}

    def _scratch(self) -> IO[bytes]:
        return self._stack.enter_context(tempfile.TemporaryFile(prefix="epochlog-"))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK):
        yield chunk


def _readme(job_id: int, exported_at: datetime) -> bytes:
    told = {"job_id": job_id, "exported_at": f"{exported_at:%Y-%m-%d %H:%M:%S}"}
    return Template(readme()).substitute(told).encode()


def _pretty(record: Record) -> Iterator[bytes]:
    yield _json(event_view(record), indent=True)


def _json(value: Any, *, indent: bool = False) -> bytes:
    return orjson.dumps(value, option=_OPTIONS | (orjson.OPT_INDENT_2 if indent else 0))
