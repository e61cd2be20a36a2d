"""What looks like a secret is taken out of what is passed on, and nothing else is."""

from __future__ import annotations

import pytest

from service.redaction import MARK, redact, seems_to_hold_a_secret

SECRETS = [
    ("Authorization: Bearer {}", "abcdefgh12345678"),
    ("authorization: bearer {}", "eyJhbGciOiJIUzI1NiJ9.eyJqb2JfaWQiOjF9.c2lnbmF0dXJl"),
    ("got {} back", "eyJhbGciOiJIUzI1NiJ9.eyJqb2JfaWQiOjF9.c2lnbmF0dXJl"),
    ("CALLBACK_TOKEN={}", "not-a-jwt-but-long"),
    ("export R2_SECRET_ACCESS_KEY='{}'", "AbC/def+123"),
    ('{{"api_key": "{}"}}', "0123456789abcdef"),
    ("password: {}", "hunter22"),
    ("key {} was used", "AKIAIOSFODNN7EXAMPLE"),
    ("the token is epl_{}", "0123456789012345678901234567890"),
    ("logged in with hf_{}", "abcdefghijklmnopqrstuv"),
    ("postgresql://epochlog:{}@db:5432/epochlog", "s3cret"),
]
HARMLESS = [
    "epoch 3/10 loss 0.123 token accuracy 0.9",
    "the tokenizer was saved to s3://bucket/tokenizer.json",
    "Traceback (most recent call last):",
    "https://example.org:8080/path?page=2",
    "a bearer of bad news",
    "secrets: 3",
    "[TRACE:9f1c658d-124d-4c95-ac5d-798baf29701e]",
]


@pytest.mark.parametrize(("line", "secret"), SECRETS)
def test_a_secret_is_taken_out_and_what_it_was_stays(line: str, secret: str) -> None:
    text = f"before\n{line.format(secret)}\nafter"

    left, count = redact(text)

    assert secret not in left
    assert left == text.replace(secret, MARK)
    assert count == 1
    assert seems_to_hold_a_secret(text)
    assert redact(left) == (left, 0)


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_secret_stays(line: str) -> None:
    assert redact(line) == (line, 0)
    assert not seems_to_hold_a_secret(line)


@pytest.mark.parametrize(
    "piece", ["a.", "a-", "eyJ-", "eyJa.", "a://", "x:", "secret", "bearer ", "a_"]
)
@pytest.mark.timeout(20)
def test_no_text_keeps_the_search_busy(piece: str) -> None:
    redact(piece * (400_000 // len(piece)))
