"""The report as Markdown: the cross-domain view, then a table per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anydiff.files import write_atomic
from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard, TaskLeaderboard
from anydiff_benchmarks.engine.report.models import advice_table, levels_table
from anydiff_benchmarks.engine.report.tables import MISSING, Cell, Table, across_table, answers_table, metrics_table
from anydiff_benchmarks.engine.report.text import arrow, short, task_sentence, warnings_of


def write_markdown(board: Leaderboard, path: Path) -> None:
    """Write the board as Markdown."""
    run = board.run
    parts = [f"# Benchmark: {_safe(run['suite']['name'])}", f"{run['date']}, `{_safe(run['command'])}`"]
    parts += [f"**{_safe(task)} could not be run:** {_safe(text)}" for task, text in run["problems"].items()]
    parts += [_safe(sentence) for sentence in warnings_of(board)]
    tasks = [task for task in board.tasks if task.quality]
    if tasks:
        parts += [
            "## Which solver, and how many network calls?",
            "By each task's first metric: the cheapest setting that is not told apart from the best as worse.",
            _table(answers_table(board), missing="–"),
        ]
    if len(tasks) > 1:
        parts += [
            "## Across domains",
            "The first metric of each task, 0 at its strongest free baseline and 1 at its ceiling, and the rank at "
            "this budget (equal ranks tie), with the probability of being the best. Values of different tasks are "
            "never averaged.",
            across_text(tasks),
        ]
    advice, levels = advice_table(board), levels_table(board)
    if advice is not None:
        parts += ["## What holds the models back?", _table(advice, missing="–")]
    if levels is not None:
        parts += [
            "## Denoising loss",
            "Of held-out data, as a share of that of a Gaussian with each entry's own mean and variance, which needs "
            "no network; in brackets the mean squared error. A network that treats all nodes of a graph alike knows "
            "no entry by its place, as this Gaussian does, and may stand above 1 where nearly all is noise.",
            _table(levels, missing="–"),
        ]
    for task in board.tasks:
        parts += [f"## {_safe(task.name)}", _safe(task_sentence(task.facts, len(task.seeds)))]
        parts += [task.significance, metrics_text(task, task.quality)]
        if task.oracles:
            parts += ["Oracles: the best of several samples per case, chosen with the truth. No quality of a forecast."]
            parts += [metrics_text(task, task.oracles)]
        for line in (*task.baselines, *task.lines):
            parts += [f"- {_safe(line.method)} at {line.nfe} NFE failed: {_safe(text)}" for text in line.failures]
            if line.inapplicable:
                parts.append(f"- {_safe(line.method)} at {line.nfe} NFE is n/a: {_safe(line.inapplicable)}")
        parts += [f"{task.missing} cells have no row yet."] if task.missing else []
        parts += [f"weights `{short(task.facts['weights'])}`, frozen task `{short(task.facts['frozen task'])}`"]
    write_atomic(path, "\n\n".join(parts) + "\n")


def across_text(tasks: Sequence[TaskLeaderboard]) -> str:
    """The first metric of every task between its baseline (0) and its ceiling (1)."""
    return _table(across_table(tasks), missing="–")


def metrics_text(task: TaskLeaderboard, cards: Sequence[MetricCard]) -> str:
    """Every line of a task."""
    return _table(metrics_table(task, cards, _title), missing="")


def _title(card: MetricCard) -> str:
    best_of = f", best of {card.oracle_of}" if card.oracle_of else ""
    return f"{card.name}{best_of} {arrow(card.direction)}"


def _table(table: Table, missing: str) -> str:
    lines = [[_safe(title) for title in table.head], ["---"] * len(table.head)]
    lines += [[missing if cell == MISSING else _cell(cell) for cell in cells] for cells in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(cell: Cell) -> str:
    text = f"**{_safe(cell.text)}**" if cell.mark else _safe(cell.text)
    return f"{text}{' =' if cell.mark == 'tied' else ''}{f' ({cell.note})' if cell.note else ''}"


_SIGNS = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "'"), ("[", "\\["), ("*", "\\*"))


def _safe(text: str) -> str:
    """Text from outside: no markup, no table cell, no line break."""
    text = " ".join(str(text).split())
    for sign, shown in _SIGNS:
        text = text.replace(sign, shown)
    return text
