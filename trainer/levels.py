"""How severe a line is that no logger of ours wrote: told from how it begins, INFO otherwise."""

from __future__ import annotations

import re

# A word at the beginning, maybe behind a time (as MLflow has it) or in brackets.
_WORD = re.compile(
    r"^(?:\d{4}[-/]\d\d[-/]\d\d[T ][\d:.,]+\S* )?\[?"
    r"(?P<word>DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\b"
)
# PyTorch's and other C++ logs: a letter and the date, "[W1129 01:02:03.456 file.cpp:12] ...".
_GLOG = re.compile(r"^(?:\[rank\d+\]:)?\[?(?P<word>[IWEF])\d{4} \d\d:\d\d:\d\d")
_NCCL = re.compile(r"\bNCCL (?P<word>INFO|WARN)\b")
# As the module warnings prints it: a file, a line, the class.
_PYTHON_WARNING = re.compile(r"^\S+:\d+: \w*Warning: ")
_CRASH = re.compile(
    r"^(?:Fatal Python error: |terminate called |\*\*\* Error in |.*\bSegmentation fault\b)"
)
_TRACEBACK = re.compile(
    r"^(?:Traceback \(most recent call last\)|Exception (?:in thread|ignored) )"
)

_NAMES = {
    "DEBUG": "DEBUG",
    "I": "INFO",
    "INFO": "INFO",
    "W": "WARNING",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "E": "ERROR",
    "ERROR": "ERROR",
    "F": "CRITICAL",
    "FATAL": "CRITICAL",
    "CRITICAL": "CRITICAL",
}


_LEAST = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))


def level_named(number: int) -> str:
    """Return the usual name of a level: a library's own ones are not labels of a log's streams."""
    return next((name for least, name in _LEAST if number >= least), "DEBUG")


def level_of(line: str) -> str:
    """Return the name of a level as Python's logging has it."""
    for pattern in (_WORD, _GLOG, _NCCL):
        if found := pattern.search(line):
            return _NAMES[found["word"]]
    if _CRASH.search(line):
        return "CRITICAL"
    if begins_traceback(line):
        return "ERROR"
    return "WARNING" if _PYTHON_WARNING.search(line) else "INFO"


def begins_traceback(line: str) -> bool:
    """Whether the lines that follow are a Python traceback's."""
    return _TRACEBACK.search(line) is not None
