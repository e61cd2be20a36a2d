"""The trainer's storages as their tests open them: by keys, and by addresses from a service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.cutting_proxy import CuttingProxy
from tests.s3 import KEY, SECRET
from trainer.bearer import Bearer
from trainer.configuration import StorageKeys
from trainer.presigned_storage import PresignedStorage
from trainer.s3_storage import S3Storage

BUCKET = "trainings"
MEBIBYTE = 1024 * 1024
KEYS = StorageKeys(read=(KEY, SECRET), write=(KEY, SECRET))


def by_keys(line: CuttingProxy, keys: StorageKeys = KEYS, **changes: Any) -> S3Storage:
    """Return the bucket behind the line, by keys."""
    return S3Storage(**{"bucket": BUCKET, "endpoint": line.url, "keys": keys, **changes})


def by_addresses(service: Any, token: str | None = None) -> PresignedStorage:
    """Return the bucket for which a service signs."""
    bearer = Bearer(service.url, token or service.token, lambda _newer: None)
    return PresignedStorage(BUCKET, service.url, bearer)


def content(size: int) -> bytes:
    """Return so many bytes that no other call returns."""
    return os.urandom(size)


def write(path: Path, data: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def key(name: str) -> str:
    """Return the key of an object that the service's job may write."""
    return f"checkpoints/job-1/attempt-1/{name}"
