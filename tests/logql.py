"""The part of LogQL that selects lines: labels, text in the line, and what goes along with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import re2

_STRING = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(rf"\s*(\w+)\s*(=~|!~|!=|=)\s*({_STRING})\s*,?")
_FILTER = re.compile(rf"\s*(\|=|\|~|!=|!~)\s*({_STRING})")
_METADATA = re.compile(rf"\s*\|\s*(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")


def selects(
    query: str, labels: Mapping[str, str], line: str, metadata: Mapping[str, str] | None = None
) -> bool:
    """Whether a line of a stream is among what a query asks for; what is not understood fails."""
    braces = re.fullmatch(rf"\{{((?:[^\"}}]|{_STRING})*)\}}(.*)", query.strip(), re.DOTALL)
    assert braces, query
    found: list[bool] = [_holds(labels, *one) for one in _all(_MATCHER, braces[1])]
    rest = braces[2]
    while rest.strip():
        if one := _FILTER.match(rest):
            found.append(_in_line(line, *one.groups()))
        else:
            one = _METADATA.match(rest)
            assert one, f"not understood: {rest}"
            found.append(_holds({**labels, **(metadata or {})}, *one.groups()))
        rest = rest[one.end() :]
    return all(found)


def _all(pattern: re.Pattern[str], text: str) -> list[tuple[str, ...]]:
    assert not pattern.sub("", text).strip(), f"not understood: {text}"
    return [one.groups() for one in pattern.finditer(text)]


def _holds(labels: Mapping[str, str], name: str, sign: str, quoted: str) -> bool:
    """A label that is not there is an empty one; an expression has to fit the whole value."""
    value, wanted = labels.get(name, ""), str(json.loads(quoted))
    if sign in {"=", "!="}:
        return (value == wanted) == (sign == "=")
    return bool(re2.fullmatch(wanted, value)) == (sign == "=~")


def _in_line(line: str, sign: str, quoted: str) -> bool:
    wanted = str(json.loads(quoted))
    if sign in {"|=", "!="}:
        return (wanted in line) == (sign == "|=")
    return bool(re2.search(wanted, line)) == (sign == "|~")
