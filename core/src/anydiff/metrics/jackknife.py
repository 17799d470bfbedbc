"""What a value rests on, unit by unit: the jackknife, one scheme for every metric.

Let θ be a metric's value for all units (cases, or groups of samples) and θ_(g) the value without unit g of G. The
pseudo-values θ + (G - 1) (mean θ_(·) - θ_(g)) have the mean θ; where the value is a mean over units they are the units'
own scores, and where it is a smooth function of means (a ratio, a root, a Fréchet distance) they behave as such scores
do to first order. So their spread gives a t interval of the value, and two methods judged on the same units are
compared pair by pair (Tukey 1958; Miller 1974, Biometrika 61, 1-15). Resampling with replacement would repeat samples,
which biases distances between sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.metrics.card import Uncertainty
from anydiff.metrics.metric import SampleSet

MOST_CASES = 64
"""Cases beyond it are left out in groups, so that a value is asked for at most so often."""
GROUPS = 16
"""Groups of samples where none belongs to a case: 15 degrees of freedom cost the t interval 9 % of its width."""
FEWEST = 3
"""Fewer units say nothing of their spread."""


@dataclass(frozen=True)
class UnitValues:
    """Pseudo-values of one metric, see the module.

    Attributes:
        values: one per unit; their mean is the metric's value.
        numbers: what each unit is: the first of its rows among the cases or samples.
    """

    values: tuple[float, ...]
    numbers: tuple[int, ...]


def unit_values(
    ask: Callable[[SampleSet, SampleSet], float],
    value: float,
    samples: SampleSet,
    reference: SampleSet,
    uncertainty: Uncertainty,
    least: int = 1,
) -> UnitValues | None:
    """The units of a value, or None where there are fewer than :data:`FEWEST` or a part of them has no value.

    Args:
        ask: the metric's value for some samples and their reference.
        value: that of all.
        samples: sample k is of case k % n where the units are the n rows of ``reference``.
        reference: the other side; without a unit it lacks that unit's rows where units are cases, and is whole else.
        uncertainty: what the units are.
        least: fewer samples, or cases, are refused by the metric.
    """
    cases = min(len(samples), len(reference)) if uncertainty == "cases" else len(samples)
    groups = min(cases, MOST_CASES if uncertainty == "cases" else GROUPS)
    if groups < FEWEST or cases - math.ceil(cases / groups) < least or not math.isfinite(value):
        return None
    of_case = torch.arange(len(samples)) % cases % groups
    left_out = []
    for group in range(groups):
        kept = _rows(samples, of_case != group)
        other = reference
        if uncertainty == "cases":
            other = _rows(reference, torch.arange(len(reference)) % groups != group)
        try:
            left_out.append(ask(kept, other))
        except AnydiffError:  # a metric that has a value of all may have none of a part
            return None
    mean = math.fsum(left_out) / groups
    values = tuple(value + (groups - 1) * (mean - each) for each in left_out)
    return UnitValues(values, tuple(range(groups))) if all(map(math.isfinite, values)) else None


def _rows(samples: SampleSet, chosen: Tensor) -> SampleSet:
    rows: list[int] = chosen.nonzero()[:, 0].tolist()
    return samples.rows(rows)
