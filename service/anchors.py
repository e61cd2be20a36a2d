"""Writes anchors while the service runs: into the database, and into a file outside of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from projections.anchors import (
    NO_ANCHOR,
    Anchor,
    AnchorError,
    AnchorKeys,
    JobHead,
    digest,
    number_of,
)
from service.errors import StoreUnavailableError
from service.postgres import Database, RefusedDataError, Session

ANCHORS_NAME = "anchors.jsonl"
PAGE = 100
BLOCK = 64 * 1024
LAST_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AnchorsFile:
    """The copy outside the database: one line an anchor, in the order of their numbers."""

    path: Path

    def size(self) -> int:
        """Return how many bytes it has now."""
        return self.path.stat().st_size

    def lines(self, size: int) -> Iterator[str]:
        """Yield the complete lines of the first so many bytes; more may just be written."""
        with self.path.open("rb") as file:
            for line in file:
                size -= len(line)
                if size < 0 or not line.endswith(b"\n"):
                    return
                yield line[:-1].decode(errors="replace")

    def last(self) -> str | None:
        """Return the last complete line without reading the whole file."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            end = file.seek(0, os.SEEK_END)
            tail = b""
            while tail.count(b"\n") < 2 and end > 0:
                start = max(0, end - BLOCK)
                file.seek(start)
                tail = file.read(end - start) + tail
                end = start
        complete = tail[: tail.rfind(b"\n") + 1].splitlines()
        return complete[-1].decode(errors="replace") if complete else None

    def append(self, lines: list[str]) -> None:
        """Write lines behind the last complete one, durably."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(opened, "r+b") as file:
            file.seek(_end_of_lines(file.fileno()))
            file.truncate()  # what a killed service had begun
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())


def _end_of_lines(file: int) -> int:
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - BLOCK)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


@dataclass(frozen=True, slots=True)
class _Newest:
    """Where the anchors and the log end."""

    now: datetime
    log_id: str
    position: int
    number: int
    line: str | None

    def previous(self) -> str:
        return NO_ANCHOR if self.line is None else digest(self.line)


@dataclass(slots=True)
class Anchoring:
    """Anchors the log every so often, where it has changed and no other service just did."""

    database: Database
    keys: AnchorKeys
    file: AnchorsFile
    seconds: float
    """How long from one anchor to the next."""
    _complained: set[int] = field(default_factory=set)

    async def run(self) -> None:
        """Write anchors until cancelled; no error ends it."""
        while True:
            try:
                await self.anchor(unless_within=self.seconds / 2)
            except StoreUnavailableError:
                pass  # the pools have said so
            except Exception:
                log.exception("anchor_failed")
            await asyncio.sleep(self.seconds)

    async def conclude(self) -> None:
        """Write the last anchor of a service that stops; where that cannot be, let it be."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.anchor()
        except (TimeoutError, StoreUnavailableError):
            log.warning("stopped_without_an_anchor")
        except Exception:
            log.exception("anchor_failed")

    async def anchor(self, *, unless_within: float = 0.0) -> None:
        """Anchor what has changed, unless somebody did within so many seconds; copy it outside."""
        async with self.database.session() as session:
            newest = await _newest(session)
            last = self._last(newest)
            if last is None or _seconds_since(last, newest.now) >= unless_within:
                await self._write(session, newest, last.position if last else 0)
            await self._copy(session)

    def _last(self, newest: _Newest) -> Anchor | None:
        """Return the last anchor; None where it is not ours: then everything is anchored anew."""
        if newest.line is None:
            return None
        try:
            last = self.keys.read(newest.line)
        except AnchorError as error:
            self._complain(newest.number, str(error))
            return None
        if last.position > newest.position:
            self._complain(newest.number, f"saw position {last.position}, and the log ends before")
        return last

    async def _write(self, session: Session, newest: _Newest, position: int) -> None:
        if newest.position <= position:
            return
        rows = await session.rows("heads_since", position)
        if not rows:
            return
        anchor = Anchor(
            log_id=newest.log_id,
            number=newest.number + 1,
            position=rows[0]["log_position"],
            recorded_at=newest.now.astimezone(UTC).isoformat(),
            heads=tuple(JobHead(row["id"], row["version"], row["hash"].hex()) for row in rows),
            previous=newest.previous(),
        )
        try:
            await session.run("add_anchor", anchor.number, self.keys.sign(anchor))
        except RefusedDataError:
            log.debug("anchored_by_another_service", number=anchor.number)
        else:
            log.info("anchored", number=anchor.number, position=anchor.position, jobs=len(rows))

    async def _copy(self, session: Session) -> None:
        """Append to the file what it does not hold yet, from wherever it was written."""
        last = await asyncio.to_thread(self.file.last)
        try:
            number = number_of(last) if last is not None else 1
        except AnchorError as error:
            self._complain(0, f"in {self.file.path} {error}")
            return
        while rows := await session.rows("list_anchors", number, PAGE):
            lines = [row["line"] for row in rows]
            if last is not None and rows[0]["number"] == number and lines[0] == last:
                lines = lines[1:]
            elif last is not None:
                break
            if lines:
                await asyncio.to_thread(self.file.append, lines)
            if len(rows) < PAGE:
                return
            number, last = rows[-1]["number"], rows[-1]["line"]
        if last is not None:
            self._complain(number, f"in {self.file.path} is not in the database")

    def _complain(self, number: int, what: str) -> None:
        """Say once that `epochlog verify` will find something."""
        if number not in self._complained:
            self._complained.add(number)
            log.error("anchor_disagrees", number=number, what=f"The anchor {what}.")


async def _newest(session: Session) -> _Newest:
    row = await session.row("newest_anchor")
    assert row is not None  # noqa: S101 - the log has one head and one identity
    return _Newest(row["now"], str(row["log_id"]), row["position"], row["number"] or 0, row["line"])


def _seconds_since(anchor: Anchor, now: datetime) -> float:
    return (now - datetime.fromisoformat(anchor.recorded_at)).total_seconds()
