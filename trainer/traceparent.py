"""The header `traceparent`: tells the service in which span of the job's trace a request is made.

The spans themselves are made by the service, from what it is told. Their ids follow from the trace
id, the attempt and the epoch, by the rule of docs/tracing.md, so nothing has to be handed over.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from hashlib import sha256

HEADER = "traceparent"


class Traceparent:
    """Where in the trace an attempt is: in an epoch, or only in itself."""

    def __init__(self, trace_id: str, attempt: int, environment: Mapping[str, str]) -> None:
        """Take the job's trace id; without one that is a UUID there is no header."""
        self._trace = _hex(trace_id)
        self._path = f"attempt/{attempt}"
        self._flags = "01" if self._trace and _sampled(self._trace, environment) else "00"
        self.epoch: int | None = None
        """The epoch that runs now, or was the last to run in its phase."""

    def header(self) -> str | None:
        """Return the header's value now."""
        if self._trace is None:
            return None
        epoch = self.epoch
        path = self._path if epoch is None else f"{self._path}/epoch/{epoch}"
        return f"00-{self._trace}-{span_id(self._trace, path)}-{self._flags}"


def span_id(trace: str, path: str) -> str:
    """Return the id of the span that stands for this, within a trace of 32 hexadecimal digits."""
    digest = sha256(f"{trace}/{path}".encode()).digest()[:8]
    return (digest if any(digest) else b"\1" * 8).hex()  # all zeros are no id


def _hex(trace_id: str) -> str | None:
    try:
        number = uuid.UUID(trace_id)
    except ValueError:
        return None
    return number.hex if number.int else None


def _sampled(trace: str, environment: Mapping[str, str]) -> bool:
    """Return whether spans of this trace are exported, by OpenTelemetry's own variables."""

    def value(name: str) -> str:
        return environment.get(name, "").strip().lower()

    if not (value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or value("OTEL_EXPORTER_OTLP_ENDPOINT")):
        return False
    if value("OTEL_SDK_DISABLED") == "true" or value("OTEL_TRACES_EXPORTER") == "none":
        return False
    match value("OTEL_TRACES_SAMPLER").removeprefix("parentbased_"):
        case "always_off":
            return False
        case "traceidratio":
            return int(trace[16:], 16) < round(_ratio(value("OTEL_TRACES_SAMPLER_ARG")) * 2**64)
        case _:
            return True


def _ratio(text: str) -> float:
    try:
        ratio = float(text or 1)
    except ValueError:
        return 1.0
    return ratio if 0 <= ratio <= 1 else 1.0
