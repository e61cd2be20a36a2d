"""The trainer's environment: what it is told, and what it never gets."""

from __future__ import annotations

import pytest

from projections.events import TrainerEvent
from projections.resume import resume
from service.launching import trainer_environment
from service.settings import Settings
from service.template_rules import STORAGE_KEYS
from tests.given import Given, a_running_job

KEYS = {
    "R2_ACCESS_KEY_ID": "reads",
    "R2_SECRET_ACCESS_KEY": "reads-secret",
    "R2_WRITE_ACCESS_KEY_ID": "writes",
    "R2_WRITE_SECRET_ACCESS_KEY": "writes-secret",
    "AWS_SECRET_ACCESS_KEY": "never",
}
OTEL = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
    "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_SDK_DISABLED": "false",
    "OTEL_TRACES_EXPORTER": "otlp",
}


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, **OTEL, "OTEL_SERVICE_NAME": "us", "LOG_FORMAT": "json"}.items():
        monkeypatch.setenv(name, value)


def environment(job: Given, **settings: str) -> dict[str, str]:
    environ = {f"EPOCHLOG_{name.upper()}": value for name, value in settings.items()}
    return trainer_environment(
        job.state,
        Settings.from_env(environ),
        token="a.callback.token",
        service_url="http://127.0.0.1:8080",
        resume=resume(job.records),
    )


def a_job_that_was_saved() -> Given:
    saved = {"epoch": 3, "uri": "s3://b/checkpoint-1.pt"}
    return a_running_job().hears(
        TrainerEvent(type="tracking_started", data={"mlflow_run_id": "run-1"}),
        TrainerEvent(type="checkpoint_saved", data=saved),
    )


def test_a_first_attempt_has_nothing_to_go_on_from() -> None:
    told = environment(Given())

    assert not {"RESUME_FROM", "MLFLOW_RUN_ID", "IMGSZ"} & told.keys()
    assert (told["JOB_ID"], told["ATTEMPT"], told["STORAGE_ACCESS"]) == ("7", "1", "keys")


def test_a_further_attempt_goes_on_in_the_same_run() -> None:
    told = environment(a_job_that_was_saved().done("failed"))

    assert told["RESUME_FROM"] == "s3://b/checkpoint-1.pt"
    assert told["MLFLOW_RUN_ID"] == "run-1"


def test_it_goes_on_from_what_came_too_late_to_count() -> None:
    late = TrainerEvent(type="checkpoint_saved", data={"epoch": 4, "uri": "s3://b/late.pt"})

    job = a_job_that_was_saved().done("failed").hears(late, attempt=1)

    assert environment(job)["RESUME_FROM"] == "s3://b/late.pt"


def test_the_keys_of_the_store_are_handed_on() -> None:
    told = environment(Given())

    assert [told[name] for name in STORAGE_KEYS] == [KEYS[name] for name in STORAGE_KEYS]
    assert "AWS_SECRET_ACCESS_KEY" not in told


def test_with_signed_addresses_no_key_is() -> None:
    told = environment(Given(), storage_access="presigned", storage_type="s3", bucket="trainings")

    assert told["STORAGE_ACCESS"] == "presigned"
    assert not KEYS.keys() & told.keys()
    assert not set(KEYS.values()) & set(told.values())


def test_logs_and_traces_are_told_where_ours_are() -> None:
    told = environment(Given())

    assert told["LOG_FORMAT"] == "json"
    assert {name: told[name] for name in OTEL} == OTEL
    assert "OTEL_SERVICE_NAME" not in told
