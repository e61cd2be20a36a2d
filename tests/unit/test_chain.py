import json
from dataclasses import fields, replace
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.chain import GENESIS, canonical, link
from projections.events import Data, Evidence, Record, Source, Succeeded, TrainerEvent, decode
from projections.events import encode as data_of
from tests import generated
from tests.given import START

RECORD = Record(
    position=1234,
    job_id=7,
    version=12,
    attempt=1,
    event_id="01990000-0000-7000-8000-000000000000",
    source=Source.TRAINER,
    trace_id="abc-def",
    seq=3,
    occurred_at=START,
    recorded_at=START + timedelta(seconds=1),
    event=TrainerEvent(type="epoch_end", data={"epoch": 1, "metrics": {"mAP50": 0.5, "loss": 2.0}}),
)


def holding(data: Data) -> Record:
    return replace(RECORD, event=Evidence(kind="test", data=data))


def as_jsonb_keeps(value: Any) -> Any:
    """What is read back: jsonb keeps a number as a decimal and prints it without an exponent."""
    match value:
        case bool():
            return value
        case int() | float():
            return _read(f"{Decimal(json.dumps(value)):f}")
        case dict():
            return {key: as_jsonb_keeps(value[key]) for key in sorted(value, key=len)}
        case list():
            return [as_jsonb_keeps(item) for item in value]
        case _:
            return value


def _read(printed: str) -> int | float:
    """Read a number as orjson does: an integer only where 64 bits hold it."""
    number = json.loads(printed)
    return number if isinstance(number, float) or -(2**63) <= number < 2**64 else float(number)


def test_the_documented_example() -> None:
    assert canonical(RECORD).decode() == (
        '{"attempt":1,"data":{"data":{"epoch":1,"metrics":{"loss":2,"mAP50":0.5}},'
        '"type":"epoch_end"},"event_id":"01990000-0000-7000-8000-000000000000","job_id":7,'
        '"occurred_at":"2026-11-23T01:02:03.456789Z","position":1234,'
        '"recorded_at":"2026-11-23T01:02:04.456789Z","rule":null,"seq":3,"source":"trainer",'
        '"trace_id":"abc-def","type":"trainer_event","version":12}'
    )
    assert link(RECORD, GENESIS) == (
        "4100f60041d289c0cb6a00bef0c2ebcc00cc5914aa62bd47e6fa4f26587106fa"
    )


def test_the_first_hash_stands_on_sixty_four_zeros() -> None:
    assert GENESIS == "0" * 64


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECORD, position=1235),
        replace(RECORD, job_id=8),
        replace(RECORD, version=13),
        replace(RECORD, attempt=2),
        replace(RECORD, event_id="01990000-0000-7000-8000-000000000001"),
        replace(RECORD, source=Source.API),
        replace(RECORD, trace_id="abc-deg"),
        replace(RECORD, seq=None),
        replace(RECORD, occurred_at=START + timedelta(microseconds=1)),
        replace(RECORD, recorded_at=START),
        replace(RECORD, rule="stale_attempt"),
        replace(RECORD, event=Succeeded()),
        replace(RECORD, event=TrainerEvent(type="epoch_end", data={"epoch": 2})),
    ],
    ids=lambda record: next(
        field.name
        for field in fields(Record)
        if getattr(record, field.name) != getattr(RECORD, field.name)
    ),
)
def test_the_hash_covers_every_field(changed: Record) -> None:
    assert link(changed, GENESIS) != link(RECORD, GENESIS)


def test_the_hash_covers_the_hash_before_but_not_itself() -> None:
    assert link(RECORD, "1" * 64) != link(RECORD, GENESIS)
    assert link(replace(RECORD, hash="f" * 64), GENESIS) == link(RECORD, GENESIS)


def test_the_hash_does_not_depend_on_the_readers_time_zone() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    elsewhere = replace(RECORD, occurred_at=RECORD.occurred_at.astimezone(india))

    assert link(elsewhere, GENESIS) == link(RECORD, GENESIS)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param(1.0, 1, id="whole"),
        pytest.param(-0.0, 0, id="minus zero"),
        pytest.param(1e22, 10**22, id="1e22"),
        pytest.param(1e23, 10**23, id="1e23, which no float is"),
        pytest.param(1e23, 1e23, id="1e23 read as a float"),
        pytest.param(1.8446744073709552e19, 18446744073709552000, id="just over 64 bits"),
        pytest.param(10**400, 10**400, id="longer than any float"),
        pytest.param([1.0, {"a": 2.0}], [1, {"a": 2}], id="deep inside"),
        pytest.param((1, 2), [1, 2], id="a tuple is a list"),
        pytest.param({"b": 1, "a": 2}, {"a": 2, "b": 1}, id="the order of names"),
        pytest.param("Zürich 🚀 \u2028", "Zürich 🚀 \u2028", id="unicode"),
    ],
)
def test_what_jsonb_spells_in_another_way_has_the_same_hash(written: Any, read: Any) -> None:
    assert canonical(holding({"x": written})) == canonical(holding({"x": read}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(1, True, id="1 and true"),
        pytest.param(1, "1", id="1 and its text"),
        pytest.param(0.1, 0.10000000000000002, id="neighbours"),
        pytest.param(2**63 - 1, 2**63 - 2, id="large integers"),
        pytest.param("é", "e\u0301", id="two spellings of a letter"),
        pytest.param(None, {}, id="null and an empty object"),
    ],
)
def test_what_jsonb_tells_apart_has_another_hash(one: Any, other: Any) -> None:
    assert canonical(holding({"x": one})) != canonical(holding({"x": other}))


@given(generated.data)
def test_the_hash_survives_the_database(data: Data) -> None:
    stored = as_jsonb_keeps(data_of(holding(data).event))

    read = replace(RECORD, event=decode("evidence", stored))

    assert link(read, GENESIS) == link(holding(data), GENESIS)


@given(generated.records, st.integers(0, 11))
def test_any_record_survives_the_database(record: Record, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    stored = as_jsonb_keeps(data_of(record.event))

    read = replace(
        record,
        event=decode(record.type, stored),
        occurred_at=record.occurred_at.astimezone(zone),
    )

    assert (
        link(read, GENESIS) == link(record, GENESIS) == link(replace(read, stored=stored), GENESIS)
    )


def test_a_verifier_that_passes_what_is_stored_sees_what_decoding_would_drop() -> None:
    record = replace(RECORD, event=Succeeded(because=(3,)))
    forged = {"because": [3], "by": "an admirer"}

    assert link(replace(record, stored={"because": [3]}), GENESIS) == link(record, GENESIS)
    assert link(replace(record, stored=forged), GENESIS) != link(record, GENESIS)
