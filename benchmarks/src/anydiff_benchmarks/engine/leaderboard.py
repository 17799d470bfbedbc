"""Leaderboards: rows put together for people. All that a report shows derives from stored rows and the run's note."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from anydiff.errors import AnydiffError
from anydiff.metrics import MetricCard, require_same_card
from anydiff_benchmarks.engine.row import Part, Row
from anydiff_benchmarks.engine.statistics import (
    FEWEST,
    Paired,
    Runs,
    Summary,
    beside,
    crossed,
    leaders,
    paired,
    power,
    significance_sentence,
    summarise,
)
from anydiff_benchmarks.engine.store import Store

Mark = Literal["", "best", "tied"]
"""What a line is among those of its budget, on one metric."""
EFFECT = 0.02
"""The difference, as a share of the value, whose probability of being found is told."""


@dataclass(frozen=True)
class Line:
    """One line of a table: a method at one budget, or a baseline; over its trainings and seeds.

    Attributes:
        method: its name.
        nfe: the budget; 0 for a baseline.
        rows: one per training and seed.
        values: for each metric the summary over them, where there is a value.
        marks: for each metric ``best`` or ``tied`` among the methods of this budget.
    """

    method: str
    nfe: int
    rows: tuple[Row, ...]
    values: Mapping[str, Summary]
    marks: Mapping[str, Mark] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """The reasons of failed rows, each once."""
        return list(dict.fromkeys(row.reason for row in self.rows if row.failed))

    @property
    def inapplicable(self) -> str:
        """Why the task cannot have this line; empty where it can."""
        return next((row.reason for row in self.rows if not row.done and not row.failed), "")

    def cost(self, name: str) -> Summary | None:
        """A column of cost: ``milliseconds``, or the name of a number of the rows, as ``peak_memory_mib``."""
        if name == "milliseconds":
            return summarise(
                {row.run: 1000 * row.seconds / row.samples for row in self.rows if row.seconds is not None}
            )
        values = ((row.run, getattr(row, name)) for row in self.rows)
        return summarise({run: float(value) for run, value in values if value is not None})

    @property
    def picture(self) -> str:
        """Relative path of the picture, or empty."""
        return next((row.picture for row in self.rows if row.picture), "")


@dataclass(frozen=True)
class TaskLeaderboard:
    """All lines of a task.

    Attributes:
        name: the task.
        facts: what the run noted of it.
        cards: of the metrics, the first being the one of plot and overview.
        lines: methods, by budget and then in the suite's order.
        baselines: the free baselines.
        missing: cells that have no row yet.
    """

    name: str
    facts: Mapping[str, Any]
    cards: tuple[MetricCard, ...]
    lines: tuple[Line, ...]
    baselines: tuple[Line, ...]
    missing: int

    @property
    def rows(self) -> list[Row]:
        """Every row."""
        return [row for line in (*self.baselines, *self.lines) for row in line.rows]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the task."""
        return sorted({row.seed for row in self.rows})

    @property
    def trainings(self) -> int:
        """The fewest trainings of a model."""
        models = {row.model for row in self.rows if row.kind == "method"}
        counts = [len({row.training for row in self.rows if row.model == model}) for model in models]
        return min(counts, default=1)

    @property
    def significance(self) -> str:
        """What the rows allow to say of the first metric."""
        card = next(iter(self.quality), None)
        counts = [line.values[card.name].units for line in self.lines if card and card.name in line.values]
        parted = card and all(row.units.get(card.name) for row in self.rows if row.kind == "method" and row.done)
        case = "block of cases" if any(row.blocks for row in self.rows) else "case"
        what = "seed" if not (card and parted) else case if card.uncertainty == "cases" else "group of samples"
        what = "training" if self.trainings > 1 else what
        sentence = significance_sentence(self.trainings, len(self.seeds), min(counts, default=0), what)
        if card is None:
            return sentence
        if any(crossed(parts_of(line.rows, card.name)) is not None for line in self.lines):
            sentence += " The luck of the cases, which all trainings share, is in the intervals, too."
        found = self.power(card)
        if found is not None:
            sentence += (
                f" A difference of {100 * EFFECT:g} % between two methods would be found with probability {found:.2f}."
            )
        return sentence

    def power(self, card: MetricCard) -> float | None:
        """How probably a difference of :data:`EFFECT` between methods of one budget is found: the median of pairs."""
        found = []
        for nfe in self.budgets:
            runs = [parts_of(line.rows, card.name) for line in self.at(nfe) if card.name in line.values]
            for one, other in itertools.combinations(runs, 2):
                chance = power(one, other, EFFECT)
                found += [] if chance is None else [chance]
        return statistics.median(found) if found else None

    @property
    def quality(self) -> list[MetricCard]:
        """The cards of metrics that choose nothing by the truth."""
        return [card for card in self.cards if not card.oracle_of]

    @property
    def oracles(self) -> list[MetricCard]:
        """The cards of metrics that take the best of several samples by the truth: printed apart."""
        return [card for card in self.cards if card.oracle_of]

    def bounds(self, metric: str) -> tuple[Line | None, Line | None]:
        """(the strongest free baseline, the ceiling that none need pass), where there are rows of them.

        The strongest is that of the best mean; the ceiling is what the task names, else held-out data against held-out
        data.
        """
        named = self.facts.get("ceiling") or "real"
        ceiling = next((line for line in self.baselines if line.method == named and metric in line.values), None)
        return next(iter(self.free(metric)), None), ceiling

    def free(self, metric: str) -> list[Line]:
        """The baselines that a model must beat, the strongest first: all that cost no model of the kind that is judged.

        Left out are held-out data, what the task names as its ceiling or as informed, and training data where a sample
        is not judged by its own case: there a copy of them is perfect, and worth nothing.
        """
        left_out = {"real", self.facts.get("ceiling") or "real", *self.facts.get("informed", ())}
        if not (self.facts.get("paired") or self.facts.get("closed loop")):
            left_out.add("resample")
        known = [
            line
            for line in self.baselines
            if line.method not in left_out and metric in line.values and math.isfinite(line.values[metric].mean)
        ]
        higher = next((card.direction == "higher" for card in self.cards if card.name == metric), False)
        return sorted(known, key=lambda line: line.values[metric].mean, reverse=higher)

    def against_free(self, line: Line, card: MetricCard) -> tuple[Line, Paired] | None:
        """The free baseline that is hardest to beat for ``line``, with the comparison; None where there is none.

        Better than the free baselines is who is better than each of them, so that with the least favourable verdict
        counts; among equal verdicts the strongest.
        """
        own = parts_of(line.rows, card.name)
        found = [(each, paired(own, beside(parts_of(each.rows, card.name), own), card.direction))
                 for each in self.free(card.name)]  # fmt: skip
        order = ("loss", "not judged", "tie", "win")
        return min(found, key=lambda each: order.index(each[1].verdict), default=None)

    @property
    def budgets(self) -> list[int]:
        """The budgets, ascending."""
        return sorted({line.nfe for line in self.lines})

    def at(self, nfe: int) -> list[Line]:
        """The methods at one budget."""
        return [line for line in self.lines if line.nfe == nfe]

    def line(self, baseline: str) -> Line | None:
        """The line of a baseline."""
        return next((line for line in self.baselines if line.method == baseline), None)


