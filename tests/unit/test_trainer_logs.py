from __future__ import annotations

import json
import logging
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer import logs
from trainer.configuration import known_log_format, known_origin
from trainer.levels import level_of
from trainer.log_lines import LONGEST_LINE, LogFormat, Origin
from trainer.stamper import RECORD, RecordFormatter, Stamper

ORIGIN = Origin(trace_id="abc-def", job_id=7, attempt=2)
MARK = "[TRACE:abc-def]"
TEXT, JSON = LogFormat.TEXT, LogFormat.JSON


def logged(message: str, level: int = logging.INFO, **more: Any) -> bytes:
    """What the trainer's handler writes for one record."""
    logger = logging.getLogger("ultralytics")
    exc_info = more.pop("exc_info", None)
    record = logger.makeRecord(logger.name, level, "", 0, message, (), exc_info, extra=more)
    return f"{RecordFormatter().format(record)}\n".encode()


def stamped(*written: bytes, log_format: LogFormat = TEXT) -> list[str]:
    stamper = Stamper(ORIGIN, log_format)
    return [line for part in written for line in stamper.feed(part)] + stamper.end()


def objects(*written: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stamped(*written, log_format=JSON)]


@pytest.mark.parametrize("log_format", LogFormat)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
@example(b"one\x1e{}\x1etwo", [])
@example(RECORD + b'{"record": {"message": 5}, "epoch": 1, "ends": false}', [])
@example(RECORD + b"[" * 100_000, [])
def test_every_line_carries_the_trace_however_it_was_written(
    log_format: LogFormat, written: bytes, cuts: list[int]
) -> None:
    places = sorted({0, *(min(cut, len(written)) for cut in cuts), len(written)})

    lines = stamped(*(written[a:b] for a, b in pairwise(places)), log_format=log_format)

    assert all(MARK in line and len(line.splitlines()) == 1 for line in lines)
    if log_format is JSON:
        assert all(json.loads(line)["trace_id"] == "abc-def" for line in lines)


@given(st.text(), st.integers(1, 9))
def test_whatever_a_record_says_is_one_line_of_json(message: str, epoch: int) -> None:
    written = logged(message, epoch_begins=epoch)

    for line in stamped(written, log_format=JSON):
        assert len(line.splitlines()) == 1
        assert json.loads(line)["epoch"] == epoch


def test_a_stray_print_becomes_a_record() -> None:
    (line,) = stamped(b"hello \x1b[1mworld\x1b[0m\n")
    (told,) = objects(b"hello \x1b[1mworld\x1b[0m\n")

    assert line.endswith(f"Z INFO {MARK} hello world")
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "level": "info",
        "trace": MARK,
        "trace_id": "abc-def",
        "job_id": 7,
        "attempt": 2,
        "message": "hello world",
    }


def test_a_record_says_who_wrote_it_and_how_bad_it_is() -> None:
    (line,) = stamped(logged("slow loader", logging.WARNING))
    (told,) = objects(logged("slow loader", logging.WARNING))

    assert line.endswith(f"Z WARNING {MARK} slow loader")
    assert (told["level"], told["logger"], told["message"]) == (
        "warning",
        "ultralytics",
        "slow loader",
    )


@pytest.mark.parametrize(
    ("number", "name"),
    [(5, "DEBUG"), (10, "DEBUG"), (25, "INFO"), (30, "WARNING"), (60, "CRITICAL")],
)
def test_a_level_of_a_librarys_own_is_the_usual_one_below_it(number: int, name: str) -> None:
    logging.addLevelName(25, "\x1b[32mVery good")

    assert stamped(logged("hello", number))[0].endswith(f"Z {name} {MARK} hello")


def test_a_progress_bar_becomes_its_last_state() -> None:
    assert stamped(b"\r\x1b[K1/3\r\x1b[K2/3\r\x1b[K3/3\n")[0].endswith("] 3/3")


