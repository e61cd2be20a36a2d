"""A real S3 server for the tests, with keys that they know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service import s3_server as server
from service.object_store import AccessKeys

KEY, SECRET = "tests-access-key", "tests-secret-access-key"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Serve a folder whose subfolders are the buckets; the endpoint's URL."""
    buckets = {bucket.name: bucket for bucket in folder.iterdir()}
    log = folder.parent / "s3.log"
    with server.s3_server(buckets, log=log, keys=AccessKeys(KEY, SECRET)) as running:
        yield running.url
