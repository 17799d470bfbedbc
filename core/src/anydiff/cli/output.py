"""What every command prints with: tables for people, JSON for programs, sentences to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; cells are shown as text, never read as markup. Piped output is as wide as it needs to be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[Text("" if cell is None else str(cell)) for cell in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def print_json(value: Any) -> None:
    """Print plain data as JSON to stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def tell(sentence: str) -> None:
    """Print one sentence to stderr."""
    print(f"anydiff: {sentence}", file=sys.stderr)
