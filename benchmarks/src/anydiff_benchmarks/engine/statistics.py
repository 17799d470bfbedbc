"""Statistics of a benchmark: what is counted, intervals, paired comparisons with ties, chances of being best, refusal.

What is counted are a method's units (:mod:`anydiff.metrics.jackknife`): cases where a sample is judged by its own
truth, samples or groups of samples elsewhere. Several seeds of one training have other cases or other draws, so their
units are laid together; a case that several seeds judged counts once, with its mean. Every method has the same units,
and two methods are compared by their differences unit by unit. With several trainings these are what is counted, and
each is the mean of its units: their luck is shared by all that hangs on them. With one training every statement is
about that training alone. Rows without units (a metric that has no value of a part, reports of before) are counted
seed by seed. Below :data:`FEWEST` of what is counted no interval is given and nothing is judged: that is no tie, which
is a finding.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anydiff.metrics import t_interval

FEWEST = 3
"""With three the t interval holds what it says: equals are told apart in .0125 of boards where .025 are allowed."""
ROUNDING = 1e-6
"""Relative difference of two values that is no change; :data:`ABSOLUTE` beside zero."""
ABSOLUTE = 1e-12
LEVEL = 0.95
CHANCE = 0.025
"""How often, at most, a column calls one of several equal methods worse than another."""
FEW = 10
"""Of so few units all must have the sign of their mean before a difference is called one."""
DRAWS = 2000
"""Resamples for the chance of being best."""
Runs = Mapping[tuple[int, ...], float]
"""Value by unit; the first number of a key is the training, the others are what seed, case or draw it is."""


@dataclass(frozen=True)
class Summary:
    """Values over runs.

    Attributes:
        median: of the runs' values.
        mean: of what is counted.
        least: the smallest value of a run.
        greatest: the greatest value of a run.
        count: how many runs.
        units: how many of what is counted.
        interval: 95 % t interval of the mean, from :data:`FEWEST` units on.
    """

    median: float
    mean: float
    least: float
    greatest: float
    count: int
    units: int
    interval: tuple[float, float] | None = None


def units(runs: Runs) -> list[float]:
    """What is counted: the values of one training, or the means of several trainings."""
    trainings = sorted({key[0] for key in runs})
    if len(trainings) <= 1:
        return [runs[run] for run in sorted(runs)]
    return [statistics.fmean(value for key, value in runs.items() if key[0] == each) for each in trainings]


def summarise(runs: Runs, parts: Runs | None = None) -> Summary | None:
    """Median, mean, least and greatest value, and an interval if there are enough units; None of nothing.

    Args:
        runs: value by training and seed.
        parts: value by unit, of the same rows; None where the runs are what is counted.
    """
    if not runs:
        return None
    values, counted = list(runs.values()), units(parts or runs)
    interval = t_interval(counted) if len(counted) >= FEWEST else None
    mean = math.fsum(counted) / len(counted) if all(map(math.isfinite, counted)) else statistics.fmean(counted)
    return Summary(statistics.median(values), mean, min(values), max(values), len(values), len(counted), interval)


Verdict = Literal["win", "tie", "loss", "not judged"]


@dataclass(frozen=True)
class Paired:
    """Two sets of runs, run by run.

    Attributes:
        difference: mean of first minus second over the common runs' units.
        interval: of that mean; where one method changed by the same amount or factor on every seed, the least and the
            greatest difference; None where nothing is judged.
        units: how many.
        verdict: whether the first is better (``win``), worse (``loss``), or not told apart though it was tried
            (``tie``); ``not judged`` where it was not.
        why: it was not judged, in a few words.
    """

    difference: float
    interval: tuple[float, float] | None
    units: int
    verdict: Verdict
    why: str = ""


def paired(
    first: Runs, second: Runs, direction: Literal["lower", "higher"], level: float = LEVEL, same_method: bool = False
) -> Paired:
    """Compare two methods, or one method before and after a change, on their common units.

    One is better if the interval of the mean difference excludes zero and, of at most :data:`FEW` units, all have the
    same sign; else they tie. Differences within rounding are none. With fewer than :data:`FEWEST` units nothing is
    judged, nor where a difference is no number; but what became of one method on equal seeds by the same difference or
    the same factor on each of them (a wrong unit, a metric that is always 0) is a change and no luck, however much the
    seeds scatter: two runs tell it.

    Args:
        first: value per unit.
        second: likewise.
        direction: which is better.
        level: of the interval.
        same_method: whether both are one method, so that equal seeds have equal draws.
    """
    common = sorted(first.keys() & second.keys())
    pairs = [(first[run], second[run]) for run in common]
    counted = units({run: _difference(*pair) for run, pair in zip(common, pairs, strict=True)})
    count = len(counted)
    if not counted:
        return Paired(math.nan, None, 0, "not judged", "no run in common")
    if any(math.isnan(difference) for difference in counted):
        return Paired(math.nan, None, count, "not judged", "a difference is no number")
    mean = statistics.fmean(counted)
    better: Verdict = "win" if (mean < 0) == (direction == "lower") else "loss"
    if same_method and _same_change(pairs):
        return Paired(mean, (min(counted), max(counted)), count, better)
    if count < FEWEST:
        why = f"{count} {'run' if count == 1 else 'runs'}, {FEWEST} are needed"
        moved = f"; the numbers {'changed' if any(counted) else 'are the same'}" if same_method else ""
        return Paired(mean, None, count, "not judged", why + moved)
    low, high = t_interval(counted, level)
    if low <= 0 <= high or (count <= FEW and not (min(counted) > 0 or max(counted) < 0)):
        return Paired(mean, (low, high), count, "tie")
    return Paired(mean, (low, high), count, better)


def _difference(one: float, other: float) -> float:
    """First minus second; 0 within rounding, and between equal infinities."""
    if one == other:
        return 0.0
    difference = one - other
    if not math.isfinite(difference):
        return difference
    return 0.0 if abs(difference) <= max(ABSOLUTE, ROUNDING * max(abs(one), abs(other))) else difference


def _same_change(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether at least two pairs differ beyond rounding, all in one direction, and all by one amount or one factor."""
    differences = [_difference(*pair) for pair in pairs]
    changed = [difference for difference in differences if difference]
    finite = all(math.isfinite(value) for pair in pairs for value in pair)
    if len(changed) < 2 or not finite or min(changed) < 0 < max(changed):
        return False
    scale = max(abs(value) for pair in pairs for value in pair)
    amount = max(differences) - min(differences) <= max(ABSOLUTE, ROUNDING * scale)
    backwards = [(other, one) for one, other in pairs]
    return amount or _same_factor(pairs) or _same_factor(backwards)


