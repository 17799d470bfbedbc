"""Progress over all cells with the time left: a bar on a terminal, some lines where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from anydiff_benchmarks.engine.planning import Cell
from anydiff_benchmarks.engine.row import Row

_LINES = 10


class Progress:
    """Tells the user on stderr; weighs cells by their expected seconds and corrects them by what the others took.

    Attributes:
        kept: rows in the store, of those planned.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._terminal = console.is_terminal
        columns = [
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        ]  # fmt: skip
        self._bar = Bar(*columns, console=console, disable=not self._terminal, transient=True)
        self._task = self._bar.add_task("preparing", total=None, left="")
        self.kept = 0
        self._cells = 0
        self._expected = 0.0
        self._spent = 0.0
        self._began = time.monotonic()
        self._last_said = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, sentence: str) -> None:
        """Show what is going on before the cells are known."""
        if self._terminal:
            self._bar.update(self._task, description=escape(sentence))
        else:
            self._print(sentence)

    def planned(self, seconds: float, cells: int, stored: int) -> None:
        """Begin the bar."""
        self._expected, self._cells, self.kept = seconds, cells, 0
        self._began = time.monotonic()
        self._bar.update(self._task, total=cells, completed=0, description="running", left=self._left())
        if not self._terminal:
            self._print(f"{cells} cells, {stored} of them stored; about {_minutes(seconds)} to compute the others")

    def finished(self, cell: Cell, row: Row, computed: bool) -> None:
        """Advance by a cell."""
        self.kept += 1
        self._spent += cell.cost if computed else 0.0
        failed = " FAILED" if row.failed else ""
        self._bar.update(self._task, advance=1, description=escape(cell.label + failed), left=self._left())
        tenth = _LINES * self.kept // max(1, self._cells)
        if not self._terminal and (failed or tenth > self._last_said):
            self._last_said = tenth
            self._print(f"{self.kept}/{self._cells} {self._left()}: {cell.label}{failed}")

    def _left(self) -> str:
        elapsed = time.monotonic() - self._began
        # What was expected is corrected by what the cells so far took, once these say anything.
        pace = elapsed / self._spent if self._spent > 0.02 * self._expected and self._spent > 0 else 1.0
        return f"{_minutes(max(0.0, self._expected - self._spent) * pace)} left"

    def _print(self, sentence: str) -> None:
        print(f"anydiff: {sentence}", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d} min" if whole >= 60 else f"{whole} s"
