"""Half of the hours of a window are missing: the measurement of ``timeseries/impute``, and free baselines.

A baseline of a restoration is ``f(training_data, condition, count, seed, problem) -> states``: the problem in units of
states with one row per case, and sample k is of case k % cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.inverse import Problem
from anydiff.inverse.operators import Mask
from anydiff.metrics import SampleSet
from anydiff.states import Conditioning, permutation, standard_normal
from anydiff_timeseries.baselines import gaussian_given
from anydiff_timeseries.domain import TimeSeries

NOISE = 20.0
"""Standard deviation of a count, in vehicles per hour: less than a hundredth of what passes at noon."""


def half_of_the_hours(truth: SampleSet, rows: Sequence[int]) -> Problem:
    """A random half of each window's steps in the series' own units, with noise; both follow from the window's
    number."""
    domain = cast(TimeSeries, truth.domain)
    values = domain.values(truth.states, truth.condition)[:, None]
    length = values.shape[-1]
    mask = torch.zeros(len(rows), 1, length, dtype=torch.bool)
    for row, number in enumerate(rows):
        order = permutation(0, int(number), "timeseries/impute", length)
        mask[row, 0, torch.as_tensor(np.asarray(order[: length // 2]).astype(np.int64))] = True
    noise = torch.from_numpy(standard_normal(0, list(rows), 0, "timeseries/impute noise", (1, length)))
    return Problem(Mask((1, length), mask), values + NOISE * noise, NOISE)


def linear_gaussian(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """Samples of the Gaussian with the training windows' mean and covariance, given what was observed."""
    windows = training_data.batch(range(len(training_data)))[0][:, 0].double()
    length = windows.shape[1]
    mean, covariance = windows.mean(0), windows.T.cov() + 1e-4 * torch.eye(length, dtype=torch.float64)
    noise = torch.from_numpy(standard_normal(seed, range(count), 0, "timeseries/baseline", (length,)))
    values, seen = _observed(problem)
    rows = torch.arange(count) % problem.cases
    states = torch.empty(count, length, dtype=torch.float64)
    for case in range(problem.cases):
        own = rows == case
        states[own] = gaussian_given(mean, covariance, seen[case], values[case].expand(int(own.sum()), -1), noise[own])
    return states[:, None]


def interpolated(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """Straight lines between the observed steps; a point estimate."""
    values, seen = _observed(problem)
    steps = np.arange(values.shape[1])
    lines = [np.interp(steps, steps[mask.numpy()], row[mask].numpy()) for row, mask in zip(values, seen, strict=True)]
    return torch.from_numpy(np.stack(lines))[torch.arange(count) % problem.cases][:, None]


def _observed(problem: Problem) -> tuple[Tensor, Tensor]:
    """Values float64 ``[C, L]`` and which of them were observed."""
    y = problem.measurement.double()
    return y[:, 0], problem.operator.observed(y)[:, 0]
