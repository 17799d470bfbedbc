"""Statistics of a benchmark: what is counted, intervals, paired comparisons with ties, chances of being best, refusal.

What is counted are a method's units (:mod:`anydiff.metrics.jackknife`): cases where a sample is judged by its own
truth, samples or groups of samples elsewhere. Several seeds of one training have other cases or other draws, so their
units are laid together; a case that several seeds judged counts once, with its mean. Every method has the same units,
and two methods are compared by their differences unit by unit. With several trainings these are what is counted, and
each is the mean of its units: their luck is shared by all that hangs on them. Where all trainings are judged on the
same cases, the luck of the cases is shared by the trainings in turn, so an interval holds both (:func:`interval`). With
one training every statement is about that training alone. Rows without units (a metric that has no value of a part,
reports of before) are counted seed by seed. Below :data:`FEWEST` of what is counted no interval is given and nothing is
judged: that is no tie, which is a finding.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anydiff.metrics import student_quantile, t_interval

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


def crossed(runs: Runs) -> np.ndarray | None:
    """Values ``[trainings, cases]`` where several trainings are judged on the same cases; None elsewhere.

    A unit has a number beside training and seed; seeds alone are draws of their own training, and cross nothing.
    """
    trainings = sorted({key[0] for key in runs})
    if len(trainings) < 2 or any(len(key) < 3 for key in runs):
        return None
    cases = [{key[1:] for key in runs if key[0] == each} for each in trainings]
    if len(cases[0]) < FEWEST or any(each != cases[0] for each in cases):
        return None
    return np.array([[runs[(each, *case)] for case in sorted(cases[0])] for each in trainings])


def interval(runs: Runs, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean, of at least two units.

    Of one training it is the t interval of its units; of several, with draws of their own, that of their means. Where I
    trainings are judged on the same J cases, both are random, and the variance of the mean is that of trainings over I,
    of cases over J, and of what is left over IJ. With the mean squares M_T, M_C, M_E of the analysis of variance, each
    part has the quantile of its own degrees of freedom (Graybill and Wang 1980, J. Am. Stat. Assoc. 75, 869-873)::

        IJ h² = max(t_T² M_T, t_T² max(M_T - M_E, 0) + t_C² max(M_C - M_E, 0) + t_E² M_E)

    where the first is the interval of the trainings' means. That alone, which takes no account of the cases' luck that
    all trainings share, covers 35 to 95 % instead of 95 (simulated).
    """
    table = crossed(runs)
    if table is None or not np.isfinite(table).all():
        return t_interval(units(runs), level)
    (rows, columns), mean = table.shape, float(table.mean())
    of_rows, of_columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - of_rows[:, None] - of_columns + mean
    left = float((rest**2).sum()) / ((rows - 1) * (columns - 1))
    squares = [(columns * float(of_rows.var(ddof=1)), rows - 1), (rows * float(of_columns.var(ddof=1)), columns - 1)]
    quantiles = [student_quantile((1 + level) / 2, freedom) ** 2 for _, freedom in squares]
    width = student_quantile((1 + level) / 2, (rows - 1) * (columns - 1)) ** 2 * left
    width += sum(q * max(0.0, square - left) for q, (square, _) in zip(quantiles, squares, strict=True))
    half = math.sqrt(max(width, quantiles[0] * squares[0][0]) / table.size)
    return mean - half, mean + half


def beside(baseline: Runs, runs: Runs) -> Runs:
    """The values of a baseline, which has no training, once for each training of ``runs``."""
    trainings = {key[0] for key in runs}
    return {(each, *key[1:]): value for key, value in baseline.items() for each in trainings}


def summarise(runs: Runs, parts: Runs | None = None) -> Summary | None:
    """Median, mean, least and greatest value, and an interval if there are enough units; None of nothing.

    Args:
        runs: value by training and seed.
        parts: value by unit, of the same rows; None where the runs are what is counted.
    """
    if not runs:
        return None
    values, counted = list(runs.values()), units(parts or runs)
    between = interval(parts or runs) if len(counted) >= FEWEST else None
    mean = math.fsum(counted) / len(counted) if all(map(math.isfinite, counted)) else statistics.fmean(counted)
    return Summary(statistics.median(values), mean, min(values), max(values), len(values), len(counted), between)


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
    differences = {run: _difference(*pair) for run, pair in zip(common, pairs, strict=True)}
    counted = units(differences)
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
    low, high = interval(differences, level)
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

    All methods are resampled by the same units (with several trainings: the same trainings, and the same cases where
    the trainings share these), so that what they share of a case's luck cancels. Empty where fewer than :data:`FEWEST`
    units are common to all.
    """
    names = [name for name, runs in values.items() if runs]
    common = sorted(set.intersection(*(set(values[name]) for name in names))) if names else []
    shared = [{key: values[name][key] for key in common} for name in names]
    if len(common) < FEWEST or len(units(shared[0])) < FEWEST:
        return {}
    tables = [crossed(each) for each in shared]
    table = np.array([np.array(units(each))[None] if found is None else found.T
                      for each, found in zip(shared, tables, strict=True)])  # fmt: skip
    if not np.isfinite(table).all():
        return {}
    random = np.random.default_rng(0)
    picks = [_picked(random, size) for size in table.shape[:0:-1]]
    means = np.einsum("mct,dt,dc->md", table, *picks, optimize=True) * (1.0 if direction == "lower" else -1.0)
    best = means.min(axis=0)
    shares = (means <= best + np.maximum(ABSOLUTE, ROUNDING * np.abs(best))).astype(float)
    return dict(zip(names, (shares / shares.sum(axis=0)).mean(axis=1).tolist(), strict=True))


def power(first: Runs, second: Runs, share: float, level: float = LEVEL) -> float | None:
    """How probably :func:`paired` would find the first greater by ``share`` of itself, if the two scatter as they do.

    The differences of one training's units are taken as normal with the deviation they then have, so that the t
    statistic has the noncentral law. None of several trainings, of too few units, and where all differences are equal.
    """
    common = sorted(first.keys() & second.keys())
    if len({run[0] for run in common}) != 1 or len(common) < FEWEST:
        return None
    one, other = (np.array([runs[run] for run in common]) for runs in (first, second))
    deviation = float(((1 + share) * one - other).std(ddof=1))
    if not math.isfinite(deviation) or deviation <= ABSOLUTE:
        return None
    from scipy.stats import nct  # not with the module: most of what is imported from here draws no such conclusion

    shift = abs(share * float(one.mean())) * math.sqrt(len(common)) / deviation
    bound = student_quantile((1 + level) / 2, len(common) - 1)
    found = float(nct.sf(bound, len(common) - 1, shift) + nct.cdf(-bound, len(common) - 1, shift))
    return found if math.isfinite(found) else float(shift > bound)  # far beyond the bound the law has no digits left


def _picked(random: np.random.Generator, size: int) -> np.ndarray:
    """How often each of ``size`` is drawn in each of :data:`DRAWS` resamples, as shares ``[DRAWS, size]``."""
    return random.multinomial(size, np.full(size, 1 / size), DRAWS) / size


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
