from __future__ import annotations

import json
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.journal import Item, Journal, JournalError, open_journal
from trainer.outbox import (
    BATCH_BYTES,
    BATCH_LIMIT,
    Outbox,
    Said,
    fitting,
    lengthened,
    make_item,
    open_outbox,
)


def event(name: str = "note", **data: Any) -> Said:
    return "event", {"type": name, "data": data}, False


BEAT: Said = ("heartbeat", {"epoch": 1}, True)


def item(seq: int, size: int = 1) -> Item:
    return Item(seq, "event", b"x" * size)


def said(outbox: Outbox) -> list[dict[str, Any]]:
    """Deliver everything that waits; the bodies, in their order."""
    bodies: list[dict[str, Any]] = []
    while not outbox.wait_until_empty(0):
        batch = outbox.take()
        bodies += [json.loads(one.body) for one in batch]
        outbox.settle(batch)
    return bodies


def numbers(outbox: Outbox) -> list[int]:
    return [body["seq"] for body in said(outbox)]


@given(st.lists(st.integers(1, 400), unique=True))
def test_stretches_hold_the_numbers_and_nothing_else(chosen: list[int]) -> None:
    stretches = lengthened([], sorted(chosen))

    held = [number for first, last in stretches for number in range(first, last + 1)]
    assert held == sorted(chosen)
    assert all(after[0] > before[1] + 1 for before, after in pairwise(stretches))


