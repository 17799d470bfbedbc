"""The store: one SQLite file with a row per cell, addressed by what the row depends on, written as soon as it is known.

A killed run leaves every finished row; the same command goes on behind them. Failed rows are kept for the report and
run again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.tasks import canonical
from anydiff_benchmarks.engine.identity import changes
from anydiff_benchmarks.engine.row import Row

FILE = "results.sqlite"
FORMAT = 2

_TABLES = """
create table if not exists rows (
    key text primary key, label text not null, parts text not null, status text not null, row text not null
);
create index if not exists rows_by_label on rows (label);
create table if not exists notes (name text primary key, value text not null);
"""


class Store:
    """The rows of one output folder.

    Raises:
        AnydiffError: the folder cannot be written.
        FileFormatError: the file is no store, or one of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / FILE
        existed = self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=30)
            # A killed process loses nothing that was written; a killed machine at most the last rows, and not the file.
            self._connection.execute("pragma journal_mode=wal")
            self._connection.execute("pragma synchronous=normal")
            self._connection.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            if existed and not isinstance(error, sqlite3.OperationalError):
                raise FileFormatError(f"{str(self.path)!r} is not a results store; choose another --out.") from error
            raise self._unwritable(error) from error
        except OSError as error:
            raise self._unwritable(error) from error
        found = self.note("format", FORMAT)
        if found != FORMAT:
            self.close()
            raise FileFormatError(
                f"{str(self.path)!r} has format {found!r}, but this anydiff reads {FORMAT}; choose another --out."
            )
        if not existed:
            self.remember("format", FORMAT)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, row: Row, label: str) -> None:
        """Write one row durably; ``label`` names the cell to people, and stays the same when its inputs change.

        Raises:
            AnydiffError: the disk is full or the file cannot be written.
        """
        values = (row.key, label, canonical(row.inputs), row.status, row.text())
        try:
            with self._connection:
                self._connection.execute("insert or replace into rows values (?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise self._unwritable(error) from error

    def get(self, key: str) -> Row | None:
        """The row of this key."""
        found = self._connection.execute("select row from rows where key = ?", (key,)).fetchone()
        return Row.parse(json.loads(found[0]), f"row {key[:12]} of {str(self.path)!r}") if found else None

    def done(self) -> set[str]:
        """The keys of all rows that did not fail; what is not applicable once is not computed again."""
        return {key for (key,) in self._connection.execute("select key from rows where status != 'failed'")}

    def rows(self, keys: Iterable[str]) -> list[Row]:
        """The rows of these keys that exist, in the order of the keys."""
        return [row for key in keys if (row := self.get(key)) is not None]

    def explain(self, key: str, label: str, parts: Mapping[str, Any]) -> str:
        """Why the row of ``key`` is reused or must be computed, in words."""
        found = self.get(key)
        if found is not None and not found.failed:
            return f"reused: computed {found.started} from the same inputs"
        if found is not None:
            return f"computed again: failed {found.started} ({found.reason})"
        others = self._connection.execute("select parts from rows where label = ?", (label,)).fetchall()
        if not others:
            return "computed: never run before"
        found_changes = [_changed(json.loads(text), parts) for (text,) in others]
        least = min(found_changes, key=len)
        return f"computed: {least} changed" if least else "computed: never run before"

    def note(self, name: str, default: Any = None) -> Any:
        """What was remembered under ``name``."""
        found = self._connection.execute("select value from notes where name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else default

    def remember(self, name: str, value: Any) -> None:
        """Remember plain data under ``name``."""
        try:
            with self._connection:
                self._connection.execute("insert or replace into notes values (?, ?)", (name, canonical(value)))
        except sqlite3.Error as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> AnydiffError:
        return AnydiffError(
            f"cannot write {str(self.path)!r}: {error}; free some space or choose an --out that you may write to."
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The parts that differ, with their values where these are short."""
    words = []
    for name, old, new in changes(before, now):
        shown = all(isinstance(value, int | float | str) for value in (old, new))
        words.append(f"{name} ({_short(old)} -> {_short(new)})" if shown else name)
    return ", ".join(words)


def _short(value: object) -> str:
    text = str(value)
    return text[:8] if len(text) == 64 else text
