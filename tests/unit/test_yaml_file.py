"""YAML files of operators: what cannot be read is told in one sentence with the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsError
from service.yaml_file import read_yaml


def read(path: Path) -> Any:
    return read_yaml(path, variable="EPOCHLOG_SOME_FILE", wanted="a file of some kind")


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        parts = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{parts}]")
    return "\n".join(lines)


def test_a_file_is_read_into_plain_values(tmp_path: Path) -> None:
    text = "# a comment\na: &x {b: 1, c: [true, null, 1.5, text]}\nd: {<<: *x, b: 2}\n---\n"

    assert read(written(tmp_path, text)) == {
        "a": {"b": 1, "c": [True, None, 1.5, "text"]},
        "d": {"b": 2, "c": [True, None, 1.5, "text"]},
    }


def test_what_an_anchor_names_is_copied(tmp_path: Path) -> None:
    tree = read(written(tmp_path, "a: &x {b: 1}\nc: *x\n"))
    tree["a"]["b"] = 2

    assert tree["c"] == {"b": 1}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("a: [1,\nb: 2", "line 2", id="not closed"),
        pytest.param("a: 1\nb: {c: 1, d: 2, c: 3}", "'c' is given twice", id="a name twice"),
        pytest.param("a: *nowhere", "nowhere", id="an unknown anchor"),
        pytest.param("a: 1\n---\nb: 2", "holds 2 documents, not one", id="two documents"),
        pytest.param("", "holds 0 documents, not one", id="nothing"),
        pytest.param("a: !!python/object/apply:os.system [ls]", "line 1", id="a Python object"),
        pytest.param("a: 2026-01-01", "at a, which is no JSON value: quote it", id="a date"),
        pytest.param("a: {b: [.nan]}", "at a.b[0]", id="not a number"),
        pytest.param("on: 1", "has the name True in it: quote it", id="a name that is no text"),
        pytest.param("a: {1: 2}", "has the name 1 in a: quote it", id="a name that is a number"),
        pytest.param("a: &a [*a]", "too deep", id="an anchor inside of itself"),
        pytest.param("[" * 5000, "not valid YAML", id="very deep"),
        pytest.param(bomb(9), "too large", id="a billion laughs"),
        pytest.param("a: " + "x" * 200_000, "is larger than 128 KiB", id="a large file"),
        pytest.param(b"a: \xff\xfe\x00", "not valid YAML", id="not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str | bytes, named: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(SettingsError) as refused:
        read(path)

    sentence = str(refused.value)
    assert sentence.startswith(f"EPOCHLOG_SOME_FILE needs a file of some kind, and {path} ")
    assert named in sentence
    assert "\n" not in sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml cannot be read \(No such file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory"):
        read(tmp_path)
