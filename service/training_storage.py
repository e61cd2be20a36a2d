"""The storage of data sets and checkpoints, as the settings name it."""

from __future__ import annotations

import os

from service.object_store import AccessKeys, Bucket, ObjectStore, open_store
from service.settings import Settings, StorageAccess, StorageType


def training_storage(settings: Settings, keys: AccessKeys | None = None) -> ObjectStore:
    """Return the folder or the bucket; without keys, with the trainer's where they are set."""
    if settings.storage_type is StorageType.LOCAL:
        return open_store(settings.bucket)
    return _bucket(settings, keys)


def signing_storage(settings: Settings, keys: AccessKeys | None = None) -> Bucket | None:
    """Return the bucket for which addresses are signed; None where trainers have keys."""
    if settings.storage_access is StorageAccess.KEYS:
        return None
    return _bucket(settings, keys)


def _bucket(settings: Settings, keys: AccessKeys | None) -> Bucket:
    return Bucket(settings.bucket, "", settings.s3_endpoint, keys or _keys_of_environment())


def _keys_of_environment() -> AccessKeys | None:
    key_id, secret = (
        os.environ.get(f"R2_WRITE_{name}") or os.environ.get(f"R2_{name}")
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    return AccessKeys(key_id, secret) if key_id and secret else None
