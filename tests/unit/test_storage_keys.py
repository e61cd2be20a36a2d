from __future__ import annotations

import pytest

from service.routing import MAX_BODY
from service.storage_keys import (
    LARGEST,
    MEBIBYTE,
    MOST_PARTS,
    PART,
    is_key,
    may_read,
    may_write,
    part_length,
)

OWN = "checkpoints/job-7/"
LONGEST_ETAG = 200


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/datasets/x.zip",
        "datasets//x.zip",
        "datasets/../x",
        "datasets/./x",
        "a/",
        "a b",
        "a\n",
        "ä",
    ],
)
def test_what_is_no_plain_path_is_no_key(key: str) -> None:
    assert not is_key(key)


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("datasets/shapes.zip", True),
        ("datasets/shapes/_manifest.json", True),
        ("datasets/shapes-2.zip", False),
        ("datasets/shapes/../other.zip", False),
        (f"{OWN}attempt-1/last.pt", True),
        ("checkpoints/job-77/last.pt", False),
        ("checkpoints/job-8/attempt-1/last.pt", False),
    ],
)
def test_an_attempt_reads_its_data_set_and_its_jobs_checkpoints(key: str, allowed: bool) -> None:
    assert may_read(key, 7, "shapes") is allowed


@pytest.mark.parametrize(
    ("key", "attempt", "current", "allowed"),
    [
        (f"{OWN}attempt-2/last.pt", 2, 2, True),
        (f"{OWN}attempt-2/last.pt", 2, 3, True),
        (f"{OWN}attempt-1/last.pt", 2, 2, False),
        (f"{OWN}attempt-3/last.pt", 2, 2, False),
        (f"{OWN}best.pt", 2, 2, True),
        (f"{OWN}best.pt", 1, 2, False),
        (f"{OWN}best.pt", 2, None, False),
        (f"{OWN}attempt-2/last.pt", 2, None, True),
        ("checkpoints/job-77/attempt-2/last.pt", 2, 2, False),
        ("datasets/shapes.zip", 2, 2, False),
    ],
)
def test_an_attempt_writes_its_own_folder_and_the_jobs_names_while_it_is_current(
    key: str, attempt: int, current: int | None, allowed: bool
) -> None:
    assert may_write(key, 7, attempt, current) is allowed


@pytest.mark.parametrize("size", [PART + 1, 64 * 1024 * MEBIBYTE + 1, LARGEST])
def test_a_large_object_has_parts_that_one_body_can_name(size: int) -> None:
    length = part_length(size)
    count = -(-size // length)

    assert PART <= length <= 5 * 1024 * MEBIBYTE
    assert count <= MOST_PARTS
    named = '{"number": 1000, "etag": ""}, '
    assert count * (len(named) + LONGEST_ETAG) < MAX_BODY
