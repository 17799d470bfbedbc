"""Ensembles: several samples (members) for each of several conditions (cases), and the proper scores of them.

One layout everywhere: in a sample set made for n cases, sample i is member i // n of case i % n. So the conditions of n
cases are simply repeated, more members are more rows at the end, and those already drawn stay as they are.

All scores are computed in float64, entry by entry, from ``members [cases, members, *shape]`` and
``truth [cases, *shape]``; ``weights`` (broadcastable to ``shape``, say areas of grid cells) enter means over entries.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from anydiff.domains import Domain
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.metrics.card import MetricCard
from anydiff.metrics.metric import Metric, SampleSet
from anydiff.states import Conditioning

Estimator = Literal["standard", "fair"]
ESTIMATORS = ("standard", "fair")


# The layout -----------------------------------------------------------------------------------------------------------


def repeat_cases(condition: Conditioning, members: int) -> Conditioning:
    """``condition`` of n cases as that of ``n * members`` samples: row i is case i % n."""
    return Conditioning.joined([condition] * natural_number("members", members))


def members_per_case(states: Tensor, cases: int) -> Tensor:
    """Samples ``[members * cases, *shape]`` as ``[cases, members, *shape]`` (a view).

    Raises:
        AnydiffError: the number of samples is no multiple of ``cases``.
    """
    if len(states) % natural_number("cases", cases):
        raise AnydiffError(
            f"{len(states)} samples are no whole number of members for {cases} cases; give every case equally many."
        )
    return states.reshape(-1, cases, *states.shape[1:]).transpose(0, 1)


def in_layout(case_of: Sequence[int]) -> tuple[list[int], list[int]]:
    """Samples that belong to the cases ``case_of`` brought into the layout: (their order, the cases that occur).

    Row i of the order is member i // n of case i % n of the n cases that occur; members keep their order.

    Raises:
        AnydiffError: two cases have different numbers of samples.
    """
    rows: dict[int, list[int]] = {}
    for row, case in enumerate(case_of):
        rows.setdefault(case, []).append(row)
    cases = sorted(rows)
    counts = sorted({len(each) for each in rows.values()})
    if len(counts) > 1:
        few = [case for case in cases if len(rows[case]) == counts[0]]
        raise AnydiffError(
            f"{len(few)} of {len(cases)} cases have {counts[0]} samples (first case {few[0]} of the held-out data), "
            f"but others {counts[-1]}; give every case equally many."
        )
    return [rows[case][member] for member in range(counts[0] if counts else 0) for case in cases], cases


# Scores ---------------------------------------------------------------------------------------------------------------


def crps(members: Tensor, truth: Tensor, estimator: Estimator = "standard") -> Tensor:
    r"""Continuous ranked probability score of each entry, float64 ``[cases, *shape]``; zero is perfect.

    .. math:: \frac1m \sum_i |x_i - y| - \frac{1}{2 c} \sum_{i,j} |x_i - x_j|

    with c = m² (``standard``: the score of the ensemble as it is, which favours large ones) or c = m(m - 1) (``fair``:
    in expectation that of the law the members are drawn from, whatever m). The pair sum is taken from the sorted
    members. For one member both are |x - y|.

    Source: Gneiting & Raftery 2007, doi:10.1198/016214506000001437; Ferro 2014, doi:10.1002/qj.2270.

    Raises:
        AnydiffError: shapes that do not fit, or an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise UnknownNameError("estimator of the CRPS", str(estimator), ESTIMATORS)
    members, truth = _checked(members, truth)
    count = members.shape[1]
    # Relative to the truth, so that a large common offset costs no digits.
    ordered = (members - truth[:, None]).sort(dim=1).values
    rank = torch.arange(1, count + 1, dtype=torch.float64, device=members.device)
    weight = (2 * rank - count - 1).reshape(1, count, *([1] * (members.ndim - 2)))
    pairs = 2 * (weight * ordered).sum(dim=1)
    normaliser = count**2 if estimator == "standard" else max(count * (count - 1), 1)
    return ordered.abs().mean(dim=1) - pairs / (2 * normaliser)


