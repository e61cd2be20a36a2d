"""Opens an incident bundle and checks it: every file's hash, and that the events follow."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from zipfile import BadZipFile, ZipFile

from pydantic import ValidationError

from projections.events import Record
from projections.job import JobState
from projections.status import fold
from service.bundle import (
    EVENTS,
    FORMAT_VERSION,
    LOGS_FOLDER,
    MANIFEST,
    BundleError,
    Chain,
    Manifest,
)

CHUNK = 256 * 1024
LARGEST_MANIFEST = 64 * 1024 * 1024
LONGEST_LINE = 16 * 1024 * 1024
PAGE = 500


@dataclass(frozen=True, slots=True)
class Held:
    """What a bundle that was checked holds."""

    manifest: Manifest
    state: JobState
    events: int


class Unpacking:
    """A bundle on disk, open for reading."""

    def __init__(self, path: Path) -> None:
        """Open it and read its manifest. Raises BundleError."""
        self.path = path
        try:
            self._zip = ZipFile(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
        except (BadZipFile, NotImplementedError, ValueError) as error:
            raise BundleError(
                f"{path} is no incident bundle: it is not a whole zip file."
            ) from error
        try:
            self.manifest = self._read_manifest()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        """Return the unpacking itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._zip.close()

    def check(self) -> Held:
        """Return what it holds, if every file is as the manifest says and every event follows.

        Raises BundleError.
        """
        listed = self.manifest.files
        held = [info.filename for info in self._zip.infolist()]
        for name in held:
            if held.count(name) > 1:
                raise BundleError(f"The bundle is damaged: it holds {name} twice.")
            if name not in listed and name != MANIFEST:
                raise BundleError(f"The bundle is damaged: its manifest does not know {name}.")
        for name in listed:
            self._check_file(name)
        state, events = JobState(), 0
        for page in self.pages():
            state, events = fold(page, state), events + len(page)
        return Held(self.manifest, state, events)

    def pages(self) -> Iterator[list[Record]]:
        """Yield the events in pages, each held against the one before it. Raises BundleError."""
        chain, page = Chain(), list[Record]()
        with self._opened(EVENTS) as file:
            while line := file.readline(LONGEST_LINE):
                page.append(chain.follow(line))
                if len(page) == PAGE:
                    yield page
                    page = []
        if page:
            yield page
        self._check_head(chain)

    def logs(self) -> Iterator[tuple[int, bytes]]:
        """Yield each attempt of which there is a log, with its text."""
        for name in self.manifest.files:
            number = name.removeprefix(f"{LOGS_FOLDER}attempt-").removesuffix(".txt")
            if name.startswith(LOGS_FOLDER) and number.isascii() and number.isdigit():
                with self._opened(name) as file:
                    yield int(number), file.read()

    def _read_manifest(self) -> Manifest:
        with self._opened(MANIFEST) as file:
            text = file.read(LARGEST_MANIFEST)
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise BundleError(
                f"{self.path} is no incident bundle: its {MANIFEST} is not one."
            ) from error
        if manifest.format_version > FORMAT_VERSION:
            raise BundleError(
                f"The bundle has format {manifest.format_version}, made by Epochlog"
                f" {manifest.product_version}; this version reads up to {FORMAT_VERSION}."
            )
        return manifest

    def _check_file(self, name: str) -> None:
        wanted = self.manifest.files[name]
        digest, size = sha256(), 0
        with self._opened(name) as file:
            while (chunk := file.read(CHUNK)) and size <= wanted.bytes:
                digest.update(chunk)
                size += len(chunk)
        if (size, digest.hexdigest()) != (wanted.bytes, wanted.sha256):
            raise BundleError(
                f"The bundle is damaged: {name} is not what its manifest says (SHA-256)."
            )

    def _check_head(self, chain: Chain) -> None:
        head, last = self.manifest.head, chain.last
        if last is None or (last.version, last.position, last.hash) != (
            head.version,
            head.position,
            head.hash,
        ):
            raise BundleError(
                f"The bundle is damaged: {EVENTS} does not end at version {head.version}, where its"
                " manifest says that the job stood."
            )
        if last.job_id != self.manifest.job_id:
            raise BundleError(f"The bundle is damaged: {EVENTS} tells of another job.")

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._zip.open(name) as file:
                yield file
        except KeyError:
            raise BundleError(f"The bundle is damaged: {name} is missing.") from None
        except (
            BadZipFile,
            EOFError,
            NotImplementedError,
            OSError,
            RuntimeError,
            zlib.error,
        ) as error:
            raise BundleError(f"The bundle is damaged: {name} cannot be read ({error}).") from error
