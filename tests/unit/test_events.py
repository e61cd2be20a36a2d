import json
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.events import (
    KINDS,
    Created,
    Data,
    Done,
    Event,
    FailureClass,
    Heartbeat,
    Queued,
    RetryScheduled,
    Succeeded,
    TrainerEvent,
    Unrecognised,
    decode,
    encode,
    type_of,
)
from tests import generated

# What is in every database that was ever written. A name may be added; none may go or change.
STORED = {
    "created": "batch cluster dataset_id epochs idempotency_key imgsz labels max_retries model_name"
    " params priority",
    "queued": "executor message place pod reason",
    "launched": "handle message uid",
    "running": "handle message pod reason",
    "adopted": "handle message",
    "heartbeat": "batch batches epoch epochs gpu metrics progress",
    "heartbeats": "advanced_at batch batches count epoch epochs first_at from_position from_version"
    " gpu last_at max_gap_seconds metrics min_gap_seconds progress seqs",
    "trainer_event": "data type",
    "done": "artifacts error metrics mlflow_run_id status",
    "terminating": "handle message reason",
    "exited": "cause exit_code machine_lost message node refused signal",
    "evidence": "data kind",
    "token_issued": "expires_at jti",
    "cancel_requested": "reason",
    "cancel_delivered": "because",
    "stop_requested": "because message reason",
    "health_changed": "advanced_at alive_at previous timeout_seconds verdict",
    "attempt_failed": "because exit_code failure_class message reason signal",
    "retry_scheduled": "because checkpoint delay_seconds failure_class interruptions_after"
    " interruptions_before max_interruptions max_retries message next_attempt reason"
    " retry_count_after retry_count_before",
    "succeeded": "because",
    "failed": "because message reason why",
    "cancelled": "because message reason",
}


def fields_of(kind: type[Event]) -> str:
    assert is_dataclass(kind)
    return " ".join(sorted(field.name for field in fields(kind) if field.name != "extra"))


def through_json(event: Event) -> Event:
    return decode(type_of(event), json.loads(json.dumps(encode(event))))


def test_the_names_in_the_log_stay_what_they_are() -> None:
    assert {name: fields_of(kind) for name, kind in KINDS.items()} == STORED


@given(generated.events)
def test_every_event_comes_back_from_json_as_it_was(event: Event) -> None:
    assert through_json(event) == event


@given(generated.events)
def test_stored_data_is_json_without_fields_that_say_nothing(event: Event) -> None:
    data = encode(event)

    json.dumps(data, allow_nan=False)
    unknown = set(getattr(event, "extra", {})) | set(getattr(event, "data", {}))
    assert all(value not in (None, (), {}) for name, value in data.items() if name not in unknown)


@given(st.sampled_from(["heartbeat", "trainer_event", "done"]), generated.data)
def test_an_older_service_stores_what_a_newer_trainer_says(name: str, news: Data) -> None:
    known = {"trainer_event": {"type": "t"}, "done": {"status": "failed"}}.get(name, {})
    said = {**{f"new_{key}": value for key, value in news.items()}, **known}

    assert encode(decode(name, said)) == said


def test_an_event_of_an_unknown_type_is_kept_as_it_is() -> None:
    event = decode("pod_thawed", {"node": "n1", "nothing": None})

    assert event == Unrecognised(type="pod_thawed", data={"node": "n1", "nothing": None})
    assert (type_of(event), encode(event)) == ("pod_thawed", {"node": "n1", "nothing": None})


def test_a_newer_builds_control_event_is_understood_without_its_new_fields() -> None:
    event = decode("succeeded", {"because": [3], "new": 1})

    assert event == Succeeded(because=(3,))


def test_a_failure_class_of_a_newer_build_reads_as_retryable() -> None:
    scheduled = RetryScheduled(
        reason="r",
        message="m",
        failure_class=FailureClass.FATAL,
        next_attempt=2,
        retry_count_before=0,
        retry_count_after=1,
        max_retries=3,
        interruptions_before=0,
        interruptions_after=0,
        max_interruptions=10,
        delay_seconds=30,
    )

    event = decode("retry_scheduled", {**encode(scheduled), "failure_class": "cosmic"})

    assert isinstance(event, RetryScheduled)
    assert event.failure_class is FailureClass.RETRYABLE


def test_a_trainer_cannot_name_its_event_into_a_control_event() -> None:
    event = TrainerEvent(type="succeeded", data={})

    assert type_of(event) == "trainer_event"
    assert encode(event) == {"type": "succeeded"}


def test_an_unknown_field_never_hides_a_known_one() -> None:
    heartbeat = Heartbeat(epoch=3, extra={"epoch": 99, "mood": "good"})

    assert encode(heartbeat) == {"epoch": 3, "mood": "good"}


@pytest.mark.parametrize(
    ("event", "data"),
    [
        pytest.param(
            Queued(reason="r", message="", executor=None),
            {"reason": "r", "message": ""},
            id="an empty text is kept, None is not",
        ),
        pytest.param(
            Heartbeat(epoch=0, progress=0.0), {"epoch": 0, "progress": 0.0}, id="zero is kept"
        ),
        pytest.param(
            Done(status="succeeded", artifacts=({"name": "best.pt", "uri": None},)),
            {"status": "succeeded", "artifacts": [{"name": "best.pt", "uri": None}]},
            id="what lies deeper is kept as it is",
        ),
        pytest.param(
            Created(dataset_id="d", model_name="m", epochs=1),
            {"dataset_id": "d", "model_name": "m", "epochs": 1, "max_retries": 3, "priority": 0},
            id="defaults are written out",
        ),
    ],
)
def test_the_stored_form(event: Event, data: Data) -> None:
    assert encode(event) == data
