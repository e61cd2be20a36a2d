"""Spans of what the service does and of what the log says, where somebody collects them.

Where nobody does, none of this is asked: the application has no middleware more, the log is a
plain `EventLog`, and no library is loaded.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from projections.events import AttemptFailed, Cancelled, Failed, Record, Succeeded
from projections.spans import Span, attempt_spans, epoch_span, epoch_under_way, job_span
from projections.timeline import Story
from service.batch import Outcome
from service.errors import SettingsError, StoreUnavailableError
from service.store import Store
from service.traceparent import Parent

MOST_ENDED = 1000
"""How many commits with an end of an attempt may wait for their spans to be made."""
CONCLUDE_SECONDS = 2.0
EXPORT_SECONDS = 2.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

_ENDS = AttemptFailed | Succeeded | Failed | Cancelled

log = structlog.get_logger(__name__)


class Exporter(Protocol):
    """Hands spans to whoever collects them; nothing here waits or fails because of it."""

    def samples(self, trace_id: str, name: str, parent: Parent | None) -> bool:
        """Return whether a span that begins a trace, or belongs to this parent, is exported."""

    def export(self, span: Span) -> None:
        """Export the span some time soon."""

    def close(self, seconds: float) -> None:
        """Export what waits, as far as that is possible within the time."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """Attempts of a job whose spans are due."""

    job_id: int
    attempts: tuple[int, ...]
    position: int
    now: datetime
    is_over: bool
    """The job has ended with them."""


@dataclass(slots=True)
class Tracing:
    """Makes the spans of one service."""

    exporter: Exporter
    store: Store
    _ended: asyncio.Queue[_Ended] = field(default_factory=lambda: asyncio.Queue(MOST_ENDED))
    _committed: frozenset[int] = frozenset()
    """What the last commit has answered, by identity."""
    _batch_events: int = 0

    def committed(self, answers: Sequence[Outcome | Exception]) -> None:
        """Make the spans that a commit has ended, or have them made soon; never fails."""
        outcomes = [one for one in answers if isinstance(one, Outcome)]
        self._committed = frozenset(map(id, outcomes))
        self._batch_events = sum(len(one.records) for one in outcomes)
        for outcome in outcomes:
            try:
                self._note(outcome)
            except Exception:
                log.exception("spans_lost", job_id=outcome.state.id)

    def events_beside(self, outcome: Outcome) -> int | None:
        """Return how many events were committed together with what has just become of a command."""
        return self._batch_events if id(outcome) in self._committed else None

    async def run(self) -> None:
        """Make the spans of what has ended, until cancelled."""
        while True:
            await self._tell(await self._ended.get())

    async def conclude(self) -> None:
        """Make and export what is still due, as far as that is possible in a few seconds."""
        try:
            async with asyncio.timeout(CONCLUDE_SECONDS):
                while not self._ended.empty():
                    await self._tell(self._ended.get_nowait())
        except TimeoutError:
            log.warning("spans_lost", commits=self._ended.qsize() + 1)
        await asyncio.to_thread(self.exporter.close, EXPORT_SECONDS)

    def _note(self, outcome: Outcome) -> None:
        ends = []
        for record in outcome.records:
            if span := epoch_span(record, outcome.state):
                self._export(span)
            elif isinstance(record.event, _ENDS) and record.rule is None:
                ends.append(record)
        if ends:
            self._note_ended(ends, outcome)

    def _note_ended(self, ends: Sequence[Record], outcome: Outcome) -> None:
        ended = _Ended(
            job_id=outcome.state.id,
            attempts=tuple(sorted({record.attempt for record in ends})),
            position=ends[-1].position,
            now=outcome.now,
            is_over=outcome.state.status.is_final,
        )
        try:
            self._ended.put_nowait(ended)
        except asyncio.QueueFull:
            log.warning("spans_lost", job_id=ended.job_id)

    async def _tell(self, ended: _Ended) -> None:
        """Export what has ended; a failure loses it and nothing else."""
        try:
            await self._spans_of(ended)
        except StoreUnavailableError as error:
            log.warning("spans_lost", job_id=ended.job_id, error=str(error))
        except Exception:
            log.exception("spans_lost", job_id=ended.job_id)

    async def _spans_of(self, ended: _Ended) -> None:
        story, known, under_way = Story(), set(), Counter[int]()
        async for page in self.store.history(ended.job_id, position=ended.position):
            for record in page:
                story.add(record)
                if span := epoch_span(record, story.state):
                    known.add(span.span_id)
                elif epoch := epoch_under_way(record):
                    under_way[record.attempt] = max(under_way[record.attempt], epoch)
        told = story.finished(ended.now)
        for attempt in ended.attempts:
            for span in attempt_spans(told, attempt, under_way[attempt]):
                if span.span_id not in known:
                    self._export(span)
        if ended.is_over:
            self._export(job_span(told.state))

    def _export(self, span: Span) -> None:
        """Export a span of a job's trace, where that trace is sampled."""
        if self.exporter.samples(span.trace_id, span.name, None):
            self.exporter.export(span)


def random_id(bits: int) -> str:
    """Return a random id in hexadecimal digits; all zeros are none."""
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"


def open_tracing(environ: Mapping[str, str], store: Store) -> Tracing | None:
    """Return what makes spans; None, and nothing is loaded, where nobody collects them.

    Raises SettingsError.
    """
    if not is_wanted(environ):
        return None
    from service.otlp import OtlpExporter  # noqa: PLC0415 - an optional extra

    try:
        return Tracing(OtlpExporter(), store)
    except ValueError as error:
        raise SettingsError(f"A variable of OpenTelemetry is wrong: {error}") from error


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether spans are to be exported, by OpenTelemetry's variables.

    Raises SettingsError where they ask for what there is not.
    """

    def value(name: str) -> str:
        return environ.get(name, "").strip()

    endpoint = next((name for name in ENDPOINTS if value(name)), None)
    exporter = value("OTEL_TRACES_EXPORTER").lower()
    is_disabled = value("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none"
    if endpoint is None or is_disabled:
        return False
    if exporter not in {"", "otlp"}:
        raise SettingsError("OTEL_TRACES_EXPORTER needs to be `otlp` or `none`.")
    if not value(endpoint).lower().startswith(("http://", "https://")):
        raise SettingsError(f"{endpoint} needs a URL such as http://collector:4318.")
    protocol = next((name for name in PROTOCOLS if value(name)), None)
    if protocol is not None and value(protocol).lower() != "http/protobuf":
        raise SettingsError(f"{protocol} needs to be `http/protobuf`, the one that is spoken here.")
    return True
