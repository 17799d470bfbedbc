"""Which solver, and how many network calls: the answer of a task's rows, with how sure it is.

All settings (methods x budgets) are compared by the first metric, unit by unit. The one to take is the cheapest that is
not told apart from the best as worse, at a level at which equals are told apart in one task of forty; among settings of
equal cost the better mean counts. Where nothing can be told apart for want of units, nothing is recommended.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import Line, TaskLeaderboard, parts_of
from anydiff_benchmarks.engine.statistics import FEWEST, Paired, Runs, chances, leaders, paired, units
from anydiff_benchmarks.engine.suite import RECIPE


@dataclass(frozen=True)
class Recommendation:
    """What to take for a task.

    Attributes:
        card: of the metric that decides.
        take: the cheapest setting that is not worse than the best.
        best: the setting of the best mean.
        chance: how probably no setting is better than ``take``, by resampling the units of all together.
        more: ``best`` against ``take``: what more calls bring; None where both are one.
        gain: ``take`` against the recipe's own setting at the same or the next greater budget; None without one.
        baseline: ``take`` against the free baseline that is hardest to beat; None without one.
        baseline_name: of that baseline.
    """

    card: MetricCard
    take: Line
    best: Line
    chance: float | None
    more: Paired | None
    gain: Paired | None
    baseline: Paired | None
    baseline_name: str = ""


def recommend(task: TaskLeaderboard) -> Recommendation | None:
    """The recommendation for a task; None where fewer than :data:`FEWEST` units are judged or no metric has a value."""
    card = next(iter(task.quality), None)
    if card is None:
        return None
    settings = {f"{line.method} {line.nfe}": line for line in task.lines if card.name in line.values}
    values = {name: parts_of(line.rows, card.name) for name, line in settings.items()}
    if not values or min(len(units(runs)) for runs in values.values()) < FEWEST:
        return None
    candidates = leaders(values, card.direction)
    sign = 1.0 if card.direction == "lower" else -1.0

    def rank(name: str) -> tuple[int, float]:
        return settings[name].nfe, sign * statistics.fmean(units(values[name]))

    chosen, first = min(candidates, key=rank), candidates[0]
    take, best = settings[chosen], settings[first]
    chance = chances(values, card.direction).get(chosen)
    more = None if best is take else paired(values[first], values[chosen], card.direction)
    floor = task.against_free(take, card)
    return Recommendation(
        card,
        take,
        best,
        chance,
        more,
        _gain(task, card, take, values[chosen]),
        None if floor is None else floor[1],
        "" if floor is None else floor[0].method,
    )


def _gain(task: TaskLeaderboard, card: MetricCard, take: Line, values: Runs) -> Paired | None:
    """Against the recipe's own setting at the same budget."""
    own = next((line for line in task.at(take.nfe) if _is_recipes(line) and card.name in line.values), None)
    if own is None or own is take:
        return None
    return paired(values, parts_of(own.rows, card.name), card.direction)


def _is_recipes(line: Line) -> bool:
    return any(row.solver is not None and row.solver.get("solver") == RECIPE for row in line.rows)
