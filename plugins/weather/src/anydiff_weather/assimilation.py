"""Every fifth point is observed: the measurement of ``weather/assimilate``, and ensembles with and without an update.

A baseline of a restoration is ``f(training_data, condition, count, seed, problem) -> states``: the problem in units of
states with one row per case, and sample k is of case k % cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.inverse import Gaussian, Problem
from anydiff.inverse.operators import Mask
from anydiff.metrics import SampleSet, members_per_case
from anydiff.states import Conditioning, standard_normal
from anydiff_weather import baselines

EVERY = 5
NOISE = 0.1
"""Standard deviation of an observation, in climatological standard deviations."""


def every_fifth_point(truth: SampleSet, rows: Sequence[int]) -> Problem:
    """Every fifth point of the last axis, in each variable's own units; noise follows from the number of the case."""
    scale, offset = truth.domain.units(truth.condition)
    shape = tuple(truth.states.shape[1:])
    noise = torch.from_numpy(standard_normal(0, list(rows), 0, "weather/assimilate", shape))
    values = (truth.states.double() + NOISE * noise) * scale + offset
    mask = torch.zeros(len(rows), *shape, dtype=torch.bool)
    mask[..., ::EVERY] = True
    return Problem(Mask(shape, mask), values, Gaussian((NOISE * scale).expand(len(rows), *shape)))


def seeds_alone(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """The seed members without an update, in turn."""
    return baselines.seeds_alone(training_data, condition, count, seed)


def seeds_kalman(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """An ensemble Kalman update of the seed members, in turn."""
    return kalman_update(condition.given["members"][: problem.cases], problem, count, seed)


def full_ensemble(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """The physical ensemble that the seeds come from, without an update."""
    return baselines.full_ensemble(training_data, condition, count, seed)


def full_kalman(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """An ensemble Kalman update of the whole physical ensemble."""
    return kalman_update(baselines.physical_ensemble(training_data, condition, problem.cases), problem, count, seed)


def kalman_update(ensembles: Tensor, problem: Problem, count: int, seed: int) -> Tensor:
    """``count`` members of updated ``ensembles [C, m, *shape]``, in turn; sample k is of case k % C.

    The stochastic ensemble Kalman filter (Burgers, van Leeuwen, Evensen 1998): each member is moved by
    P Hᵀ (H P Hᵀ + R)⁻¹ (y + e - H x), with P the ensemble's own covariance and noise e ~ N(0, R) of its own.
    """
    cases, members = ensembles.shape[:2]
    x = ensembles.double().flatten(2)
    seen = problem.operator.observed(problem.measurement).flatten(1)
    y = problem.measurement.double()
    r = problem.variance(y).expand(y.shape).flatten(1)
    y = y.flatten(1)
    drawn = torch.from_numpy(standard_normal(seed, range(cases * members), 0, "weather/kalman", tuple(x.shape[2:])))
    drawn = members_per_case(drawn, cases)
    updated = torch.empty_like(x)
    for case in range(cases):
        at, spread = seen[case], x[case] - x[case].mean(0)
        cross = spread.T @ spread[:, at] / (members - 1)
        gain = torch.linalg.solve(cross[at] + torch.diag(r[case, at]), cross.T).T
        missed = y[case, at] + r[case, at].sqrt() * drawn[case][:, at] - x[case][:, at]
        updated[case] = x[case] + missed @ gain.T
    rows = torch.arange(count)
    return updated[rows % cases, (rows // cases) % members].reshape(count, *ensembles.shape[2:])