def test_a_record_in_the_midst_of_a_progress_bar_stands_for_itself() -> None:
    bar, record = stamped(b"\r1/3\r2/3", logged("batch reduced"))

    assert bar.endswith(f"{MARK} 2/3")
    assert record.endswith(f"{MARK} batch reduced")


def test_a_line_end_of_two_characters_may_be_cut_in_two() -> None:
    stamper = Stamper(ORIGIN)

    assert stamper.feed(b"bar\rhello\r") == []
    assert stamper.feed(b"\n")[0].endswith("] hello")


def test_a_bar_that_never_ends_does_not_fill_the_memory() -> None:
    stamper = Stamper(ORIGIN)
    for _ in range(1000):
        stamper.feed(b"\r" + b"x" * 1000)

    assert len(stamper._rest) < 3000
    assert stamper.feed(b"y" * 100_000) != []


@pytest.mark.parametrize("log_format", LogFormat)
def test_of_a_long_line_nothing_is_lost(log_format: LogFormat) -> None:
    said = "".join(f"{number:07} " for number in range(5000)).strip()

    lines = stamped(f"{said}\n".encode(), log_format=log_format)

    texts = [
        json.loads(line)["message"] if log_format is JSON else line.partition(f"{MARK} ")[2]
        for line in lines
    ]
    assert "".join(texts) == said
    assert all(len(line.encode()) <= LONGEST_LINE for line in lines)


def raised(message: str = "first\nsecond") -> Any:
    try:
        int("no number")
    except ValueError as error:
        error.args = (message,)
        return sys.exc_info()


def test_each_line_of_a_traceback_carries_the_trace() -> None:
    lines = stamped(logged("a\nb", logging.ERROR, exc_info=raised()))

    assert len(lines) > 3
    assert all(f"ERROR {MARK} " in line for line in lines)


def test_a_traceback_is_one_record_of_json() -> None:
    (told,) = objects(logged("it failed", logging.ERROR, exc_info=raised()))

    assert told["message"] == "it failed"
    assert told["exception"].startswith("Traceback (most recent call last):\n")
    assert told["exception"].endswith("ValueError: first\nsecond")


@given(st.integers(0, 3 * LONGEST_LINE), st.sampled_from(["x", "ü", "\n", '"', "\udc80"]))
def test_a_record_of_json_is_short_enough_to_stay_whole(length: int, letter: str) -> None:
    message = letter * length + "the end"

    (line,) = stamped(
        logged(message, logging.ERROR, exc_info=raised(message=message)), log_format=JSON
    )

    assert len(line.encode(errors="backslashreplace")) <= LONGEST_LINE
    assert json.loads(line)["exception"].endswith("the end")


def test_each_line_of_an_epoch_carries_it_and_no_other_does() -> None:
    written = (
        b"before\n",
        logged("epoch 3 begins", epoch_begins=3),
        b"native\n",
        logged("a library's"),
        logged("epoch 3 ends", epoch_ends=3),
        b"after\n",
    )
    epochs = [told.get("epoch") for told in objects(*written)]
    text = stamped(*written)

    assert epochs == [None, 3, 3, 3, 3, None]
    assert ["epoch=3" in line for line in text] == [epoch == 3 for epoch in epochs]
    assert text[2].endswith(f"Z INFO {MARK} epoch=3 native")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("0: 640x640 2 persons, 12.3ms", "INFO"),
        ("WARNING ⚠️ no labels found", "WARNING"),
        ("INFO:root:hello", "INFO"),
        ("[ERROR] no such file", "ERROR"),
        ("2026/11/23 01:02:03 WARNING mlflow.utils: no git", "WARNING"),
        ("2026-11-23 01:02:03,456 ERROR in app", "ERROR"),
        ("[W1123 01:02:03.456789 socket.cpp:12] Warning: no IPv6", "WARNING"),
        ("E1123 01:02:03.456789 12 file.cc:12] no driver", "ERROR"),
        ("[rank0]:[W1123 01:02:03.456789 ProcessGroupNCCL.cpp:9] left open", "WARNING"),
        ("node-1:12:34 [0] NCCL WARN Call to connect failed", "WARNING"),
        ("/lib/loader.py:12: UserWarning: too many workers", "WARNING"),
        ("Fatal Python error: Segmentation fault", "CRITICAL"),
        ("terminate called after throwing an instance of 'c10::Error'", "CRITICAL"),
        ("Traceback (most recent call last):", "ERROR"),
        ("Exception ignored in: <function x>", "ERROR"),
        ("ERRORS are rare", "INFO"),
        ("the WARNING is not at the beginning", "INFO"),
    ],
)
def test_a_level_is_told_from_how_a_line_begins(line: str, level: str) -> None:
    assert level_of(line) == level


