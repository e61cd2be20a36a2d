"""What is spelled quickly is what the hash chain spells."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.chain import spelled
from projections.events import Heartbeat, Record, TrainerEvent
from service.spelling import quick_spelling
from tests import generated
from tests.given import START


def of(event: Heartbeat | TrainerEvent) -> Record:
    """Return a record of the event that nobody has spelled yet."""
    record = generated.as_log([(1, event)], START)[0]
    record.spelled = None
    return record


@given(generated.records)
def test_both_ways_spell_alike(record: Record) -> None:
    record.spelled = None
    assert quick_spelling(record.event) in {None, spelled(record)}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_every_number_is_spelled_alike(number: float) -> None:
    event = TrainerEvent(type="odd", data={"value": number, "in": [number], "of": str(number)})
    assert quick_spelling(event) in {None, spelled(of(event))}


@pytest.mark.parametrize(
    "number", [1e15, 1e16, 1e-4, 1e-5, 9.9e-5, 0.00012, -0.0, 1e22, 1e23, 5e-324, 2**64, 2**63]
)
def test_numbers_at_the_edges_are_spelled_alike(number: float) -> None:
    event = TrainerEvent(type="odd", data={"value": number})
    assert quick_spelling(event) in {None, spelled(of(event))}


@pytest.mark.parametrize(
    "text", ["é", "\x00", "\x1f", "\x7f", '"\\', "\u2028", "😀", "1e+5", "1.0"]
)
def test_every_character_is_spelled_alike(text: str) -> None:
    event = TrainerEvent(type="odd", data={text: text, "ä": 1, "z": 2, "😀": 3, "\uffff": 4})
    assert quick_spelling(event) in {None, spelled(of(event))}


def test_a_usual_heartbeat_is_spelled_quickly() -> None:
    metrics: dict[str, Any] = {"loss": 0.51, "lr": 0.001}
    beat = Heartbeat(epoch=3, batch=5, progress=0.25, metrics=metrics, gpu={"memory": 80})
    assert quick_spelling(beat) == spelled(of(beat))
