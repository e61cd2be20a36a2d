from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainer import backoff, transfer
from trainer.transfer import Opened, Pace, PassingError, download

MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
def said_at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(transfer, "SAID_EVERY", 0.0)
    monkeypatch.setattr(backoff, "FIRST_CEILING", 0.0)
    caplog.set_level(logging.INFO)


def test_a_transfer_shows_a_bar_of_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    pace = Pace("s3://b/a.pt", 4 * MEGABYTE)
    for _ in range(4):
        pace.add(MEGABYTE)

    assert [line.partition(" of 4.0 MB at ")[0] for line in caplog.messages] == [
        "s3://b/a.pt: [#####---------------] 25%",
        "s3://b/a.pt: [##########----------] 50%",
        "s3://b/a.pt: [###############-----] 75%",
        "s3://b/a.pt: [####################] 100%",
    ]


def test_a_transfer_of_unknown_length_says_how_much_came(caplog: pytest.LogCaptureFixture) -> None:
    Pace("s3://b/a.pt", None).add(3 * MEGABYTE)

    (line,) = caplog.messages
    assert line.startswith("s3://b/a.pt: 3.0 MB at ")


def test_the_end_of_what_took_long_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace("s3://b/a.pt", 2 * MEGABYTE)
    pace.add(MEGABYTE)
    monkeypatch.setattr(transfer, "SAID_EVERY", 1e9)
    pace.add(MEGABYTE // 2)
    pace.add(MEGABYTE // 2)

    assert [line.partition("]")[2][:5].strip() for line in caplog.messages] == ["50%", "100%"]


def test_what_is_read_anew_does_not_count_twice(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    etags = iter(["old", "new", "new"])

    @contextmanager
    def open_at(start: int, _etag: str | None) -> Iterator[Opened]:
        etag = next(etags)

        def pieces() -> Iterator[bytes]:
            yield b"x" * MEGABYTE
            if etag == "old":
                raise PassingError("cut")
            yield b"y" * MEGABYTE

        yield Opened(pieces=pieces(), start=0, total=2 * MEGABYTE, etag=etag)

    download("s3://b/a.pt", open_at, tmp_path / "a.pt", None)

    shares = [line.partition("]")[2][:5].strip() for line in caplog.messages if "[" in line]
    assert shares == ["50%", "50%", "100%"]
