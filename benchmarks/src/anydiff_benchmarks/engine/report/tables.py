"""The tables of the report as plain data: page and Markdown write the same cells, each with its own markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Leaderboard, Line, Mark, TaskLeaderboard, normalised, parts_of, ranks
from anydiff_benchmarks.engine.recommend import Recommendation, recommend
from anydiff_benchmarks.engine.report.text import (
    BASELINE_HELP,
    COSTS,
    LATER_COSTS,
    cost_text,
    counted,
    heading,
    line_name,
    number,
    span,
)
from anydiff_benchmarks.engine.statistics import Paired, chances


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        value: what it is sorted by; None for the text.
        note: said beside it, small.
        mark: whether it is the best of its budget, or tied with the best.
        style: ``words`` for a sentence, ``failed`` for what has no value.
        link: address within the page.
    """

    text: str
    value: float | None = None
    note: str = ""
    mark: Mark = ""
    style: Literal["", "words", "failed"] = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Titles and rows of cells.

    Attributes:
        head: a title per column.
        rows: the cells.
        kinds: of each row: ``free`` for a baseline, ``first`` for the first of a budget.
        stacked: whether a narrow screen shows each row as a list of its cells, which hold sentences.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kinds: Sequence[str]
    stacked: bool = False


MISSING = Cell("–")


def overview_table(board: Leaderboard) -> Table:
    """A line per task: its first metric between strongest free baseline and ceiling, and who is best at each budget."""
    shown = [(index, task) for index, task in enumerate(board.tasks) if task.quality]
    budgets = sorted({nfe for _, task in shown for nfe in task.budgets})
    head = ["task", "metric", "strongest free baseline", *(f"best at {nfe} NFE" for nfe in budgets), "ceiling"]
    rows = []
    for index, task in shown:
        card = task.quality[0]
        low, high = task.bounds(card.name)
        ideal = Cell(f"{number(card.ideal)} (ideal)")
        rows.append(
            [
                Cell(task.name, link=f"#task-{index}"),
                Cell(heading(card), style="words"),
                MISSING if low is None else _bound(low, card.name),
                *(_best(task.at(nfe), card) for nfe in budgets),
                ideal if high is None else _bound(high, card.name),
            ]
        )
    return Table(head, rows, [""] * len(rows))


def answers_table(board: Leaderboard) -> Table:
    """A line per task: the setting to take, how sure that is, and what more calls bring."""
    head = ["task", "take", "calls", "no setting is better", "more calls bring", "against the strongest free baseline"]
    rows = []
    for index, task in enumerate(board.tasks):
        found = recommend(task)
        name = Cell(task.name, link=f"#task-{index}")
        if found is None:
            why = "too few cases or samples are judged to tell settings apart" if task.quality else "no metric"
            rows.append([name, Cell(why, style="words"), MISSING, MISSING, MISSING, MISSING])
            continue
        more = "nothing" if found.more is None else _difference(found.more, found.card)
        best = "" if found.more is None else f"{found.best.method}, {found.best.nfe} calls"
        rows.append(
            [
                name,
                Cell(found.take.method, note=_against_own(found), style="words"),
                Cell(str(found.take.nfe), found.take.nfe),
                MISSING if found.chance is None else Cell(f"{100 * found.chance:.0f} %", found.chance),
                Cell(more, note=best, style="words"),
                MISSING if found.baseline is None else _against(found.baseline, found.card, found.baseline_name),
            ]
        )
    return Table(head, rows, [""] * len(rows), stacked=True)


def _against_own(found: Recommendation) -> str:
    if found.gain is None:
        return ""
    return f"against the recipe's own: {_difference(found.gain, found.card)}"


def _against(pair: Paired, card: MetricCard, baseline: str) -> Cell:
    words = {"win": "better", "loss": "WORSE", "tie": "not told apart", "not judged": "not judged"}
    note = f"{BASELINE_HELP.get(baseline, baseline)}: {_difference(pair, card)}"
    style: Literal["words", "failed"] = "failed" if pair.verdict == "loss" else "words"
    return Cell(words[pair.verdict], note=note, style=style)


def _difference(pair: Paired, card: MetricCard) -> str:
    """A difference in the metric's own unit, with its interval."""
    low, high = pair.interval or (pair.difference, pair.difference)
    unit = "" if card.unit in ("", "1") else f" {card.unit}"
    return f"{pair.difference:+.3g}{unit} [{low:+.3g} … {high:+.3g}]"


def across_table(tasks: Sequence[TaskLeaderboard]) -> Table:
    """The first metric of every task between its strongest free baseline (0) and its ceiling (1); never averaged."""
    methods = dict.fromkeys((line.method, line.nfe) for task in tasks for line in task.lines)
    places = {(task.name, nfe): _places(task, nfe) for task in tasks for nfe in task.budgets}
    rows = []
    for method, nfe in sorted(methods, key=lambda each: each[1]):
        shares = [_share(task, method, nfe, places.get((task.name, nfe), {})) for task in tasks]
        rows.append([Cell(method), Cell(str(nfe), nfe), *shares])
    return Table(["method", "NFE", *(task.name for task in tasks)], rows, [""] * len(rows))


