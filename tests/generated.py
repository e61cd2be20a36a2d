"""Generated events, for tests of what must hold for all of them."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from projections.events import (
    KINDS,
    Adopted,
    AttemptFailed,
    CancelDelivered,
    Cancelled,
    CancelRequested,
    Created,
    Data,
    Done,
    Event,
    Evidence,
    Exited,
    Failed,
    FailureClass,
    HealthChanged,
    Heartbeat,
    Heartbeats,
    Queued,
    Record,
    RetryScheduled,
    Running,
    Source,
    StopRequested,
    Succeeded,
    TokenIssued,
    TrainerEvent,
    Unrecognised,
)

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=10)
counts = st.integers(0, 2**31)
positions = st.lists(st.integers(1, 2**62), max_size=3).map(tuple)
decimals = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.integers(-(2**63), 2**64 - 1) | decimals
metrics = st.dictionaries(names, numbers, max_size=3)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
data = st.dictionaries(words, values, max_size=3)
classes = st.sampled_from(FailureClass)
codes = st.none() | st.integers(0, 255)


def extra_of(kind: type[Event]) -> SearchStrategy[Data]:
    """What a newer trainer may say beyond the fields that this build knows."""
    known = {field.name for field in fields(kind)} - {"extra"}
    unknown = (names | st.just("extra")).filter(lambda name: name not in known)
    return st.dictionaries(unknown, values, max_size=2)


heartbeats = st.builds(
    Heartbeat,
    epoch=st.none() | counts,
    epochs=st.none() | st.integers(1, 2**31),
    progress=st.none() | st.floats(0, 1),
    batch=st.none() | counts,
    batches=st.none() | counts,
    metrics=metrics,
    gpu=data,
    extra=extra_of(Heartbeat),
)
times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.isoformat() + "Z"
)
rolled_up = st.builds(
    Heartbeats,
    from_version=counts,
    from_position=counts,
    count=counts,
    first_at=times,
    last_at=times,
    min_gap_seconds=st.floats(0, 1e6),
    max_gap_seconds=st.floats(0, 1e6),
    seqs=st.lists(st.tuples(counts, counts), max_size=3).map(tuple),
    advanced_at=st.none() | times,
    epoch=st.none() | counts,
    epochs=st.none() | st.integers(1, 2**31),
    progress=st.none() | st.floats(0, 1),
    batch=st.none() | counts,
    batches=st.none() | counts,
    metrics=metrics,
    gpu=data,
)
trainer_events = st.builds(
    TrainerEvent,
    type=st.sampled_from(
        [
            "epoch_end",
            "epoch_end",
            "checkpoint_saved",
            "checkpoint_damaged",
            "phase_started",
            "callbacks_dropped",
            "traceback",
            "tracking_started",
        ]
    )
    | words,
    data=data
    | st.fixed_dictionaries(
        {},
        optional={
            "epoch": st.integers(0, 12) | values,
            "metrics": metrics | values,
            "seconds": values,
            "uri": st.sampled_from(["s3://b/a", "s3://b/b"]) | words | values,
            "phase": words | values,
            "seqs": st.lists(st.lists(counts, min_size=2, max_size=2), max_size=2) | values,
            "count": counts | values,
            "exception": words | values,
            "lines": st.lists(words, max_size=2) | values,
            "mlflow_run_id": words | values,
            "message": words | values,
            "redone": values,
            "best": st.fixed_dictionaries({"uri": words}) | values,
        },
    ),
    extra=extra_of(TrainerEvent),
)
dones = st.builds(
    Done,
    status=st.sampled_from(["succeeded", "failed"]),
    mlflow_run_id=st.none() | words,
    artifacts=st.lists(data, max_size=2).map(tuple),
    metrics=metrics,
    error=st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "code": st.sampled_from(["terminated", "cancelled", "out_of_memory"]) | values,
            "message": values,
            "retryable": st.booleans() | values,
        },
    ).filter(bool),
    extra=extra_of(Done),
)
created = st.builds(
    Created,
    dataset_id=words,
    model_name=words,
    epochs=st.integers(1, 1000),
    max_retries=st.integers(0, 5),
    imgsz=st.none() | counts,
    batch=st.none() | counts,
    params=data,
    labels=st.dictionaries(words, words, max_size=2),
    priority=st.integers(-9, 9),
    cluster=st.none() | words,
    idempotency_key=st.none() | words,
)
retries = st.builds(
    RetryScheduled,
    reason=names,
    message=words,
    failure_class=classes,
    next_attempt=st.integers(1, 5),
    retry_count_before=counts,
    retry_count_after=counts,
    max_retries=counts,
    interruptions_before=counts,
    interruptions_after=counts,
    max_interruptions=counts,
    delay_seconds=st.floats(0, 600),
    checkpoint=st.none() | words,
    because=positions,
)
decisions = st.one_of(
    st.builds(CancelDelivered, because=positions),
    st.builds(StopRequested, reason=names, message=words, because=positions),
    st.builds(
        HealthChanged,
        verdict=names,
        previous=names,
        alive_at=st.none() | words,
        advanced_at=st.none() | words,
        timeout_seconds=st.none() | st.floats(0, 1e6),
    ),
    st.builds(
        AttemptFailed,
        reason=names,
        message=words,
        failure_class=classes,
        exit_code=codes,
        signal=codes,
        because=positions,
    ),
    retries,
    st.builds(Succeeded, because=positions),
    st.builds(Failed, reason=names, message=words, why=names, because=positions),
    st.builds(Cancelled, reason=names, message=words, because=positions),
)
facts = st.one_of(
    created,
    st.builds(Queued, reason=names, message=words, executor=st.none() | names),
    st.builds(Running, reason=names, message=words, handle=st.none() | words),
    st.builds(Adopted, handle=words, message=words),
    st.builds(
        Exited,
        exit_code=codes,
        signal=codes,
        machine_lost=st.booleans(),
        refused=st.booleans(),
        message=words,
    ),
    st.builds(Evidence, kind=names, data=data),
    st.builds(TokenIssued, jti=words, expires_at=words),
    st.builds(CancelRequested, reason=st.none() | words),
)
unrecognised = st.builds(Unrecognised, type=names.filter(lambda name: name not in KINDS), data=data)
callbacks = st.one_of(heartbeats, trainer_events, dones)
events: SearchStrategy[Event] = st.one_of(facts, callbacks, rolled_up, decisions, unrecognised)

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
records = st.builds(
    Record,
    position=st.integers(1, 2**62),
    job_id=st.integers(1, 2**31),
    version=st.integers(1, 2**31),
    attempt=st.integers(1, 9),
    event_id=st.uuids().map(str),
    source=st.sampled_from(Source),
    trace_id=words,
    seq=st.none() | counts,
    occurred_at=moments,
    recorded_at=moments,
    event=events,
    rule=st.none() | names,
)


def as_log(attempts_and_events: Iterable[tuple[int, Event]], start: datetime) -> list[Record]:
    """Return a log of these events as any build, or nobody sane, may have written them."""
    return [
        Record(
            position=10 * number,
            job_id=7,
            version=number,
            attempt=attempt,
            event_id=f"event-{number}",
            source=Source.API,
            trace_id="abc-def",
            seq=number,
            occurred_at=start,
            recorded_at=start,
            event=event,
        )
        for number, (attempt, event) in enumerate(attempts_and_events, start=1)
    ]
