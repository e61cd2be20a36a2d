"""The storage of data sets and checkpoints, as the settings name it."""

from __future__ import annotations

import os

from service.object_store import AccessKeys, Bucket, ObjectStore, open_store
from service.settings import Settings, StorageAccess, StorageType


def training_storage(settings: Settings) -> ObjectStore:
    """Return the folder or the bucket; the bucket with the trainer's keys where they are set."""
    if settings.storage_type is StorageType.LOCAL:
        return open_store(settings.bucket)
    return _bucket(settings)


def signing_storage(settings: Settings) -> Bucket | None:
    """Return the bucket for which addresses are signed; None where trainers have keys."""
    if settings.storage_access is StorageAccess.KEYS:
        return None
    return _bucket(settings)


def _bucket(settings: Settings) -> Bucket:
    key_id, secret = (
        os.environ.get(f"R2_WRITE_{name}") or os.environ.get(f"R2_{name}")
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    keys = AccessKeys(key_id, secret) if key_id and secret else None
    return Bucket(settings.bucket, "", settings.s3_endpoint, keys)
