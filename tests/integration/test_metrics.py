"""What Prometheus is told is what has happened."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from service.embedded import EmbeddedPostgres
from tests.conftest import StartService
from tests.http import NEW_JOB, Api
from tests.integration.test_api_outage import server
from tests.polling import eventually
from tests.streams import Subscriber

__all__ = ["server"]


async def scraped(api: Api) -> dict[str, float]:
    """Every sample, by its name and labels."""
    answer = await api.call("GET", "/metrics", token="")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return dict(_samples(answer.text))


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            yield f"{sample.name}{{{labels}}}" if labels else sample.name, sample.value


async def test_events_callbacks_and_commits_are_counted(still_api: Api) -> None:
    job = await still_api.create_job()
    beat = {"epoch": 1, "event_id": str(uuid4())}
    await still_api.call_back(job, "heartbeat", beat)
    await still_api.call_back(job, "heartbeat", beat)
    await still_api.call_back(job, "heartbeat", {**beat, "epoch": 2})
    await still_api.call_back(job, "callbacks", {"callbacks": [{"kind": "heartbeat"}] * 5})
    await still_api.call_back(job, "heartbeat", {"epoch": "one"})
    await still_api.call_back(job | {"callback_token": "x"}, "heartbeat")
    await still_api.call_back(job, "done", {"status": "succeeded"})
    await still_api.call_back(job, "heartbeat")

    await eventually(lambda: still_api.service.instance.feed.lag == 0)
    now = await scraped(still_api)

    position = now["epochlog_log_position"]
    assert now["epochlog_callbacks_total{answer=applied}"] == 7
    assert now["epochlog_callbacks_total{answer=duplicate}"] == 1
    assert now["epochlog_callbacks_total{answer=set_aside}"] == 1
    assert now["epochlog_callbacks_total{answer=event_id_conflict}"] == 1
    assert now["epochlog_callbacks_total{answer=invalid_request}"] == 1
    assert now["epochlog_callbacks_total{answer=token_invalid}"] == 1
    assert now["epochlog_events_appended_total{type=created}"] == 1
    assert now["epochlog_events_appended_total{type=heartbeat}"] == 7
    assert now["epochlog_batch_events_sum"] == position
    assert now["epochlog_batch_events_count"] == now["epochlog_commit_seconds_count"] == 5
    assert now["epochlog_commit_seconds_sum"] > 0
    assert now["epochlog_queue_length"] == now["epochlog_feed_lag"] == 0
    assert now["process_resident_memory_bytes"] > 0


async def test_jobs_are_counted_by_status_and_subscribers_while_they_listen(
    still_api: Api,
) -> None:
    first, _ = await still_api.create_job(), await still_api.create_job()
    await still_api.call_back(first, "heartbeat")

    async with Subscriber(still_api.service.url, "/v1/stream", still_api.service.api_token):
        now = await scraped(still_api)

    assert now["epochlog_jobs{status=pending}"] == now["epochlog_jobs{status=running}"] == 1
    assert now["epochlog_jobs{status=failed}"] == 0
    assert now["epochlog_subscribers"] == 1


async def test_who_leads_is_told_by_each_service_for_itself(
    api: Api, start_service: StartService
) -> None:
    other = await start_service(EPOCHLOG_STATE_DIR=f"{api.service.instance.settings.state_dir}-2")
    await eventually(lambda: api.service.instance.candidate.leads)

    leading, waiting = await scraped(api), await scraped(other)

    assert (leading["epochlog_leader"], waiting["epochlog_leader"]) == (1, 0)
    assert leading["epochlog_lease_term"] == waiting["epochlog_lease_term"] == 1


async def test_two_services_of_a_process_count_for_themselves(
    still_api: Api, start_service: StartService
) -> None:
    await still_api.create_job()
    other = await start_service(
        EPOCHLOG_STATE_DIR=f"{still_api.service.instance.settings.state_dir}-2"
    )

    assert (await scraped(still_api))["epochlog_events_appended_total{type=created}"] == 1
    assert "epochlog_events_appended_total{type=created}" not in await scraped(other)


async def test_without_the_database_the_process_still_tells_of_itself(
    server: tuple[EmbeddedPostgres, str], start_service: StartService
) -> None:
    postgres, url = server
    api = await start_service(EPOCHLOG_DATABASE_URL=url)
    await api.create_job()
    await postgres.stop()

    now = await scraped(api)

    assert now["epochlog_events_appended_total{type=created}"] == 1
    assert "epochlog_jobs{status=pending}" not in now
    assert (await api.post("/v1/jobs", NEW_JOB)).status == 503
    await postgres.start()