@dataclass(frozen=True)
class Leaderboard:
    """What a report shows: the run's note and a board per task."""

    run: Mapping[str, Any]
    tasks: tuple[TaskLeaderboard, ...]

    @property
    def rows(self) -> list[Row]:
        """Every row of every task."""
        return [row for task in self.tasks for row in task.rows]


def normalised(task: TaskLeaderboard, card: MetricCard, value: float) -> float | None:
    """``value`` between the strongest free baseline (0) and the ceiling (1); None where the two do not stand apart.

    The ceiling is held-out data against held-out data; where there is none, the card's ideal value.
    """
    baseline, ceiling = task.bounds(card.name)
    if baseline is None:
        return None
    low = baseline.values[card.name].mean
    high = card.ideal if ceiling is None else ceiling.values[card.name].mean
    sign = 1.0 if card.direction == "higher" else -1.0
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(value)) or sign * (high - low) <= 0:
        return None
    return (value - low) / (high - low)


def ranks(lines: Sequence[Line], card: MetricCard) -> dict[str, int]:
    """Rank 1, 2, ... of the methods of one budget; those not told apart from the best of the rest share a rank."""
    left = {line.method: parts_of(line.rows, card.name) for line in lines if card.name in line.values}
    found: dict[str, int] = {}
    rank = 1
    while left:
        group = leaders(left, card.direction)
        found.update(dict.fromkeys(group, rank))
        rank += len(group)
        left = {name: runs for name, runs in left.items() if name not in group}
    return found


