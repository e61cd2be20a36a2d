"""Callbacks on their way, in a file: what was said outlives the trainer that said it.

A SQLite file in write-ahead mode. What is appended has left the process when the call returns, so
it survives kill -9 of the trainer; the disk has it by the next `sync`, or after a few hundred more.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

SETTING_UP = (
    # Held by one process alone. There is then no shared memory beside it, and any volume will do.
    "pragma locking_mode = exclusive",
    "pragma journal_mode = wal",
    "pragma synchronous = normal",
    """create table if not exists callbacks (
        seq integer primary key, kind text not null, timed integer not null, body blob not null
    )""",
    "create index if not exists timed_callbacks on callbacks (seq) where timed",
    "create table if not exists facts (name text primary key, value text not null)",
)
LOCK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Item:
    """One callback, encoded when it happened, so that every try sends the same."""

    seq: int
    kind: str
    body: bytes
    """A JSON object."""
    timed: bool = False


class JournalError(Exception):
    """The journal cannot be read or written; the message says why."""


class Journal:
    """The callbacks of one attempt that are not acknowledged, by their numbers."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file; None keeps it in memory. Raises JournalError."""
        self.path = path
        self._connection = _opened(path)
        count, size, last = self._rows(
            "select count(*), total(length(body)), coalesce(max(seq), 0) from callbacks"
        )[0]
        self.count, self.size = int(count), int(size)
        """How many callbacks wait, and the bytes of their bodies."""
        self.last_seq = max(int(last), int(self.fact("last_seq") or 0))
        """The highest number that was ever given; 0 in a new journal."""

    def append(self, items: Iterable[Item]) -> None:
        """Keep callbacks, all or none. Raises JournalError."""
        rows = [(item.seq, item.kind, item.timed, item.body) for item in items]
        with self._transaction():
            self._connection.executemany("insert into callbacks values (?, ?, ?, ?)", rows)
        self.count += len(rows)
        self.size += sum(len(body) for *_, body in rows)
        self.last_seq = max(self.last_seq, *(seq for seq, *_ in rows))

    def first(self, most: int) -> list[Item]:
        """Return the oldest callbacks. Raises JournalError."""
        statement = "select seq, kind, body, timed from callbacks order by seq limit ?"
        return [
            Item(seq, kind, body, bool(timed))
            for seq, kind, body, timed in self._rows(statement, most)
        ]

    def settle(self, through: int) -> None:
        """Forget the callbacks up to this number. Raises JournalError."""
        with self._transaction():
            gone = self._rows(
                "delete from callbacks where seq <= ? returning length(body), seq", through
            )
            self._note("last_seq", str(self.last_seq))
        self._subtract(gone)

    def thin(self, most: int, after: int, facts: Callable[[list[int]], dict[str, str]]) -> None:
        """Drop the oldest timed heartbeats behind a number, and keep what follows from theirs.

        Raises JournalError.
        """
        with self._transaction():
            gone = self._rows(
                "delete from callbacks where seq in (select seq from callbacks where timed"
                " and seq > ? order by seq limit ?) returning length(body), seq",
                after,
                most,
            )
            for name, value in facts(sorted(seq for _, seq in gone)).items():
                self._note(name, value)
        self._subtract(gone)

    def fact(self, name: str) -> str | None:
        """Return what was noted under a name. Raises JournalError."""
        found = self._rows("select value from facts where name = ?", name)
        return found[0][0] if found else None

    def note(self, **facts: str) -> None:
        """Keep facts about the attempt, each under its name. Raises JournalError."""
        with self._transaction():
            for name, value in facts.items():
                self._note(name, value)

    def sync(self) -> None:
        """Have everything on the disk. Raises JournalError."""
        self._rows("pragma wal_checkpoint(truncate)")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def remove(self) -> None:
        """Let go of the file, and delete it."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _note(self, name: str, value: str) -> None:
        self._rows("replace into facts values (?, ?)", name, value)

    def _subtract(self, gone: list[tuple[Any, ...]]) -> None:
        self.count -= len(gone)
        self.size -= sum(length for length, _ in gone)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._connection:
                self._connection.execute("begin immediate")
                yield
        except sqlite3.Error as error:
            raise JournalError(str(error)) from error

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(str(error)) from error


def open_journal(path: Path) -> Journal:
    """Open or make a journal; one that is damaged is set aside. Raises JournalError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only its owner may read it: it holds the token that it is to be sent with.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            return Journal(path)
        except JournalError as error:
            if not _is_damage(error.__cause__):
                raise
            log.exception("the journal %s is damaged and set aside", path)
            _set_aside(path)
            return Journal(path)
    except OSError as error:
        raise JournalError(f"{path} cannot be opened: {error.strerror}") from error


def _set_aside(path: Path) -> None:
    path.replace(path.with_name(f"{path.name}.damaged"))
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)


def _is_damage(error: BaseException | None) -> bool:
    """Return whether the file is not sound: not only held by another, or on a full disk."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError
    )


def _opened(path: Path | None) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path or ":memory:",
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise JournalError(str(error)) from error
    try:
        for statement in SETTING_UP:
            connection.execute(statement)
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(str(error)) from error
    return connection