def _same_factor(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether each first value is the same multiple of its second; 0 is the multiple of a metric that is gone."""
    telling = [(one, other) for one, other in pairs if one or other]  # 0 is every multiple of 0
    if any(other == 0 for _, other in telling):
        return False
    factor = telling[0][0] / telling[0][1]
    return all(abs(one - factor * other) <= ROUNDING * max(abs(one), abs(other)) for one, other in telling)


def leaders(values: Mapping[str, Runs], direction: Literal["lower", "higher"], untested: bool = True) -> list[str]:
    """The method of the best mean, then those that tie with it, and those that could not be compared with it.

    The best is who happens to be so, and any of the k(k - 1)/2 pairs may be the one that is compared: each is at level
    1 - :data:`CHANCE` / (k(k - 1)/2), so that among equals one is told apart by luck in at most one column of forty,
    however many there are.

    Args:
        values: for each method its value per unit.
        direction: which is better.
        untested: whether those that could not be compared with the best are named too.
    """
    sign = 1.0 if direction == "lower" else -1.0
    means = {name: sign * statistics.fmean(units(runs)) for name, runs in values.items() if runs}
    if not means:
        return []
    best = min(means, key=lambda name: means[name])
    level = 1 - CHANCE / max(1, len(means) * (len(means) - 1) / 2)
    others = [name for name in means if name != best]
    left_out = ("loss",) if untested else ("loss", "not judged")
    verdicts = {name: paired(values[name], values[best], direction, level).verdict for name in others}
    return [best, *(name for name in others if verdicts[name] not in left_out)]


def chances(values: Mapping[str, Runs], direction: Literal["lower", "higher"]) -> dict[str, float]:
    """How probably each method is the best: its share of :data:`DRAWS` resamples in which its mean is.

    All methods are resampled by the same units (with several trainings: the same trainings), so that what they share
    of a case's luck cancels. Empty where fewer than :data:`FEWEST` units are common to all.
    """
    names = [name for name, runs in values.items() if runs]
    common = sorted(set.intersection(*(set(values[name]) for name in names))) if names else []
    counted = [units({key: values[name][key] for key in common}) for name in names]
    if len(common) < FEWEST or len(counted[0]) < FEWEST:
        return {}
    table = np.array(counted)
    if not np.isfinite(table).all():
        return {}
    picks = np.random.default_rng(0).integers(0, table.shape[1], (DRAWS, table.shape[1]))
    means = table[:, picks].mean(axis=2) * (1.0 if direction == "lower" else -1.0)
    best = means.min(axis=0)
    shares = (means <= best + ABSOLUTE).astype(float)
    return dict(zip(names, (shares / shares.sum(axis=0)).mean(axis=1).tolist(), strict=True))


def significance_sentence(trainings: int, seeds: int, counted: int, what: str) -> str:
    """What so much allows to say, in a sentence or two.

    Args:
        trainings: how many.
        seeds: how many.
        counted: how many units, at least, each method of the first metric has.
        what: the units are.
    """
    over = f"{seeds} sampling seed{'s' if seeds != 1 else ''} of 1 training"
    if trainings > 1:
        over = f"{trainings} trainings x {seeds} sampling seeds"
    if counted < FEWEST:
        return (
            f"With {over} no statement of significance is made and no method is called the best: values are means with "
            "the least and the greatest."
        )
    about = "" if trainings > 1 else " Statements are about this training alone."
    first, _, rest = what.partition(" ")
    many = f"{counted} {first}s {rest}".rstrip()
    return (
        f"Over {over}: values are means with their 95 % t intervals, which count {many}. Methods tie with the best "
        f"unless the interval of their difference, {what} by {what}, excludes zero, at a level at which equals are "
        f"told apart in one column of forty.{about}"
    )
