"""A usual body is read in one step and means what the way of all requests makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from projections.decide import Report
from projections.events import Heartbeat, TrainerEvent
from service.callbacks_api import reports_of
from service.errors import InvalidRequestError
from service.request_schemas import CallbacksBody, EventBody, HeartbeatBody
from service.routing import read_json
from service.usual_callbacks import usual_callbacks, usual_event, usual_heartbeat

Usual = Callable[[bytes], tuple[Report, ...] | None]

EVENT_ID = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000"
HEARTBEAT: dict[str, Any] = {
    "event_id": EVENT_ID,
    "seq": 7,
    "occurred_at": "2026-11-23T01:02:03.456+01:00",
    "trace_id": "abc",
    "epoch": 3,
    "epochs": 10,
    "progress": 1,
    "batch": 4,
    "batches": 50,
    "metrics": {"loss": 0.5, "mAP50": 1},
    "gpu": {"memory": 2**63, "names": ["a"], "deep": {"of": None}},
}
EVENT: dict[str, Any] = {"event_id": EVENT_ID, "type": "epoch_end", "data": {"epoch": 1}}

_odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    st.sampled_from([EVENT_ID, EVENT_ID.upper(), "2026-11-23T01:02:03Z", "2026-02-30T00:00:00Z"]),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), st.integers()),
    st.lists(st.integers(), max_size=2),
)
_free = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5), _odd, max_size=3
)


def like(usual: dict[str, Any]) -> SearchStrategy[dict[str, Any]]:
    """Return bodies of which each field may be left out, be usual, or be odd."""
    fields = {name: st.just(value) | _odd for name, value in usual.items()}
    fields |= {"metrics": _free | st.just({}), "gpu": _free, "data": _free, "unknown": _odd}
    return st.fixed_dictionaries({}, optional=fields)


@given(like(HEARTBEAT))
@example(HEARTBEAT)
def test_a_heartbeat_means_the_same_on_both_ways(body: dict[str, Any]) -> None:
    _agree(usual_heartbeat, HeartbeatBody, _bytes(body))


@given(like(EVENT))
@example(EVENT)
def test_an_event_means_the_same_on_both_ways(body: dict[str, Any]) -> None:
    _agree(usual_event, EventBody, _bytes(body))


@given(
    st.lists(
        st.builds(
            lambda kind, body: {"kind": kind, **body},
            st.sampled_from(["heartbeat", "event", "done", "other"]),
            like(HEARTBEAT) | like(EVENT),
        ),
        max_size=3,
    ),
    like({"trace_id": "abc", "occurred_at": "2026-11-23T01:02:03Z", "seq": 1}),
)
@example([{"kind": "heartbeat", **HEARTBEAT}, {"kind": "event", **EVENT}], {})
def test_several_callbacks_mean_the_same_on_both_ways(
    callbacks: list[dict[str, Any]], around: dict[str, Any]
) -> None:
    _agree(usual_callbacks, CallbacksBody, _bytes({**around, "callbacks": callbacks}))


@pytest.mark.parametrize(
    "body",
    [
        b'{"epoch": 1.0}',
        b'{"epoch": 1e0}',
        b'{"epoch": -0}',
        b'{"epoch": true}',
        b'{"epoch": 1, "epoch": 2}',
        b'{"progress": 1.0000000000000001}',
        b'{"metrics": {"loss": 1e999}}',
        b'{"metrics": {"loss": NaN}}',
        b'{"metrics": {"loss": 123456789012345678901234567890}}',
        b'{"metrics": {"": 1}}',
        b'{"metrics": null}',
        b'{"gpu": null}',
        b'{"gpu": []}',
        b'{"gpu": {"a": 1e999}}',
        b'{"gpu": {"a": 123456789012345678901234567890}}',
        b'{"gpu": {"a": 1, "a": 2}}',
        b'{"trace_id": "\\ud800"}',
        b'{"trace_id": "\xff"}',
        b'{"trace_id": "a\tb"}',
        b'{"gpu": {"a": "\\ud800"}}',
        b'{"trace_id": "\\u0000"}',
        b'{"gpu": {"a": "\\u0000"}}',
        b'{"gpu": ' + b'{"a":' * 70 + b"1" + b"}" * 71,
        b'{"gpu": {"a": [' + b"[" * 70 + b"]" * 71 + b"}}",
        b'{"epoch": 1} trailing',
        b'\xef\xbb\xbf{"epoch": 1}',
        b' {"epoch": 1}\n ',
        b"[]",
        b"null",
        b"",
    ],
)
def test_json_at_its_edges_is_read_alike(body: bytes) -> None:
    _agree(usual_heartbeat, HeartbeatBody, body)


def test_what_trainers_usually_send_takes_the_short_way() -> None:
    (heard,) = usual_heartbeat(_bytes(HEARTBEAT)) or ()
    (named,) = usual_event(_bytes(EVENT)) or ()
    both = usual_callbacks(
        _bytes({"callbacks": [{"kind": "heartbeat", **HEARTBEAT}, {"kind": "event", **EVENT}]})
    )

    assert isinstance(heard.event, Heartbeat)
    assert isinstance(named.event, TrainerEvent)
    assert both == (heard, named)


def test_what_is_unusual_is_left_to_the_long_way() -> None:
    assert usual_heartbeat(_bytes({**HEARTBEAT, "fan": 3})) is None
    assert usual_heartbeat(_bytes({**HEARTBEAT, "seq": 0})) is None
    deep: Any = {}
    for _ in range(60):
        deep = {"in": deep}
    assert usual_event(_bytes({"type": "deep", "data": deep})) is None
    assert usual_callbacks(_bytes({"callbacks": [{"kind": "done", "status": "failed"}]})) is None


def _agree(usual: Usual, model: type[Any], body: bytes) -> None:
    """The short way takes nothing that the long one refuses, and understands the same."""
    read = usual(body)
    if read is None:
        return
    try:
        told = reports_of(read_json(body, model))
    except InvalidRequestError as error:
        raise AssertionError(f"{body!r} was taken for {read}") from error
    assert read == told
    assert repr(read) == repr(told), "1 is not 1.0, nor True"


def _bytes(body: Any) -> bytes:
    return json.dumps(body).encode()
