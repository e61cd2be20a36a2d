"""The storage of data sets and checkpoints, as the settings name it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from service.bucket import Bucket
from service.object_store import AccessKeys, ObjectStore
from service.settings import Settings, StorageAccess, StorageType
from service.storage_url import open_store


@dataclass(frozen=True, slots=True)
class Signing:
    """One bucket by the two keys for which addresses are signed; they may be the same."""

    reading: Bucket
    writing: Bucket


def training_storage(
    settings: Settings, keys: AccessKeys | None = None, *, only_reads: bool = False
) -> ObjectStore:
    """Return the folder or the bucket; without keys, with the trainer's where they are set."""
    if settings.storage_type is StorageType.LOCAL:
        return open_store(settings.bucket)
    return _bucket(settings, keys or (_keys("R2_") if only_reads else _writing_keys()))


def signing_storage(settings: Settings, keys: AccessKeys | None = None) -> Signing | None:
    """Return the bucket for which addresses are signed; None where trainers have keys."""
    if settings.storage_access is StorageAccess.KEYS:
        return None
    reading = _bucket(settings, keys or _keys("R2_"))
    return Signing(reading, _bucket(settings, keys or _writing_keys()))


def _writing_keys() -> AccessKeys | None:
    return _keys("R2_WRITE_") or _keys("R2_")


def _keys(prefix: str) -> AccessKeys | None:
    key_id, secret = (
        os.environ.get(f"{prefix}{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    return AccessKeys(key_id, secret) if key_id and secret else None


def _bucket(settings: Settings, keys: AccessKeys | None) -> Bucket:
    return Bucket(settings.bucket, "", settings.s3_endpoint, keys)
