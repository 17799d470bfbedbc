"""What a value rests on, unit by unit: the jackknife, one scheme for every metric.

Let θ be a metric's value for all units (cases, or groups of samples) and θ_(g) the value without unit g of G. The
pseudo-values θ + (G - 1) (mean θ_(·) - θ_(g)) have the mean θ; where the value is a mean over units they are the units'
own scores, and where it is a smooth function of means (a ratio, a root, a Fréchet distance) they behave as such scores
do to first order. So their spread gives a t interval of the value, and two methods judged on the same units are
compared pair by pair (Tukey 1958; Miller 1974, Biometrika 61, 1-15). Resampling with replacement would repeat samples,
which biases distances between sets. Cases that follow one another in time share their luck with the next ones, so
blocks of them are left out (Künsch 1989, Annals of Statistics 17, 1217-1241).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.metrics.card import Uncertainty
from anydiff.metrics.metric import SampleSet

GROUPS = 16
"""More cases or samples are left out in so many groups: 15 degrees of freedom cost the t interval 9 % of its width."""
TOLERANCE = 1e-6
"""How far the mean of a metric's own scores may be from its value, as a share of their size."""
FEWEST = 3
"""Fewer units say nothing of their spread."""
BLOCK = 5
"""A block is so many times as long as the dependence: the blocks' t interval then covers 93 to 95 % (simulated)."""


@dataclass(frozen=True)
class UnitValues:
    """Pseudo-values of one metric, see the module.

    Attributes:
        values: one per unit; their mean is the metric's value.
        numbers: what each unit is: the first of its rows among the cases or samples, or the number of its block.
    """

    values: tuple[float, ...]
    numbers: tuple[int, ...]


def blocks_of(rows: Sequence[int], size: int, dependence: int) -> list[int] | None:
    """The block of each case, where cases that follow one another depend on each other; None where they do not.

    All held-out cases are cut into at most :data:`GROUPS` blocks of equal length, of :data:`BLOCK` times the dependence
    at least. So whoever is judged on some of the cases has them in the same blocks as whoever is judged on others.

    Args:
        rows: place of each case among all held-out ones.
        size: how many held-out ones there are.
        dependence: how many following cases depend on a case (:attr:`anydiff.data.Dataset.dependence`).
    """
    if not dependence:
        return None
    count = max(1, min(GROUPS, size // (BLOCK * dependence)))
    return [row * count // size for row in rows]


def unit_values(
    ask: Callable[[SampleSet, SampleSet], float],
    value: float,
    samples: SampleSet,
    reference: SampleSet,
    uncertainty: Uncertainty,
    least: int = 1,
    scores: Sequence[float] | None = None,
    blocks: Sequence[int] | None = None,
) -> UnitValues | None:
    """The units of a value, or None where there are fewer than :data:`FEWEST` or a part of them has no value.

    A metric that knows the scores of its cases (:meth:`anydiff.metrics.Metric.scores`) is not asked again.

    Args:
        ask: the metric's value for some samples and their reference.
        value: that of all.
        samples: sample k is of case k % n where the units are the n rows of ``reference``.
        reference: the other side; without a unit it lacks that unit's rows where units are cases, and is whole else.
        uncertainty: what the units are.
        least: fewer samples, or cases, are refused by the metric.
        scores: of the cases (of the samples), from the metric itself.
        blocks: of each case its block (:func:`blocks_of`), whose cases are left out together; None where the cases are
            independent. Of no account where the units are no cases.

    Raises:
        AnydiffError: there are other scores than cases, one is not finite, or their mean is not the value; or there are
            fewer blocks than cases.
    """
    cases = min(len(samples), len(reference)) if uncertainty == "cases" else len(samples)
    if scores is not None:
        _check_scores(scores, value, cases, uncertainty)
        if blocks is None or uncertainty != "cases":
            return UnitValues(tuple(map(float, scores)), tuple(range(cases))) if cases >= FEWEST else None
    group_of = _groups(
        max(cases, len(reference)), max(1, min(cases, GROUPS)), blocks if uncertainty == "cases" else None
    )
    groups = sorted(set(group_of[:cases]))
    largest = max(map(group_of[:cases].count, groups), default=0)
    if len(groups) < FEWEST or cases - largest < least or not math.isfinite(value):
        return None
    of_row = torch.tensor(group_of)
    of_sample = of_row[torch.arange(len(samples)) % cases]
    left_out = []
    for group in groups:
        if scores is not None:
            pairs = zip(scores, group_of, strict=False)
            left_out.append(statistics.fmean(score for score, own in pairs if own != group))
            continue
        kept, other = _rows(samples, of_sample != group), reference
        if uncertainty == "cases":
            other = _rows(reference, of_row[: len(reference)] != group)
        try:
            left_out.append(ask(kept, other))
        except AnydiffError:  # a metric that has a value of all may have none of a part
            return None
    mean, count = math.fsum(left_out) / len(groups), len(groups)
    values = tuple(value + (count - 1) * (mean - each) for each in left_out)
    return UnitValues(values, tuple(groups)) if all(map(math.isfinite, values)) else None


def _groups(rows: int, count: int, blocks: Sequence[int] | None) -> list[int]:
    """Which rows are left out together: every ``count``-th, so that groups are as equal as can be, or blocks."""
    if blocks is None:
        return [row % count for row in range(rows)]
    if len(blocks) < rows:
        raise AnydiffError(f"blocks names the blocks of {len(blocks)} cases, but there are {rows}; name one for each.")
    return list(blocks)


def _check_scores(scores: Sequence[float], value: float, count: int, uncertainty: Uncertainty) -> None:
    what = "cases" if uncertainty == "cases" else "samples"
    if len(scores) != count:
        raise AnydiffError(f"the metric gives {len(scores)} scores of {count} {what}; give one for each.")
    bad = next((number for number, score in enumerate(scores) if not math.isfinite(score)), None)
    if bad is not None:
        raise AnydiffError(f"the metric's score number {bad} of {count} {what} is {scores[bad]}; look at that one.")
    mean = math.fsum(scores) / count
    if abs(mean - value) > TOLERANCE * max(abs(value), *map(abs, scores)):
        raise AnydiffError(
            f"the metric's value is {value:.6g}, but the mean of its {count} scores is {mean:.6g}; they must agree."
        )


def _rows(samples: SampleSet, chosen: Tensor) -> SampleSet:
    rows: list[int] = chosen.nonzero()[:, 0].tolist()
    return samples.rows(rows)


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean: mean ± t · s / sqrt(n), with s the standard deviation of the n ≥ 2 values.

    Percentiles of resampled means are not used: for five values no percentile reaches beyond their range, and such an
    interval covers 91 % instead of 95 % (simulated; see Hesterberg 2015, arXiv:1411.5279, section 3). Of a hierarchy
    the values are the upper level's means: their spread has that of the seeds within them already, and taking these for
    values too would count it twice. Of values that are not all finite the interval is their range.
    """
    count = len(values)
    if not all(math.isfinite(value) for value in values):
        return min(values), max(values)
    mean = statistics.fmean(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    half_width = student_quantile((1 + level) / 2, count - 1) * math.sqrt(squares / (count * (count - 1)))
    return mean - half_width, mean + half_width


@functools.cache
def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t with ``freedom`` degrees of freedom stays below with ``probability``."""
    from scipy.stats import t as student  # not with the module: metrics are asked without any interval, too

    return float(student.ppf(probability, freedom))
