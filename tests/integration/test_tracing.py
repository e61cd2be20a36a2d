"""The spans of requests and of what they report, by way of OTLP to a real collector."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from projections.spans import attempt_span_id, epoch_span_id, job_span_id
from tests.collector import SERVER, Collector, Seen
from tests.conftest import StartService
from tests.http import Api
from tests.polling import eventually
from trainer.callbacks import Callbacks

CALLERS = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
async def traced_api(
    collector: Collector, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> Api:
    for name, value in collector.variables.items():
        monkeypatch.setenv(name, value)
    return await start_service()


async def spans(collector: Collector, name: str, count: int = 1) -> list[Seen]:
    await eventually(lambda: len(collector.named(name)) >= count)
    return collector.named(name)


async def the_only(collector: Collector, name: str) -> Seen:
    found = await spans(collector, name)
    assert len(found) == 1, found
    return found[0]


async def beat(api: Api, job: Any, *traceparents: str) -> Any:
    headers = {"traceparent": traceparents[0]} if traceparents else {}
    path = f"/v1/jobs/{job['id']}/heartbeat"
    answer = await api.call(
        "POST", path, {"epoch": 1}, token=job["callback_token"], headers=headers
    )
    assert answer.status == 200, answer.text
    return answer.json


HEARTBEAT = "POST /v1/jobs/{id}/heartbeat"


async def test_a_request_goes_on_in_the_trace_of_its_caller(
    traced_api: Api, collector: Collector
) -> None:
    job = await traced_api.create_job()

    recorded = await beat(traced_api, job, f"00-{CALLERS}-{SPAN}-01")

    request = await the_only(collector, HEARTBEAT)
    assert (request.trace_id, request.parent_id, request.kind) == (CALLERS, SPAN, SERVER)
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["epochlog.job_id"] == job["id"]
    appends = [one for one in collector.named("append") if one.parent_id == request.span_id]
    assert [one.trace_id for one in appends] == [CALLERS]
    assert appends[0].attributes["epochlog.position"] == recorded["position"]
    assert appends[0].attributes["epochlog.events"] == 1
    assert appends[0].attributes["epochlog.batch_events"] >= 1
    assert request.start <= appends[0].start <= appends[0].end <= request.end


async def test_a_request_without_a_trace_belongs_to_the_jobs(
    traced_api: Api, collector: Collector
) -> None:
    job = await traced_api.create_job()
    await beat(traced_api, job)

    made = await the_only(collector, "POST /v1/jobs")
    beaten = await the_only(collector, HEARTBEAT)

    trace = job["trace_id"]
    assert {made.trace_id, beaten.trace_id} == {UUID(trace).hex}
    assert made.parent_id == job_span_id(trace)
    assert beaten.parent_id == attempt_span_id(trace, 1)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "\xff" * 20,
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{CALLERS}-{'0' * 16}-01",
        f"00-{CALLERS.upper()}-{SPAN}-01",
        f"00-{CALLERS}-{SPAN}-01-more",
        f"ff-{CALLERS}-{SPAN}-01",
        f"00-{CALLERS}-{SPAN}",
    ],
)
async def test_a_malformed_traceparent_is_passed_over(
    traced_api: Api, collector: Collector, header: str
) -> None:
    job = await traced_api.create_job()

    await beat(traced_api, job, header)

    request = await the_only(collector, HEARTBEAT)
    assert request.parent_id == attempt_span_id(job["trace_id"], 1)


async def test_what_the_caller_does_not_sample_is_recorded_and_not_exported(
    traced_api: Api, collector: Collector
) -> None:
    job = await traced_api.create_job()

    await beat(traced_api, job, f"00-{CALLERS}-{SPAN}-00")
    await beat(traced_api, job, f"00-{CALLERS}-{SPAN}-01")

    await the_only(collector, HEARTBEAT)
    assert len(await traced_api.events(job, "heartbeat")) == 2


async def test_a_refusal_has_a_span_and_no_append(traced_api: Api, collector: Collector) -> None:
    job = await traced_api.create_job()
    path = f"/v1/jobs/{job['id']}/heartbeat"

    assert (await traced_api.call("POST", path, {}, token="no token of ours")).status == 401

    request = await the_only(collector, HEARTBEAT)
    assert request.attributes["http.response.status_code"] == 401
    assert request.error is None  # it is the caller's mistake
    assert not [one for one in collector.named("append") if one.parent_id == request.span_id]


async def test_probes_and_unknown_addresses_have_no_spans(
    traced_api: Api, collector: Collector
) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/v1/nowhere"):
        await traced_api.call("GET", path)
    await traced_api.get("/v1/jobs")

    await the_only(collector, "GET /v1/jobs")
    assert len(collector.spans) == 1


async def test_an_epoch_is_exported_while_the_attempt_goes_on(
    traced_api: Api, collector: Collector
) -> None:
    job = await traced_api.create_job()
    at = datetime.now(UTC)
    told = {"epoch": 4, "seconds": 2.5, "metrics": {"mAP50": 0.5}}

    await traced_api.call_back(
        job, "event", {"type": "epoch_end", "occurred_at": at.isoformat(), "data": told}
    )

    epoch = await the_only(collector, "epoch")
    assert epoch.span_id == epoch_span_id(job["trace_id"], 1, 4)
    assert epoch.parent_id == attempt_span_id(job["trace_id"], 1)
    assert epoch.attributes["epochlog.metrics.mAP50"] == 0.5
    # Longer than the attempt lasts by now, so it began with it.
    created = datetime.fromisoformat(job["created_at"])
    assert at - timedelta(seconds=1) < created
    assert 0 <= epoch.seconds < 2.5


async def test_our_trainers_callbacks_lie_in_the_epoch_that_runs(
    traced_api: Api, collector: Collector
) -> None:
    job = await traced_api.create_job()
    callbacks = Callbacks(
        base_url=traced_api.service.url,
        job_id=job["id"],
        trace_id=job["trace_id"],
        token=job["callback_token"],
        hear=lambda _directive: None,
    )
    for epoch in (None, 1, 2):
        callbacks.trace.epoch = epoch
        callbacks.event("said", within=epoch)
        assert await to_thread(callbacks.flush, 10)
    await to_thread(callbacks.done, {"status": "succeeded"}, patience=10)
    callbacks.close()

    said = await spans(collector, "POST /v1/jobs/{id}/event", 3)
    trace = job["trace_id"]
    assert {one.trace_id for one in said} == {UUID(trace).hex}
    assert [one.parent_id for one in sorted(said, key=lambda one: one.start)] == [
        attempt_span_id(trace, 1),
        epoch_span_id(trace, 1, 1),
        epoch_span_id(trace, 1, 2),
    ]
    job_span = await the_only(collector, "job")
    attempt = await the_only(collector, "attempt")
    assert (attempt.parent_id, job_span.parent_id) == (job_span.span_id, "")
    assert attempt.span_id == said[0].parent_id


async def test_the_variables_of_opentelemetry_are_honoured(
    collector: Collector, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/somewhere/else",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a-secret",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "ours",
    }.items():
        monkeypatch.setenv(name, value)
    api = await start_service()

    await api.get("/v1/jobs")

    assert (await the_only(collector, "GET /v1/jobs")).service == "ours"
    told = collector.requests[0]
    assert told["path"] == "/somewhere/else"
    assert told["api-key"] == "a-secret"
    assert told["content-encoding"] == "gzip"


async def test_a_job_that_the_sampler_leaves_out_is_left_out_whole(
    collector: Collector, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    for name, value in {**collector.variables, **sampler}.items():
        monkeypatch.setenv(name, value)
    api = await start_service()
    job = await api.create_job()

    await beat(api, job)
    await api.call_back(job, "done", {"status": "succeeded"})
    await beat(api, job, f"00-{CALLERS}-{SPAN}-01")  # whose caller does

    await the_only(collector, HEARTBEAT)
    assert {one.trace_id for one in collector.spans} == {CALLERS}