def root_mean_squared_error(members: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """Root mean squared error of the ensemble mean, over cases and entries."""
    members, truth = _checked(members, truth)
    return math.sqrt(_mean((members.mean(dim=1) - truth).square(), weights))


def spread_skill_ratio(members: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    r"""Spread over skill: 1 where members and truth are exchangeable, below 1 where the spread is too small.

    .. math:: \sqrt{\tfrac{m+1}{m} \, \overline{s^2}} \Big/ \mathrm{RMSE}

    s² is the variance of the members (divided by m - 1; zero for one member), RMSE that of their mean; 0/0 is 1.

    Source: Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1.
    """
    members, truth = _checked(members, truth)
    count = members.shape[1]
    variance = members.var(dim=1, correction=1) if count > 1 else torch.zeros_like(truth)
    spread = math.sqrt((count + 1) / count * _mean(variance, weights))
    skill = root_mean_squared_error(members, truth, weights)
    if skill == 0:
        return 1.0 if spread == 0 else math.inf
    return spread / skill


def rank_histogram(members: Tensor, truth: Tensor) -> Tensor:
    """Share of entries, float64 ``[m + 1]``, in which k members lie below the truth; flat when calibrated.

    Where e members equal the truth, each of the e + 1 ranks in question gets an equal part: the expectation of breaking
    ties at random, without its randomness.

    Source: Hamill 2001, doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2.
    """
    members, truth = _checked(members, truth)
    count = members.shape[1]
    below = (members < truth[:, None]).sum(dim=1).flatten()
    equal = (members == truth[:, None]).sum(dim=1).flatten()
    part = 1.0 / (equal + 1).to(torch.float64)
    steps = torch.zeros(count + 2, dtype=torch.float64, device=members.device)
    steps.index_add_(0, below, part)
    steps.index_add_(0, below + equal + 1, -part)
    return steps.cumsum(0)[:-1] / max(below.numel(), 1)


def outer_bins(histogram: Tensor) -> float:
    """The two outer bins of a rank histogram over what they are when it is flat: 1; above where the spread is small."""
    return float((histogram[0] + histogram[-1]) / 2 * len(histogram))


def coverage(members: Tensor, truth: Tensor, level: float = 0.9, weights: Tensor | None = None) -> float:
    """Share of entries whose truth lies in the members' central interval of probability ``level``.

    The interval's ends are the members' quantiles at position (m + 1) p (Weibull's, Hyndman and Fan's type 6), for
    which a calibrated ensemble of any size with m >= (1 + level)/(1 - level) covers ``level`` in expectation; smaller
    ones are cut to their extremes.

    Raises:
        AnydiffError: ``level`` outside (0, 1).
    """
    if not 0 < level < 1:
        raise AnydiffError(f"level is {level!r}, but must lie between 0 and 1 (0.9, say).")
    members, truth = _checked(members, truth)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(members.cpu().numpy(), tails, axis=1, method="weibull")
    inside = (truth.cpu().numpy() >= low) & (truth.cpu().numpy() <= high)
    return _mean(torch.from_numpy(inside).to(torch.float64), None if weights is None else weights.cpu())


def _checked(members: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if members.ndim < 2 or members.shape[1] < 1 or (members.shape[:1] + members.shape[2:]) != truth.shape:
        raise AnydiffError(
            f"members have shape {tuple(members.shape)} and the truth {tuple(truth.shape)}, but must be "
            "[cases, members, *shape] and [cases, *shape]."
        )
    return members.detach().to(torch.float64), truth.detach().to(torch.float64)


def _mean(values: Tensor, weights: Tensor | None) -> float:
    """Mean over everything, weighted over the entries of a case."""
    if weights is None:
        return float(values.mean())
    weights = weights.to(values).expand(values.shape[1:])
    return float((values * weights).sum() / (weights.sum() * len(values)))


# Metrics --------------------------------------------------------------------------------------------------------------


class EnsembleMetric(Metric):
    """A metric over the members of each case; the reference's rows are the cases and hold the truth.

    Sample i is judged as member i // n of case i % n, n being the number of cases. Members beyond the last that all
    cases have are left out; with fewer samples than cases, the first cases have one member each. A subclass gives
    :meth:`score`, and may say what is compared (:meth:`values`) and how entries are weighted (:meth:`weights`).

    Such a metric sees which held-out row a sample was asked to be: register it with
    ``paired=True``. It selects nothing with the truth, which is what ``oracle=True`` says.
    """

    def values(self, samples: SampleSet) -> Tensor:
        """What is compared: the states, in float64."""
        return samples.states.to(torch.float64)

    def weights(self, domain: Domain) -> Tensor | None:
        """Weights of the entries, broadcastable to one sample's values; None weighs all alike."""
        return None

    @abstractmethod
    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """The value for ``members [cases, members, *shape]`` and ``truth [cases, *shape]``."""

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Group the samples into members and score them."""
        self.check(samples, reference)
        cases = min(len(samples), len(reference))
        members = len(samples) // cases
        grouped = members_per_case(self.values(samples)[: members * cases], cases)
        return self.score(grouped, self.values(reference)[:cases], self.weights(reference.domain))


class EnsembleCRPS(EnsembleMetric):
    """Mean CRPS by a named estimator; see :func:`crps`."""

    estimator: Estimator = "standard"
    name = "crps"

    @property
    def card(self) -> MetricCard:
        """Lower is better; in units of the states."""
        return MetricCard(
            name=self.name,
            direction="lower",
            unit="state",
            # The fair estimator of a few far-spread members around the truth is negative.
            range=(0.0, math.inf) if self.estimator == "standard" else (-math.inf, math.inf),
            ideal=0.0,
            minimum_samples=1,
            version=f"1: {self.estimator} estimator, mean over cases and entries",
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """Mean over cases and entries."""
        return _mean(crps(members, truth, self.estimator), weights)


class FairEnsembleCRPS(EnsembleCRPS):
    """Mean CRPS by the fair estimator; see :func:`crps`."""

    estimator = "fair"
    name = "crps-fair"


class EnsembleRMSE(EnsembleMetric):
    """Root mean squared error of the ensemble mean."""

    name = "ensemble-rmse"

    @property
    def card(self) -> MetricCard:
        """Lower is better; in units of the states."""
        return MetricCard(self.name, "lower", "state", (0.0, math.inf), 0.0, 1, version="1: of the ensemble mean")

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """See :func:`root_mean_squared_error`."""
        return root_mean_squared_error(members, truth, weights)


class SpreadSkill(EnsembleMetric):
    """Departure of the spread-skill ratio r from 1, as 1 - min(r, 1/r): 0 is calibrated."""

    name = "spread-skill"

    @property
    def card(self) -> MetricCard:
        """Lower is better; between 0 and 1."""
        return MetricCard(
            self.name, "lower", "1", (0.0, 1.0), 0.0, 1, version="1: 1 - min(r, 1/r), r = sqrt((m+1)/m s²)/RMSE"
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """See :func:`spread_skill_ratio`."""
        ratio = spread_skill_ratio(members, truth, weights)
        return 1.0 if ratio in (0.0, math.inf) else 1 - min(ratio, 1 / ratio)


class RankHistogramDistance(EnsembleMetric):
    """Total variation distance of the rank histogram from the flat one: half the sum of |f_k - 1/(m + 1)|."""

    name = "rank-histogram"

    @property
    def card(self) -> MetricCard:
        """Lower is better; depends on the number of members, and finitely many cases leave a rest."""
        return MetricCard(
            self.name, "lower", "1", (0.0, 1.0), 0.0, 1, version="1: total variation from flat, ties shared out"
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """See :func:`rank_histogram`."""
        histogram = rank_histogram(members, truth)
        return float((histogram - 1 / len(histogram)).abs().sum() / 2)


class CoverageError(EnsembleMetric):
    """|coverage - level| of the central interval; see :func:`coverage`.

    Args:
        level: probability of the interval.
    """

    name = "coverage-error"

    def __init__(self, level: float = 0.9) -> None:
        if not 0 < level < 1:
            raise AnydiffError(f"level is {level!r}, but must lie between 0 and 1 (0.9, say).")
        self.level = level

    @property
    def card(self) -> MetricCard:
        """Lower is better; names the level."""
        return MetricCard(
            self.name, "lower", "1", (0.0, 1.0), 0.0, 1, version=f"1: level {self.level:g}, Weibull quantiles"
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """The absolute difference."""
        return abs(coverage(members, truth, self.level, weights) - self.level)