def read_leaderboard(store: Store) -> Leaderboard:
    """The board of the last run of a store; of an unfinished one, as far as it came.

    Raises:
        AnydiffError: nothing was run yet, or rows of one column have different metric cards.
    """
    run = store.note("run")
    if run is None:
        raise AnydiffError(
            f"{str(store.path.parent)!r} holds no benchmark yet; run `anydiff bench --suite quick` first."
        )
    tasks = [
        make_leaderboard(name, run["tasks"][name], store.rows(keys), run["titles"], len(keys))
        for name, keys in run["keys"].items()
    ]
    return Leaderboard({**run, "advice": store.note("advice", {})}, tuple(tasks))


def make_leaderboard(
    name: str, facts: Mapping[str, Any], rows: Sequence[Row], titles: Sequence[str], planned: int
) -> TaskLeaderboard:
    """The board of one task from its rows.

    Raises:
        AnydiffError: two rows have different cards for one metric, so they cannot share a column.
    """
    cards = common_cards(rows)
    order = [card["name"] for card in facts.get("cards", [])]
    cards = sorted(cards, key=lambda card: order.index(card.name) if card.name in order else len(order))
    lines = []
    for nfe in sorted({row.nfe for row in rows if row.kind == "method"}):
        here = [row for row in rows if row.kind == "method" and row.nfe == nfe]
        lines += _marked([_line(title, nfe, here) for title in titles if _of(title, here)], cards)
    free = [row for row in rows if row.kind == "baseline"]
    baselines = [_line(method, 0, free) for method in dict.fromkeys(row.method for row in free)]
    return TaskLeaderboard(name, facts, tuple(cards), tuple(lines), tuple(baselines), planned - len(rows))


def common_cards(rows: Sequence[Row]) -> list[MetricCard]:
    """The cards of the rows, one per metric.

    Raises:
        AnydiffError: two rows have different cards for one metric.
    """
    names = dict.fromkeys(name for row in rows for name in row.cards)
    return [require_same_card([row.cards[name] for row in rows if name in row.cards]) for name in names]


def _of(method: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.method == method]


def runs_of(rows: Sequence[Row], metric: str) -> dict[tuple[int, ...], float]:
    """The values of a metric by run."""
    return {row.run: row.metrics[metric] for row in rows if metric in row.metrics}


def parts_of(rows: Sequence[Row], metric: str) -> Runs:
    """The values of a metric by unit, a case of several seeds with their mean; by run where a row has no units."""
    having = [row for row in rows if metric in row.metrics]
    if not all(row.units.get(metric) for row in having):
        return runs_of(rows, metric)
    found: dict[Part, list[float]] = {}
    for row in having:
        for number, value in zip(row.unit_numbers(metric), row.units[metric], strict=True):
            found.setdefault(number, []).append(value)
    return {number: statistics.fmean(values) for number, values in found.items()}


def _line(method: str, nfe: int, rows: Sequence[Row]) -> Line:
    own = tuple(sorted(_of(method, rows), key=lambda row: row.run))
    metrics = dict.fromkeys(name for row in own for name in row.metrics)
    summaries = {name: summarise(runs_of(own, name), parts_of(own, name)) for name in metrics}
    return Line(method, nfe, own, {name: summary for name, summary in summaries.items() if summary is not None})


def _marked(lines: Sequence[Line], cards: Sequence[MetricCard]) -> list[Line]:
    """The lines of one budget with their marks."""
    marks: dict[str, dict[str, Mark]] = {line.method: {} for line in lines}
    for card in cards:
        values = {line.method: parts_of(line.rows, card.name) for line in lines}
        if all(line.values[card.name].units < FEWEST for line in lines if card.name in line.values):
            continue  # so few tell nothing apart
        known = {name: runs for name, runs in values.items() if runs}
        winners = leaders(known, card.direction, untested=False)
        if len(winners) == 1 < len(leaders(known, card.direction)):
            continue  # what could not be compared with it may be as good
        for winner in winners:
            marks[winner][card.name] = "tied" if len(winners) > 1 else "best"
    return [Line(line.method, line.nfe, line.rows, line.values, marks[line.method]) for line in lines]