def test_a_request_takes_what_one_body_may_hold_and_at_least_one() -> None:
    assert len(fitting([item(seq) for seq in range(BATCH_LIMIT)])) == BATCH_LIMIT
    assert len(fitting([item(seq, BATCH_BYTES // 2) for seq in range(3)])) == 2
    assert len(fitting([item(seq, BATCH_BYTES * 2) for seq in range(3)])) == 1


def test_a_callback_that_json_cannot_say_is_refused_and_takes_no_number() -> None:
    outbox = Outbox()
    with pytest.raises(ValueError, match="Out of range"):
        outbox.put(event(loss=1.0), event(loss=float("nan")))
    outbox.put(event())

    assert numbers(outbox) == [1]
    with pytest.raises(ValueError, match="Out of range"):
        make_item(1, "event", {"loss": float("nan")})


def test_an_outbox_is_empty_only_when_the_batch_in_hand_was_settled() -> None:
    outbox = Outbox()
    outbox.put(event())

    batch = outbox.take()
    assert [one.seq for one in batch] == [1]
    assert not outbox.wait_until_empty(0)
    outbox.close()
    assert outbox.take() == []
    assert outbox.wait_until_empty(0)


@given(st.lists(st.sampled_from(["beat", "event", "deliver", "reopen"]), max_size=60))
def test_whatever_happens_no_event_is_lost_and_nothing_comes_out_of_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "outbox.sqlite3"
    outbox = Outbox(open_journal(path), capacity=6)
    events, came = 0, []
    for step in steps:
        match step:
            case "beat":
                outbox.put(BEAT)
            case "event":
                events += 1
                outbox.put(event(number=events))
            case "deliver" if not outbox.wait_until_empty(0):
                batch = outbox.take()
                came += [json.loads(one.body) for one in batch]
                outbox.settle(batch)
            case "reopen":
                outbox._journal.close()
                outbox = Outbox(open_journal(path), capacity=6)
            case _:
                pass  # nothing waits to be delivered
    came += said(outbox)

    told = [body["data"]["number"] for body in came if body.get("type") == "note"]
    assert told == list(range(1, events + 1))
    seqs = [body["seq"] for body in came]
    assert seqs == sorted(set(seqs))
    accounted = {*seqs, *dropped(came)}
    assert accounted == set(range(1, max(accounted, default=0) + 1))
    outbox.close()
    assert not path.exists()


def dropped(bodies: list[dict[str, Any]]) -> set[int]:
    told = [body["data"] for body in bodies if body.get("type") == "callbacks_dropped"]
    return {
        number for data in told for first, last in data["seqs"] for number in range(first, last + 1)
    }


class Killed(BaseException):
    """The trainer is gone."""


def killed_before(change: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many changes of a journal through, and no further one."""
    left = change
    whole = Journal._transaction

    def counting(journal: Journal) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return whole(journal)

    monkeypatch.setattr(Journal, "_transaction", counting)


def live(outbox: Outbox, came: list[dict[str, Any]]) -> None:
    """Say more than it holds and deliver it, then have one callback refused."""
    for number in range(4):
        outbox.put(BEAT, BEAT, event(number=number))
    while not outbox.wait_until_empty(0):
        batch = outbox.take()
        came += [json.loads(one.body) for one in batch]
        outbox.settle(batch)
    outbox.put(event(), event())
    refused, taken = outbox.take()
    outbox.refuse(refused, status=400, code="invalid_request", detail="no")
    came.append(json.loads(taken.body))
    outbox.settle([taken])


@pytest.mark.parametrize("change", range(20))
def test_killed_between_any_two_changes_nothing_is_missing_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    path = tmp_path / "a.sqlite3"
    came: list[dict[str, Any]] = []
    outbox = Outbox(open_journal(path), capacity=6)
    with monkeypatch.context() as patched, suppress(Killed):
        killed_before(change, patched)
        live(outbox, came)
    outbox._journal.close()

    journal = open_journal(path)
    owed = json.loads(journal.fact("dropped") or "[]")
    assert journal.count or not owed, "an empty journal is removed"
    outbox = Outbox(journal, capacity=6)
    outbox.put(event())
    came += said(outbox)

    accounted = {*(body["seq"] for body in came), *dropped(came)}
    assert accounted == set(range(1, max(accounted) + 1))
    outbox.close()


def test_the_oldest_timed_heartbeats_go_first_and_it_is_said_which() -> None:
    outbox = Outbox(capacity=10)
    for _ in range(5):
        outbox.put(BEAT)
    for _ in range(9):
        outbox.put(event())

    bodies = said(outbox)

    assert [body["seq"] for body in bodies] == [5, *range(6, 15), 15]
    assert bodies[-1]["data"] == {"seqs": [[1, 4]], "count": 4, "why": "thinned"}


def test_events_stay_whatever_it_costs() -> None:
    outbox = Outbox(capacity=3)
    for _ in range(20):
        outbox.put(event())

    assert numbers(outbox) == list(range(1, 21))


def test_what_the_service_never_takes_is_forgotten_and_said() -> None:
    outbox = Outbox()
    outbox.put(event("bad"), event("good"))

    outbox.refuse(outbox.take()[0], status=400, code="invalid_request", detail="no")

    good, told = said(outbox)
    assert good["type"] == "good"
    assert told["data"] == {
        "seqs": [[1, 1]],
        "count": 1,
        "why": "refused",
        "kind": "event",
        "status": 400,
        "code": "invalid_request",
        "detail": "no",
    }


def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "folder" / "a.sqlite3")

    assert stat.S_IMODE((tmp_path / "folder" / "a.sqlite3").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    with pytest.raises(JournalError, match="locked"):
        open_journal(tmp_path / "folder" / "a.sqlite3")
    journal.close()


def test_a_damaged_journal_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    path.write_bytes(b"this is no data base, and never was " * 100)

    outbox = open_outbox(path, "trace-7")
    outbox.put(event())

    assert numbers(outbox) == [1]
    assert (tmp_path / "a.sqlite3.damaged").exists()


def test_a_damaged_journal_that_cannot_be_set_aside_leaves_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    path.write_bytes(b"this is no data base, and never was " * 100)
    (tmp_path / "a.sqlite3.damaged").mkdir()

    outbox = open_outbox(path, "trace-7")
    outbox.put(event("later"))

    assert [body["type"] for body in said(outbox)] == ["journal_unavailable", "later"]


def test_without_a_place_on_disk_callbacks_wait_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    outbox = open_outbox(tmp_path / "file" / "a.sqlite3", "trace-7")
    outbox.put(event("later"))

    assert [body["type"] for body in said(outbox)] == ["journal_unavailable", "later"]


FILLING = """
import resource, sys
from pathlib import Path
from trainer.outbox import open_outbox

outbox = open_outbox(Path(sys.argv[1]), "trace-7")
outbox.put(("event", {"type": "first", "data": {}}, False))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for number in range(100):
    outbox.put(("event", {"type": "big", "data": {"text": "x" * 10_000}}, False))
names = []
while not outbox.wait_until_empty(0):
    batch = outbox.take()
    names += [one.body for one in batch]
    outbox.settle(batch)
import json
types = [json.loads(body)["type"] for body in names]
print(types.count("first"), types.count("big"), types.count("journal_unavailable"))
"""


def test_a_disk_that_fills_up_costs_nothing_but_safety(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path / "a.sqlite3")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ran.stdout.split() == ["1", "100", "1"]


SAYING = """
import sys
from pathlib import Path
from trainer.outbox import open_outbox

outbox = open_outbox(Path(sys.argv[1]), "trace-7")
while True:
    outbox.put(("event", {"type": "note", "data": {}}, False))
    print("said", flush=True)
"""


def test_what_was_said_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    confirmed = 0
    for lines in (1, 40, 300):
        process = subprocess.Popen(
            [sys.executable, "-c", SAYING, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        confirmed += lines + len(process.stdout.read().splitlines())
        process.wait()
        process.stdout.close()

    journal = open_journal(path)
    seqs = [one.seq for one in journal.first(1_000_000)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert confirmed <= len(seqs) <= confirmed + 3
    journal.close()


def test_a_journal_says_what_it_cannot_do() -> None:
    journal = Journal(None)
    journal.append([item(1)])

    with pytest.raises(JournalError, match="UNIQUE"):
        journal.append([item(2), item(1)])
    assert (journal.count, journal.last_seq) == (1, 1)
    journal.close()
    with pytest.raises(sqlite3.ProgrammingError):
        journal._connection.execute("select 1")
