"""The report of a store: HTML, Markdown, CSV and JSON lines, all derived from its rows."""

from __future__ import annotations

from pathlib import Path

from anydiff.errors import AnydiffError
from anydiff_benchmarks.engine.leaderboard import read_leaderboard
from anydiff_benchmarks.engine.report.files import write_csv, write_lines
from anydiff_benchmarks.engine.report.markdown import write_markdown
from anydiff_benchmarks.engine.report.page import write_page
from anydiff_benchmarks.engine.store import FILE, Store

PAGE = "index.html"


def write_report(folder: Path) -> Path:
    """Write ``index.html``, ``report.md``, ``rows.csv`` and ``rows.jsonl`` beside the store; return the page.

    Raises:
        AnydiffError: there is no store, nothing was run, or rows of one column have different metric cards.
    """
    if not (folder / FILE).is_file():
        raise AnydiffError(f"{str(folder)!r} holds no {FILE}; run `anydiff bench --suite quick --out {folder}` first.")
    with Store(folder) as store:
        board = read_leaderboard(store)
    write_lines(board, folder / "rows.jsonl")
    write_csv(board, folder / "rows.csv")
    write_markdown(board, folder / "report.md")
    write_page(board, folder, folder / PAGE)
    return folder / PAGE
