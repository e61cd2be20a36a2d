"""Where archives, data sets and checkpoints lie: what every such place can do."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from service.sent_file import Tell, ignore

CHUNK = 1024 * 1024


class ObjectStoreError(Exception):
    """The store cannot do what it is asked for; the message says why."""


class ObjectMissingError(ObjectStoreError):
    """The store holds no object of this name."""


class StoreRefusesError(ObjectStoreError):
    """The store takes these keys for nothing here, or has no such bucket: asking again is vain."""


class ObjectStore(Protocol):
    """Keeps whole files by names, which may have slashes."""

    @property
    def url(self) -> str:
        """Where it is, for a person."""

    async def put(
        self, name: str, source: Path, *, sha256: str | None = None, tell: Tell = ignore
    ) -> None:
        """Keep a copy of the file under this name: all of it or, where this fails, none.

        `tell` hears how many bytes more have gone. Raises SourceChangedError where the file has not
        the hash that is given, or ObjectStoreError; what was there before is there still.
        """

    async def fetch(self, name: str, target: Path) -> None:
        """Write what is kept under this name to a file.

        Raises ObjectMissingError or another ObjectStoreError.
        """

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Return the length of each file whose name begins so. Raises ObjectStoreError."""

    async def remove(self, name: str) -> None:
        """Keep nothing under this name any more. Raises ObjectStoreError."""

    def held(self) -> AbstractAsyncContextManager[None]:
        """Keep the connections for the many calls of a block."""


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """Credentials for a bucket, where they are not those of the environment."""

    key_id: str
    secret: str = field(repr=False)
