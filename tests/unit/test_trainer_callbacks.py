from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.answers import Answer, Delivered, Expired, Refused, TryAgain, read_answer
from trainer.backoff import FIRST_CEILING, HIGHEST_CEILING, LONGEST_ASKED_FOR, delay, retry_after
from trainer.identity import new_event_id, timestamp, uuid7

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


@pytest.mark.parametrize(
    ("status", "code", "about_the_caller"),
    [
        (401, "token_invalid", True),
        (403, "wrong_job", True),
        (404, "job_not_found", True),
        (403, "", False),  # a firewall in between that dislikes the words
        (400, "invalid_request", False),
        (409, "event_id_conflict", False),
        (413, "", False),
    ],
)
def test_a_refusal_is_of_what_was_said_or_of_who_says_it(
    status: int, code: str, *, about_the_caller: bool
) -> None:
    answer = read_answer(status, {}, json.dumps({"code": code}).encode(), NOW)

    assert isinstance(answer, Refused)
    assert answer.about_the_caller is about_the_caller


@pytest.mark.parametrize("status", [401, 404, 405, 407, 410])
def test_a_refusal_without_the_services_code_is_not_the_services(status: int) -> None:
    assert isinstance(read_answer(status, {}, b"<html>nobody here</html>", NOW), TryAgain)


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