def metrics_table(task: TaskLeaderboard, cards: Sequence[MetricCard], title: Callable[[MetricCard], str]) -> Table:
    """Every line of a task with its values and its cost; ``title`` names a metric."""
    firsts = {id(task.at(nfe)[0]) for nfe in task.budgets}
    lines = [*task.baselines, *task.lines]
    # Rows of earlier versions lack the later costs: a column that says nothing is left out.
    costs = {name: said for name, said in COSTS if name not in LATER_COSTS or any(line.cost(name) for line in lines)}
    head = ["method", "NFE", *(title(card) for card in cards), *costs.values()]
    kinds = ["free" if not line.nfe else "first" if id(line) in firsts else "" for line in lines]
    return Table(head, [_cells(line, task, cards, list(costs)) for line in lines], kinds)


def cards_table(task: TaskLeaderboard) -> Table:
    """What the metrics of a task mean."""
    head = ["metric", "better", "unit", "range", "ideal", "least samples", "features", "version", "dtype", "library"]
    rows = [
        [
            Cell(text, style="words")
            for text in (
                card.name, card.direction, card.unit, f"{number(card.range[0])} … {number(card.range[1])}",
                number(card.ideal), str(card.minimum_samples), card.features or "–", card.version, card.dtype,
                card.library or "–",
            )
        ]
        for card in task.cards
    ]  # fmt: skip
    return Table(head, rows, [""] * len(rows))


def _cells(line: Line, task: TaskLeaderboard, cards: Sequence[MetricCard], shown: Sequence[str]) -> list[Cell]:
    costs = [(name, line.cost(name)) for name in shown]
    return [
        Cell(line_name(line, task)),
        Cell(counted(line), line.nfe),
        *(_value(line, task, card) for card in cards),
        *(MISSING if cost is None else Cell(cost_text(name, cost.median), cost.median) for name, cost in costs),
    ]


def _value(line: Line, task: TaskLeaderboard, card: MetricCard) -> Cell:
    summary = line.values.get(card.name)
    if summary is None:
        if line.failures:
            return Cell("failed", style="failed")
        return Cell("n/a") if line.inapplicable else MISSING
    mark: Mark = line.marks.get(card.name, "")
    below = normalised(task, card, summary.mean) if line.nfe else None
    style: Literal["", "failed"] = "failed" if below is not None and below < 0 else ""
    note = f"{span(summary)} below {_strongest(task, card)}".strip() if style else span(summary)
    return Cell(number(summary.mean), summary.mean, note, mark, style)


def _strongest(task: TaskLeaderboard, card: MetricCard) -> str:
    name = task.free(card.name)[0].method
    return BASELINE_HELP.get(name, name)


def _places(task: TaskLeaderboard, nfe: int) -> dict[str, str]:
    """Rank of each method of a budget, with the probability that it is the best."""
    card = task.quality[0]
    lines = [line for line in task.at(nfe) if card.name in line.values]
    best = chances({line.method: parts_of(line.rows, card.name) for line in lines}, card.direction)
    return {
        name: f"#{rank}" + (f", best: {100 * best[name]:.0f} %" if name in best else "")
        for name, rank in ranks(lines, card).items()
    }


def _share(task: TaskLeaderboard, method: str, nfe: int, places: dict[str, str]) -> Cell:
    card = task.quality[0]
    line = next((line for line in task.at(nfe) if line.method == method and card.name in line.values), None)
    share = None if line is None else normalised(task, card, line.values[card.name].mean)
    return (
        MISSING if share is None else Cell(f"{share:.3f}", share, places[method], style="failed" if share < 0 else "")
    )


def _bound(line: Line, metric: str) -> Cell:
    value = line.values[metric].mean
    return Cell(number(value), value, BASELINE_HELP.get(line.method, line.method))


def _best(lines: Sequence[Line], card: MetricCard) -> Cell:
    """Who is best at a budget, with the values of those that tie; the range of all where too few runs tell a best."""
    marked = [line for line in lines if line.marks.get(card.name)]
    shown = marked or [line for line in lines if card.name in line.values]
    means = [line.values[card.name].mean for line in shown]
    if not means:
        return MISSING
    low, high = number(min(means)), number(max(means))
    best = min(means) if card.direction == "lower" else max(means)
    names = ", ".join(line.method for line in marked)
    note = "all; so few runs tell no best" if not marked else names if len(marked) == 1 else f"tied: {names}"
    return Cell(low if low == high else f"{low} … {high}", best, note)