def test_a_traceback_that_was_printed_is_an_error_to_its_reason() -> None:
    printed = (
        b"Traceback (most recent call last):\n"
        b'  File "x.py", line 1, in <module>\n'
        b"    work()\n"
        b"ValueError: broken\n"
        b"going on\n"
    )

    assert [told["level"] for told in objects(printed)] == ["error"] * 4 + ["info"]


SCRIPT = """
import logging, os, sys, threading
from trainer import logs
from trainer.log_lines import LogFormat, Origin

stamper = logs.start(Origin(trace_id="abc-def", job_id=7, attempt=2), LogFormat(sys.argv[1]))
log = logging.getLogger("trainer.test")
log.info("epoch %d begins", 1, extra={"epoch_begins": 1})
print("printed")
os.write(2, b"native\\n")
child = os.fork()
if not child:
    log.warning("a loader's worker")
    os._exit(0)
os.waitpid(child, 0)
broken = threading.Thread(target=lambda: 1 / 0, name="broken")
broken.start()
broken.join()
log.info("", extra={"epoch_ends": 1})
log.info("wrong %d arguments", 1, 2)
log.info("   ")
os.system("echo of another program")
logs.finish(stamper)
os._exit(0)
"""


def run_script(log_format: LogFormat) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, log_format], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_what_a_process_and_its_children_write_comes_out_as_json() -> None:
    told = [json.loads(line) for line in run_script(JSON)]

    assert all(one["trace"] == MARK and one["job_id"] == 7 for one in told)
    first = [(one["message"], one["level"], one.get("epoch")) for one in told[:5]]
    assert first == [
        ("epoch 1 begins", "info", 1),
        ("printed", "info", 1),
        ("native", "info", 1),
        ("a loader's worker", "warning", 1),
        ("the thread broken ended with an error", "error", 1),
    ]
    assert told[4]["exception"].endswith("ZeroDivisionError: division by zero")
    # The empty record says only that the epoch is over; a wrong one is told of by logging itself.
    assert told[5]["message"] == "--- Logging error ---"
    assert told[-1]["message"] == "of another program"
    assert all("epoch" not in one for one in told[5:])


def test_what_a_process_and_its_children_write_comes_out_as_text() -> None:
    lines = run_script(TEXT)

    assert all(MARK in line for line in lines)
    assert lines[3].endswith(f"Z WARNING {MARK} epoch=1 a loader's worker")
    assert lines[-1].endswith(f"Z INFO {MARK} of another program")


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_complaint_carries_the_trace_where_it_is_known(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.complain("The variable EPOCHS is missing.", ORIGIN, log_format)
    logs.complain("The variable TRACE_ID is missing.", None, log_format)

    known, unknown = capsys.readouterr().err.splitlines()
    assert MARK in known
    assert "The variable EPOCHS is missing." in known
    assert unknown == "The variable TRACE_ID is missing."


def test_who_complains_of_a_wrong_environment_is_known_as_far_as_it_tells() -> None:
    told = {"JOB_ID": "7", "ATTEMPT": "soon", "TRACE_ID": "abc-def", "LOG_FORMAT": "json"}

    assert known_origin(told) == Origin(trace_id="abc-def", job_id=7)
    assert known_log_format(told) is JSON
    assert known_origin({"JOB_ID": "7", "TRACE_ID": "no trace"}) is None
    assert known_log_format({"LOG_FORMAT": "xml"}) is TEXT
