"""Opens the place that a URL names: a folder, or a bucket of an S3-compatible store."""

from __future__ import annotations

from pathlib import Path

from service.bucket import SCHEME, Bucket
from service.folder import Folder
from service.object_store import AccessKeys, ObjectStore


def open_store(
    url: str, endpoint: str | None = None, keys: AccessKeys | None = None
) -> ObjectStore:
    """Return the store at `s3://bucket/prefix`, or in a folder. Raises SettingsError."""
    if not url.startswith(SCHEME):
        return Folder(Path(url))
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    return Bucket(bucket, prefix.strip("/"), endpoint, keys)
