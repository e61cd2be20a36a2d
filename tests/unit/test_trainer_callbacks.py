from __future__ import annotations

import json
import uuid
from collections import deque
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.answers import Answer, Delivered, Expired, Refused, TryAgain, read_answer
from trainer.backoff import FIRST_CEILING, HIGHEST_CEILING, LONGEST_ASKED_FOR, delay, retry_after
from trainer.identity import new_event_id, timestamp, uuid7
from trainer.outbox import BATCH_BYTES, BATCH_LIMIT, Item, Outbox, make_item, take_batch, thin

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_longer_than_the_cap_nor_shorter_than_half_its_ceiling(
    tries: int, chance: float
) -> None:
    assert FIRST_CEILING / 2 <= delay(tries, chance) <= HIGHEST_CEILING


def test_pauses_double_until_the_cap() -> None:
    assert [delay(tries, 1.0) for tries in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_a_pause_that_the_service_asks_for_is_kept_within_reason() -> None:
    assert delay(0, 0.5, asked_for=7) == 7
    assert delay(0, 0.5, asked_for=1e9) == LONGEST_ASKED_FOR


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9.0),
        (format_datetime(NOW - timedelta(seconds=9), usegmt=True), 0.0),
        ("soon", None),
        ("²", None),
    ],
    ids=["none", "seconds", "date", "past date", "nonsense", "a digit that is no number"],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, {"directive": "cancel"}, Delivered(directive="cancel", token=None)),
        (200, {"token": "new"}, Delivered(directive="continue", token="new")),
        (201, {"directive": "continue", "token": ""}, Delivered(directive="continue", token=None)),
        (401, {"code": "token_expired"}, Expired()),
        (401, {"code": "token_invalid"}, Refused(status=401, code="token_invalid", detail="")),
        (409, {"code": "x", "detail": "y"}, Refused(status=409, code="x", detail="y")),
        (413, None, Refused(status=413, code="", detail="")),
        (408, {}, TryAgain(why="HTTP 408")),
        (503, {}, TryAgain(why="HTTP 503")),
        (302, {}, TryAgain(why="HTTP 302")),
    ],
)
def test_an_answer_says_what_became_of_a_callback(
    status: int, body: object, answer: Answer
) -> None:
    assert read_answer(status, {}, json.dumps(body).encode(), NOW) == answer


def test_a_page_that_is_not_json_is_no_receipt() -> None:
    assert isinstance(read_answer(200, {}, b"<html>welcome</html>", NOW), TryAgain)


def test_overload_says_when_to_come_back() -> None:
    assert read_answer(429, {"Retry-After": "4"}, b"", NOW) == TryAgain(why="HTTP 429", after=4.0)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_a_uuid7_keeps_its_time_and_its_chance(milliseconds: int, randomness: int) -> None:
    made = uuid7(milliseconds, randomness)

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == milliseconds
    assert (made.int >> 64 & 0xFFF, made.int & (1 << 62) - 1) == (
        randomness >> 62,
        randomness & (1 << 62) - 1,
    )


def test_event_ids_differ() -> None:
    assert len({new_event_id() for _ in range(1000)}) == 1000


def test_a_moment_is_written_in_utc_with_microseconds() -> None:
    moment = datetime(2026, 11, 23, 3, 2, 3, tzinfo=timezone(timedelta(hours=2)))

    assert timestamp(moment) == "2026-11-23T01:02:03.000000Z"


def event(size: int = 1) -> Item:
    return Item("event", {}, timed=False, size=size)


BEAT = Item("heartbeat", {}, timed=True, size=1)


@given(st.lists(st.booleans()), st.integers(1, 20))
def test_thinning_drops_only_timed_heartbeats_and_never_reorders(
    timed: list[bool], capacity: int
) -> None:
    before = [Item(str(place), {}, beat, 1) for place, beat in enumerate(timed)]
    items = deque(before)

    dropped = thin(items, capacity)

    assert [item for item in before if item in items] == list(items)
    assert [item for item in items if not item.timed] == [i for i in before if not i.timed]
    assert dropped == len(before) - len(items)
    assert len(items) <= max(capacity, timed.count(False))


def test_the_oldest_timed_heartbeats_go_first() -> None:
    first, second = (Item("heartbeat", {"seq": seq}, timed=True, size=1) for seq in (1, 2))
    items = deque([first, event(), second])

    thin(items, 2)

    assert list(items) == [event(), second]


def test_a_batch_holds_at_most_a_hundred_and_what_one_body_may_hold() -> None:
    assert len(take_batch(deque([BEAT] * 300))) == BATCH_LIMIT
    assert len(take_batch(deque([event(BATCH_BYTES // 2)] * 3))) == 2
    assert len(take_batch(deque([event(BATCH_BYTES * 2)] * 3))) == 1


def test_a_callback_that_json_cannot_say_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        make_item("event", {"loss": float("nan")})


def test_an_outbox_is_empty_only_when_the_batch_in_hand_was_settled() -> None:
    outbox = Outbox()
    outbox.put(event())

    assert outbox.take() == [event()]
    assert not outbox.wait_until_empty(0)
    outbox.close()
    assert outbox.take() == []
    assert outbox.wait_until_empty(0)
