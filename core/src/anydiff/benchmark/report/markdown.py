"""The report as Markdown: a table per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anydiff.benchmark.board import Board, Line, TaskBoard
from anydiff.benchmark.report.text import BASELINE_HELP, arrow, number, short, span, task_sentence
from anydiff.benchmark.statistics import significance_sentence
from anydiff.files import write_atomic


def write_markdown(board: Board, path: Path) -> None:
    """Write the board as Markdown."""
    run = board.run
    parts = [f"# Benchmark: {_safe(run['suite']['name'])}", f"{run['date']}, `{_safe(run['command'])}`"]
    parts += [f"**{_safe(task)} failed:** {_safe(text)}" for task, text in run["problems"].items()]
    for task in board.tasks:
        parts += [f"## {_safe(task.name)}", _safe(task_sentence(task.facts, len(task.seeds)))]
        parts += [significance_sentence(len(task.seeds)), _table(task)]
        parts += [f"- {_safe(line.method)} at {line.nfe} NFE failed: {_safe(text)}" for line, text in _failures(task)]
        parts += [f"{task.missing} cells have no row yet."] if task.missing else []
        parts += [f"weights `{short(task.facts['weights'])}`, recipe `{short(task.facts['recipe'])}`"]
    write_atomic(path, "\n\n".join(parts) + "\n")


def _failures(task: TaskBoard) -> list[tuple[Line, str]]:
    return [(line, text) for line in (*task.baselines, *task.lines) for text in line.failures]


def _table(task: TaskBoard) -> str:
    titles = ["method", "NFE", *(f"{_safe(card.name)} {arrow(card.direction)}" for card in task.cards)]
    titles += ["rows per call", "ms per sample", "peak MiB"]
    lines = [_row(titles), _row(["---"] * len(titles))]
    for line in (*task.baselines, *task.lines):
        name = BASELINE_HELP.get(line.method, line.method) if line.nfe == 0 else line.method
        cells = [_safe(name), _counted(line)]
        cells += [_value(line, card.name) for card in task.cards]
        costs = [line.cost(name) for name in ("rows_per_call", "milliseconds", "peak_memory_mib")]
        cells += ["" if cost is None else number(cost.median) for cost in costs]
        lines.append(_row(cells))
    return "\n".join(lines)


def _counted(line: Line) -> str:
    counted = line.cost("counted_nfe")
    return "0" if line.nfe == 0 else f"{counted.median:g}" if counted else f"({line.nfe})"


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


def _safe(text: str) -> str:
    """Text from outside: no markup, no table cell, no line break."""
    text = " ".join(str(text).split())
    for sign, shown in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "\\|"),
        ("`", "'"),
        ("[", "\\["),
        ("*", "\\*"),
    ):
        text = text.replace(sign, shown)
    return text
