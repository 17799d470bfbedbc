"""What every command prints with: tables for people, JSON for programs, sentences to stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Print plain data as JSON to stdout; JSON has no infinity and no NaN, so ``null`` stands for a number without end.

    Such a number is an open end of a metric's range, or a value that is undefined, whose reason stands beside it.
    """
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def tell(sentence: str) -> None:
    """Print one sentence to stderr."""
    print(f"anydiff: {sentence}", file=sys.stderr)


@contextlib.contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that moves a bar on stderr, which appears with the first call; silent off a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            if not bar.live.is_started:
                stack.enter_context(bar)
            bar.update(task, completed=done, total=total)

        yield report
