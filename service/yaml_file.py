"""YAML files that operators write: read strictly, and each fault told in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from service.errors import SettingsError

MAX_BYTES = 128 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000
"""Anchors let a short file stand for a huge one."""
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Plain values only; a name that is given twice is refused and not quietly overwritten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping, whose names all differ."""
        names = Counter(
            key.value
            for key, _ in node.value
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE
        )
        twice = [name for name, times in names.items() if times > 1]
        if twice:
            said = f"{twice[0]!r:.60} is given twice"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, *, variable: str, wanted: str) -> Any:
    """Return the one document of a file: mappings with text as names, lists, texts, numbers.

    Raises SettingsError, which names the variable that the path comes from.
    """
    try:
        return _plain(_parsed(_content(path)))
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except _UnreadableError as error:
        reason = str(error)
    raise SettingsError(f"{variable} needs {wanted}, and {path} {reason}.")


class _UnreadableError(Exception):
    """What is wrong with the file, to be put behind its name."""


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _UnreadableError(f"is larger than {MAX_BYTES // 1024} KiB")
    return content


def _parsed(content: bytes) -> Any:
    try:
        documents = [part for part in yaml.load_all(content, _Loader) if part is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}" if mark else ""
        raise _UnreadableError(f"is not valid YAML: {_line(error.problem)}{place}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _UnreadableError(f"is not valid YAML: {_line(str(error))}") from error
    if len(documents) != 1:
        raise _UnreadableError(f"holds {len(documents)} documents, not one")
    return documents[0]


def _line(text: str | None) -> str:
    return " ".join((text or "it cannot be read").split())[:200]


class _Count:
    """How many values were met so far."""

    def __init__(self) -> None:
        self.values = 0


def _plain(value: Any, path: str = "", depth: int = 0, count: _Count | None = None) -> Any:
    """Return a copy in which nothing is shared and everything is JSON."""
    count = count or _Count()
    count.values += 1
    if depth > MAX_DEPTH or count.values > MAX_VALUES:
        raise _UnreadableError(f"is too deep or too large at {path:.60}")
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise _UnreadableError(f"has the name {name!r:.40} in {path or 'it'}: quote it")
        return {
            name: _plain(part, f"{path}.{name}".lstrip("."), depth + 1, count)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [
            _plain(part, f"{path}[{number}]", depth + 1, count) for number, part in enumerate(value)
        ]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and value - value == 0:  # neither NaN nor infinite
        return value
    raise _UnreadableError(f"has {value!r:.40} at {path}, which is no JSON value: quote it")
