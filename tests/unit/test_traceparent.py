"""`traceparent`: what the trainer says, what the service takes, and that they mean the same."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.spans import attempt_span_id, epoch_span_id
from service.identifiers import new_trace_id
from service.traceparent import Parent, parent_in
from trainer.traceparent import Traceparent

TRACE = "9f1c658d-124d-4c95-ac5d-798baf29701e"
HEX = UUID(TRACE).hex
SPAN = "b7ad6b7169203331"
# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
W3C = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def header(trace_id: str = TRACE, **environment: str) -> str:
    said = Traceparent(trace_id, 1, environment).header()
    assert said is not None
    return said


@given(st.uuids().filter(lambda one: one.int), st.integers(1, 99), st.none() | st.integers(1, 999))
def test_what_a_trainer_says_is_valid_and_names_the_services_spans(
    trace: UUID, attempt: int, epoch: int | None
) -> None:
    said = Traceparent(str(trace), attempt, {})
    said.epoch = epoch

    value = said.header()

    assert value is not None
    assert W3C.fullmatch(value)
    span = (
        attempt_span_id(str(trace), attempt)
        if epoch is None
        else epoch_span_id(str(trace), attempt, epoch)
    )
    assert parent_in([value]) == Parent(trace.hex, span, sampled=False)


@pytest.mark.parametrize("trace_id", ["", "trace-7", "abc", str(UUID(int=0)), "9" * 33])
def test_an_id_that_names_no_trace_is_not_said(trace_id: str) -> None:
    assert Traceparent(trace_id, 1, ENDPOINT).header() is None


def test_a_jobs_trace_id_is_a_w3c_one() -> None:
    assert all(W3C.fullmatch(header(new_trace_id())) for _ in range(100))


@pytest.mark.parametrize(
    ("environment", "flags"),
    [
        ({}, "00"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, "00"),
        (ENDPOINT, "01"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, "01"),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, "00"),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, "01"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, "00"),
        (ENDPOINT | {"OTEL_TRACES_SAMPLER": "always_off"}, "00"),
        (ENDPOINT | {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, "00"),
        (ENDPOINT | {"OTEL_TRACES_SAMPLER": "unknown"}, "01"),
    ],
)
def test_it_says_that_spans_are_exported_where_they_are(
    environment: dict[str, str], flags: str
) -> None:
    assert header(**environment).endswith(f"-{flags}")


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
@pytest.mark.parametrize("ratio", ["0", "0.25", "0.5", "1", "", "many", "7"])
@given(trace=st.uuids(version=4))
def test_it_leaves_out_the_traces_that_opentelemetry_leaves_out(
    sampler: str, ratio: str, trace: UUID
) -> None:
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased  # noqa: PLC0415

    asked = float(ratio) if ratio in {"0", "0.25", "0.5"} else 1.0
    decided = TraceIdRatioBased(asked).should_sample(None, trace.int, "job").decision
    environment = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": ratio}

    flags = header(str(trace), **ENDPOINT, **environment)[-2:]

    assert (flags == "01") is (decided is Decision.RECORD_AND_SAMPLE)


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    found = parent_in([text])

    assert found is None or W3C.fullmatch(f"00-{found.trace_id}-{found.span_id}-00")


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{HEX}-{SPAN}-00", False),
        (f"00-{HEX}-{SPAN}-01", True),
        (f"00-{HEX}-{SPAN}-03", True),
        (f" 00-{HEX}-{SPAN}-01 ", True),
        (f"cc-{HEX}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_parent_is_read(value: str, sampled: bool) -> None:
    assert parent_in([value]) == Parent(HEX, SPAN, sampled)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [f"00-{HEX}-{SPAN}-01"] * 2,
        [f"00-{HEX}-{SPAN}-01-more"],
        [f"ff-{HEX}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{HEX}-{'0' * 16}-01"],
        [f"00-{HEX.upper()}-{SPAN}-01"],
        [f"00-{HEX}-{SPAN}-0"],
        [f"00{HEX}{SPAN}01"],
    ],
)
def test_what_is_no_parent_is_none(values: list[str]) -> None:
    assert parent_in(values) is None
