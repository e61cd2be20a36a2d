import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from projections.anchored import AnchorChain, Anchored
from projections.anchors import NO_ANCHOR, Anchor, AnchorError, AnchorKeys, JobHead, digest
from projections.audit import Audit
from projections.findings import Findings

KEY = "a made-up key of the tests, long enough"
KEYS = AnchorKeys(KEY)
LOG = "01990000-0000-7000-8000-000000000000"
FIRST = Anchor(
    log_id=LOG,
    number=1,
    position=10,
    recorded_at="2026-11-23T01:02:03+00:00",
    heads=(JobHead(1, 4, "a" * 64), JobHead(2, 6, "b" * 64)),
    previous=NO_ANCHOR,
)


def second(line: str) -> Anchor:
    return replace(FIRST, number=2, position=12, heads=(), previous=digest(line))


def test_an_anchor_survives_its_line() -> None:
    assert KEYS.read(KEYS.sign(FIRST)) == FIRST


def test_the_documented_line_can_be_checked_without_our_code() -> None:
    line = KEYS.sign(replace(FIRST, heads=FIRST.heads[:1]))
    said = (
        '{"heads":[[1,4,"' + "a" * 64 + '"]],"key":"14093dc5ec68763e",'
        '"log_id":"01990000-0000-7000-8000-000000000000","number":1,"position":10,'
        '"previous":"' + "0" * 64 + '","recorded_at":"2026-11-23T01:02:03+00:00"'
    )
    key = hmac.digest(KEY.encode(), b"epochlog anchors", "sha256")
    signature = hmac.digest(key, (said + "}").encode(), "sha256").hex()

    assert line == f'{said},"signature":"{signature}"}}'
    assert hashlib.sha256(key).hexdigest()[:16] == "14093dc5ec68763e"
    assert digest(line) == hashlib.sha256(line.encode()).hexdigest()


def test_a_former_key_still_verifies_and_does_not_sign() -> None:
    changed = AnchorKeys("another key that came into use later", [KEY])

    assert changed.read(KEYS.sign(FIRST)) == FIRST
    with pytest.raises(AnchorError, match="unknown here") as caught:
        KEYS.read(changed.sign(FIRST))
    assert caught.value.fault == "anchor_key_unknown"


@pytest.mark.parametrize(
    "change",
    [
        {"position": 9},
        {"number": 2},
        {"heads": []},
        {"log_id": "another"},
        {"previous": "f" * 64},
        {"recorded_at": "2026-11-23T01:02:04+00:00"},
        {"added": 1},
        {"signature": "0" * 64},
        {"signature": "ü"},
        {"signature": None},
    ],
    ids=str,
)
def test_a_line_that_was_changed_is_forged(change: dict[str, object]) -> None:
    line = json.dumps({**json.loads(KEYS.sign(FIRST)), **change})

    with pytest.raises(AnchorError, match="our signature") as caught:
        KEYS.read(line)
    assert caught.value.fault == "anchor_forged"


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", "7", '{"number": 1}', '{"heads": \ufffd}'])
def test_a_line_that_is_no_anchor_is_unreadable(line: str) -> None:
    with pytest.raises(AnchorError) as caught:
        KEYS.read(line)
    assert caught.value.fault == "anchor_unreadable"


def test_the_key_of_anchors_is_not_the_key_of_tokens() -> None:
    assert KEY not in KEYS.sign(FIRST)
    assert (
        json.loads(KEYS.sign(FIRST))["key"] != json.loads(AnchorKeys("x" * 32).sign(FIRST))["key"]
    )


def chain() -> AnchorChain:
    return AnchorChain(KEYS, LOG, Findings())


def faults(one: AnchorChain) -> list[tuple[str, int | None]]:
    return [(finding.fault.value, finding.anchor) for finding in one.findings.in_order()]


def test_anchors_in_their_order_are_taken() -> None:
    line = KEYS.sign(FIRST)
    then = KEYS.sign(second(line))
    read = chain()

    assert read.take(1, line, line) == [FIRST]
    assert read.take(2, then, None) == [second(line)]
    assert faults(read) == []


def test_an_anchor_of_the_copy_that_the_table_lost_is_taken_and_told() -> None:
    read = chain()

    assert read.take(1, None, KEYS.sign(FIRST)) == [FIRST]
    assert faults(read) == [("anchor_missing", 1)]


def test_where_the_table_and_the_copy_differ_both_are_taken() -> None:
    other = replace(FIRST, position=11)
    read = chain()

    assert read.take(1, KEYS.sign(other), KEYS.sign(FIRST)) == [other, FIRST]
    assert ("anchor_differs", 1) in faults(read)


def test_an_anchor_that_names_another_before_it_is_told() -> None:
    read = chain()
    read.take(1, KEYS.sign(FIRST), None)

    read.take(2, KEYS.sign(replace(second("x"))), None)

    assert faults(read) == [("anchor_differs", 2)]


@pytest.mark.parametrize("change", [{"number": 3}, {"position": 9}], ids=str)
def test_an_anchor_out_of_its_place_is_told(change: dict[str, int]) -> None:
    line = KEYS.sign(FIRST)
    read = chain()
    read.take(1, line, None)

    read.take(2, KEYS.sign(replace(second(line), **change)), None)  # type: ignore[arg-type]

    assert faults(read) == [("anchor_differs", 2)]


def test_missing_numbers_are_told_and_the_next_is_taken() -> None:
    read = chain()

    assert read.take(3, KEYS.sign(replace(second("x"), number=3)), None) != []
    assert faults(read) == [("anchor_missing", 1)]


def test_a_job_that_differs_is_told_of_once() -> None:
    anchored = Anchored(Audit())
    anchored.audit.chain(1).version = 5
    anchored.audit.chain(2).version, anchored.audit.chain(2).hash = 6, "b" * 64

    anchored.take(FIRST)
    anchored.take(replace(FIRST, number=2))

    [found] = anchored.audit.findings.in_order()
    assert (found.fault, found.job_id, found.version, found.anchor) == (
        "anchored_head_differs", 1, 1, 1,
    )  # fmt: skip
