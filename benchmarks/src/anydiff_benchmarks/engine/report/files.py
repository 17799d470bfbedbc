"""Rows for programs: JSON lines (all of a row) and CSV (its numbers)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from anydiff.files import write_atomic
from anydiff_benchmarks.engine.leaderboard import Leaderboard
from anydiff_benchmarks.engine.row import Row


def write_lines(board: Leaderboard, path: Path) -> None:
    """One JSON object per row, complete."""
    write_atomic(path, "".join(row.text() + "\n" for row in board.rows))


def write_csv(board: Leaderboard, path: Path) -> None:
    """One line per row; a column per metric, named as its card."""
    metrics = list(dict.fromkeys(name for row in board.rows for name in row.cards))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Row.CSV, "device", *metrics])
    for row in board.rows:
        values = [_cell(getattr(row, name)) for name in Row.CSV]
        writer.writerow([*values, row.machine.get("name", ""), *(_cell(row.metrics.get(name)) for name in metrics)])
    write_atomic(path, text.getvalue())


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula is made text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return "'" + value
    return "" if value is None else value
