from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import manifest
from trainer.errors import DatasetInvalidError
from trainer.manifest import manifest_key, read_manifest
from trainer.names import escaped, fault_of_name

SHA = "a" * 64
KEY = f"datasets/shapes/files/aa/{SHA}"


def entry(**changes: Any) -> dict[str, Any]:
    return {"path": "images/a.jpg", "key": KEY, "bytes": 3, "sha256": SHA} | changes


def content(*files: Any, **changes: Any) -> dict[str, Any]:
    listed = list(files) or [entry()]
    return {"format": manifest.FORMAT, "version": 4, "files": listed, "metadata": {}} | changes


def write(folder: Path, text: str) -> Path:
    (folder / "_manifest.json").write_text(text)
    return folder / "_manifest.json"


def refusal(folder: Path, text: Any) -> str:
    file = write(folder, text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(DatasetInvalidError) as caught:
        read_manifest(file, "shapes")
    assert not caught.value.retryable
    return str(caught.value)


def test_a_manifest_is_read_with_its_places_and_sizes(tmp_path: Path) -> None:
    listed = [entry(), entry(path="./labels//a.txt", bytes=4), entry(path="labels.cache")]
    file = write(tmp_path, json.dumps(content(*listed, metadata={"task": "detect"})))

    read = read_manifest(file, "shapes")

    assert (read.version, read.bytes, read.metadata) == (4, 7, {"task": "detect"})
    assert [entry.place for entry in read.entries] == [
        PurePosixPath("images/a.jpg"),
        PurePosixPath("labels/a.txt"),
    ]
    assert manifest_key("shapes") == "datasets/shapes/_manifest.json"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is not JSON"),
        ('{"bytes": ' + "9" * 5000 + "}", "is not JSON"),
        ("[]", "is of the format None; this trainer reads 'epochlog-dataset/1'"),
        (content(format="epochlog-dataset/2"), "is of the format 'epochlog-dataset/2'"),
        (content(version=None), "needs a `version` and some `files`"),
        (content(version=2**64), "needs a `version` and some `files`"),
        (content(version="v" * 1000), "needs a `version` and some `files`"),
        (content(version=True), "needs a `version` and some `files`"),
        (content(files=[]), "needs a `version` and some `files`"),
        (content(files={}), "needs a `version` and some `files`"),
        (content("images/a.jpg"), "`files` must be objects"),
        (content(entry(path=3)), "file 3 needs a path, a key, its bytes and its SHA-256"),
        (content(entry(key=None)), "'images/a.jpg' needs a path, a key"),
        (content(entry(bytes=-1)), "'images/a.jpg' needs a path, a key"),
        (content(entry(bytes="3")), "'images/a.jpg' needs a path, a key"),
        (content(entry(sha256="A" * 64)), "'images/a.jpg' needs a path, a key"),
        (content(entry(sha256=SHA + "\n")), "'images/a.jpg' needs a path, a key"),
        (content(entry(path="../../x")), "'../../x' points outside the data set"),
        (content(entry(path="/etc/passwd")), "'/etc/passwd' points outside"),
        (content(entry(path="C:x")), "'C:x' points outside"),
        (content(entry(path="a\\b")), "points outside"),
        (content(entry(path="a\nb")), "has control characters in its name"),
        (content(entry(path="a\u2028b")), "has control characters in its name"),
        (content(entry(path="a\ud800b")), "is not text in UTF-8"),
        (content(entry(path="\u00e9" * 128)), "has a part of more than 255 bytes"),
        (content(entry(path="./.")), "points outside"),
        (content(entry(), entry(path="images/./a.jpg")), "'images/a.jpg' comes twice"),
        (content(entry(path="a"), entry(path="a/b")), "'a' is a file and also a folder"),
        (content(entry(key="datasets/other/files/x")), "is not below datasets/shapes/"),
        (content(entry(key="datasets/shapes/../other/x")), "is not below datasets/shapes/"),
        (content(entry(key="checkpoints/job-1/best.pt")), "is not below datasets/shapes/"),
        (content(entry(key="datasets/shapes/a\nb")), "is not below datasets/shapes/"),
        (content(entry(bytes=2**60)), "more bytes than any disk holds"),
        (content(entry(bytes=2**40), entry(path="b", bytes=2**41)), "more bytes than any disk"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_manifest_that_is_not_to_be_followed_is_refused(
    tmp_path: Path, text: Any, words: str
) -> None:
    assert words in refusal(tmp_path, text)


def test_a_manifest_without_end_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "_manifest.json").open("wb") as file:
        file.truncate(manifest.LONGEST_MANIFEST + 1)

    with pytest.raises(DatasetInvalidError, match="larger than 1 GiB"):
        read_manifest(tmp_path / "_manifest.json", "shapes")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_FILES", 1)

    assert "lists 2 files; at most 1" in refusal(tmp_path, content(entry(), entry(path="b")))


hostile = st.text(st.sampled_from("ab./\\:~\0é\n"), max_size=12) | st.text(max_size=12)


@given(st.lists(hostile, min_size=1, max_size=4), hostile)
def test_no_manifest_ever_leads_outside_its_root_or_its_keys(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], key: str
) -> None:
    listed = [entry(path=path, key=f"datasets/shapes/{key}") for path in paths]
    file = write(tmp_path_factory.getbasetemp(), json.dumps(content(*listed)))
    try:
        read = read_manifest(file, "shapes")
    except DatasetInvalidError:
        return
    root, keys = Path("/far/away/root"), Path("/bucket/datasets/shapes")
    for one in read.entries:
        assert (root / one.place).is_relative_to(root)
        assert (root / one.place).resolve().is_relative_to(root)
        assert Path("/bucket", one.key).resolve().is_relative_to(keys)
        assert "\0" not in str(one.place)


@pytest.mark.parametrize(
    "name",
    [
        "images/a.jpg",
        "Screenshot 3.45\u202fPM.png",
        "caf\u00e9\u00a0👩\u200d🔬.jpg",
        "a b/c (1).txt",
    ],
)
def test_an_unusual_name_is_a_good_one(name: str) -> None:
    assert fault_of_name(name) is None
    assert escaped(name) == name


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_of_a_name_is_one_line_of_text(name: str) -> None:
    shown = escaped(name)

    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
