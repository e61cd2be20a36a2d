"""The SQL of the `sql` folder, read once: a statement by its name, the migrations in order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; never edited once it was applied anywhere."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """What tells whether it was edited after all."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def statement(name: str) -> str:
    """Return the text of `sql/queries/{name}.sql`."""
    return files("sql").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration, in the order of its number."""
    folder = files("sql").joinpath("migrations")
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return tuple(
        Migration(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    )
