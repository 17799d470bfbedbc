"""The page's overview: every task in a line, and the methods across domains between baseline and ceiling."""

from __future__ import annotations

from collections.abc import Sequence

from anydiff_benchmarks.engine.leaderboard import Leaderboard, Line, TaskLeaderboard, normalised, ranks
from anydiff_benchmarks.engine.report import svg
from anydiff_benchmarks.engine.report.html_elements import table, text
from anydiff_benchmarks.engine.report.text import BASELINE_HELP, number


def overview(board: Leaderboard) -> str:
    """A line per task, then the cross-domain view."""
    shown = [(index, task) for index, task in enumerate(board.tasks) if task.quality]
    if not shown:
        return "<p>No task was run.</p>"
    budgets = sorted({nfe for _, task in shown for nfe in task.budgets})
    head = ["task", "metric", "baseline", *(f"best at {nfe} NFE" for nfe in budgets), "ceiling"]
    rows = []
    for index, task in shown:
        card = task.quality[0]
        low, high = task.bounds(card.name)
        cells = [f'<td><a href="#task-{index}">{text(task.name)}</a></td>']
        cells += [f'<td class="words">{svg.heading(card)}</td>']
        cells += [_bound(low, card.name, "")]
        cells += [_winners(task.at(nfe), card.name, card.direction) for nfe in budgets]
        cells += [_bound(high, card.name, f"{number(card.ideal)} (ideal)")]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = (
        "The first metric of every task. Baseline: what costs no model (of the task itself, or a Gaussian without "
        "correlations); a model that does not beat it is broken. Ceiling: held-out data judged against held-out data."
    )
    return table(head, rows) + f'<p class="quiet">{text(note)}</p>' + _across([task for _, task in shown])


def _across(tasks: Sequence[TaskLeaderboard]) -> str:
    methods = list(dict.fromkeys((line.method, line.nfe) for task in tasks for line in task.lines))
    places = {(task.name, nfe): ranks(task.at(nfe), task.quality[0]) for task in tasks for nfe in task.budgets}
    rows = []
    for method, nfe in sorted(methods, key=lambda each: each[1]):
        cells = [f"<td>{text(method)}</td>", f'<td data-value="{nfe}">{nfe}</td>']
        cells += [_share(task, method, nfe, places) for task in tasks]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = (
        "The first metric of each task on one scale: 0 at its baseline, 1 at its ceiling; the rank among the methods "
        "of the same budget below it, equal where they tie. Values of different tasks are never averaged."
    )
    head = ["method", "NFE", *(task.name for task in tasks)]
    return f'<h2>Across domains</h2>{table(head, rows)}<p class="quiet">{text(note)}</p>'


def _share(task: TaskLeaderboard, method: str, nfe: int, places: dict[tuple[str, int], dict[str, int]]) -> str:
    card = task.quality[0]
    line = next((line for line in task.at(nfe) if line.method == method and card.name in line.values), None)
    share = None if line is None else normalised(task, card, line.values[card.name].median)
    if line is None or share is None:
        return "<td>–</td>"
    return f'<td data-value="{share}">{share:.3f}<small>rank {places[task.name, nfe][method]}</small></td>'


def _bound(line: Line | None, metric: str, otherwise: str) -> str:
    if line is None:
        return f"<td>{text(otherwise or '–')}</td>"
    value = line.values[metric].median
    name = BASELINE_HELP.get(line.method, line.method)
    return f'<td data-value="{value}">{number(value)}<small>{text(name)}</small></td>'


def _winners(lines: Sequence[Line], metric: str, direction: str) -> str:
    marked = [line for line in lines if line.marks.get(metric)]
    if not marked:
        medians = [line.values[metric].median for line in lines if metric in line.values]
        shown = f"{number(min(medians))} … {number(max(medians))}" if medians else "–"
        return f"<td>{shown}{'<small>all; so few runs tell no best</small>' if medians else ''}</td>"
    sign = 1 if direction == "lower" else -1
    best = min(marked, key=lambda line: sign * line.values[metric].median)
    names = text(best.method) if len(marked) == 1 else "tied: " + ", ".join(text(line.method) for line in marked)
    medians = [line.values[metric].median for line in marked]
    low, high = number(min(medians)), number(max(medians))
    value = best.values[metric].median
    return f'<td data-value="{value}">{low if low == high else f"{low} … {high}"}<small>{names}</small></td>'
