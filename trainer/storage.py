"""The port of the storage: where data sets come from and checkpoints go."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from trainer.bearer import Bearer
from trainer.configuration import Configuration
from trainer.errors import ObjectDamagedError
from trainer.steps import Step, uncounted

CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in the storage, and the proof of its content."""

    uri: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Owner:
    """The attempt that writes an object in the name of its whole job."""

    trace_id: str
    attempt: int


class Storage(Protocol):
    """Objects by key, each written whole or not at all.

    Whatever may pass is tried again by the adapter. Both ways raise StorageDeniedError and
    StorageUnreachableError; fetching also raises ObjectMissingError, DiskFullError and, where an
    expected SHA-256 is given and is not that of the content, ObjectDamagedError.
    """

    def fetch(self, key: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy an object to a file, which is there only when it is whole."""

    def fetch_uri(self, uri: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy what `Stored.uri` named earlier."""

    def store(self, source: Path, key: str, *, owner: Owner | None = None) -> Stored:
        """Write a file under a key; readers see the old object or the new.

        With an owner, what a later attempt of the job has written stays, as far as the storage can
        tell: StorageSupersededError.
        """


def open_storage(
    configuration: Configuration, job_url: str, bearer: Bearer, step: Step = uncounted
) -> Storage:
    """Return the adapter that the configuration asks for; each brings its own library.

    `step` is called as fetching gets on.
    """
    if configuration.storage_type == "local":
        from trainer.local_storage import LocalStorage  # noqa: PLC0415

        storage = LocalStorage(Path(configuration.bucket.removeprefix("file://")), step)
        storage.clear(f"checkpoints/job-{configuration.job_id}")
        return storage
    if configuration.storage_access == "presigned":
        from trainer.presigned_storage import PresignedStorage  # noqa: PLC0415

        return PresignedStorage(configuration.bucket, job_url, bearer, step)
    from trainer.s3_storage import S3Storage  # noqa: PLC0415

    return S3Storage(
        bucket=configuration.bucket,
        endpoint=configuration.storage_endpoint,
        keys=configuration.storage_keys,
        step=step,
    )


def copy(reader: BinaryIO, writer: BinaryIO, step: Step = uncounted) -> tuple[str, int]:
    """Copy all of it in pieces; return its SHA-256 and length."""
    digest, size = hashlib.sha256(), 0
    while piece := reader.read(CHUNK):
        digest.update(piece)
        writer.write(piece)
        size += len(piece)
        step()
    return digest.hexdigest(), size


def refuse_other(what: str, found: str, wanted: str | None) -> None:
    """Raise ObjectDamagedError unless the content is the wanted one."""
    if wanted is not None and found != wanted:
        raise ObjectDamagedError(
            f"{what} is not what was written: its SHA-256 is {found}, and {wanted} is wanted."
        )
