"""The report as Markdown: the cross-domain view, then a table per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anydiff.files import write_atomic
from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard, Line, TaskLeaderboard, normalised, ranks
from anydiff_benchmarks.engine.report.text import (
    COSTS,
    arrow,
    cost_text,
    counted,
    line_name,
    number,
    short,
    span,
    task_sentence,
)
from anydiff_benchmarks.engine.statistics import significance_sentence


def write_markdown(board: Leaderboard, path: Path) -> None:
    """Write the board as Markdown."""
    run = board.run
    parts = [f"# Benchmark: {_safe(run['suite']['name'])}", f"{run['date']}, `{_safe(run['command'])}`"]
    parts += [f"**{_safe(task)} could not be run:** {_safe(text)}" for task, text in run["problems"].items()]
    parts += _across(board)
    for task in board.tasks:
        parts += [f"## {_safe(task.name)}", _safe(task_sentence(task.facts, len(task.seeds)))]
        parts += [significance_sentence(task.trainings, len(task.seeds)), _table(task, task.quality)]
        if task.oracles:
            parts += ["Oracles: the best of several samples per case, chosen with the truth. No quality of a forecast."]
            parts += [_table(task, task.oracles)]
        parts += [f"- {_safe(line.method)} at {line.nfe} NFE failed: {_safe(text)}" for line, text in _failures(task)]
        parts += [f"{task.missing} cells have no row yet."] if task.missing else []
        parts += [f"weights `{short(task.facts['weights'])}`, frozen task `{short(task.facts['frozen task'])}`"]
    write_atomic(path, "\n\n".join(parts) + "\n")


def _across(board: Leaderboard) -> list[str]:
    """The first metric of every task between its baseline (0) and its ceiling (1); never averaged."""
    tasks = [task for task in board.tasks if task.quality]
    if len(tasks) < 2:
        return []
    lines = [_row(["method", "NFE", *(_safe(task.name) for task in tasks)]), _row(["---"] * (2 + len(tasks)))]
    for title, nfe in dict.fromkeys((line.method, line.nfe) for task in tasks for line in task.lines):
        lines.append(_row([_safe(title), str(nfe), *(_share(task, title, nfe) for task in tasks)]))
    return [
        "## Across domains",
        "The first metric of each task, 0 at its baseline and 1 at its ceiling, and the rank at this budget (equal "
        "ranks tie). Values of different tasks are never averaged.",
        "\n".join(lines),
    ]


def _share(task: TaskLeaderboard, title: str, nfe: int) -> str:
    card = task.quality[0]
    line = next((line for line in task.at(nfe) if line.method == title and card.name in line.values), None)
    share = None if line is None else normalised(task, card, line.values[card.name].median)
    return "–" if line is None or share is None else f"{share:.3f} (#{ranks(task.at(nfe), card)[title]})"


def _failures(task: TaskLeaderboard) -> list[tuple[Line, str]]:
    return [(line, text) for line in (*task.baselines, *task.lines) for text in line.failures]


def _table(task: TaskLeaderboard, cards: Sequence[MetricCard]) -> str:
    titles = ["method", "NFE", *(f"{_safe(card.name)}{_best_of(card)} {arrow(card.direction)}" for card in cards)]
    titles += [title for _, title in COSTS]
    lines = [_row(titles), _row(["---"] * len(titles))]
    for line in (*task.baselines, *task.lines):
        cells = [_safe(line_name(line, task)), counted(line)]
        cells += [_value(line, card.name) for card in cards]
        costs = [(name, line.cost(name)) for name, _ in COSTS]
        cells += ["" if cost is None else cost_text(name, cost.median) for name, cost in costs]
        lines.append(_row(cells))
    return "\n".join(lines)


def _best_of(card: MetricCard) -> str:
    return f", best of {card.oracle_of}" if card.oracle_of else ""


def _value(line: Line, metric: str) -> str:
    summary = line.values.get(metric)
    if summary is None:
        return "failed" if line.failures else ""
    spread = span(summary)
    text = number(summary.median)
    mark = line.marks.get(metric)
    text = f"**{text}**" if mark else text
    return f"{text}{' =' if mark == 'tied' else ''}{f' ({spread})' if spread else ''}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


_SIGNS = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "'"), ("[", "\\["), ("*", "\\*"))


def _safe(text: str) -> str:
    """Text from outside: no markup, no table cell, no line break."""
    text = " ".join(str(text).split())
    for sign, shown in _SIGNS:
        text = text.replace(sign, shown)
    return text
