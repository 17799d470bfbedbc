"""The left half of a picture is seen: the measurement of the task ``images/inpaint``, and baselines without a network.

A baseline of a restoration is ``f(training_data, condition, count, seed, problem) -> states``: the problem in units of
states with one row per case, and sample k is of case k % cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.inverse import Problem
from anydiff.inverse.operators import Mask
from anydiff.metrics import SampleSet
from anydiff.states import Conditioning, standard_normal

NOISE = 0.5
"""Standard deviation of what is seen, in levels of 255."""
RIDGE = 1e-4
"""Added to the variances of the training pictures, some of whose pixels never change."""


def left_half(truth: SampleSet, rows: Sequence[int]) -> Problem:
    """The left half of each picture in brightness from 0 to 255, with noise that follows from the picture's number."""
    scale, offset = truth.domain.units(truth.condition)
    values = truth.states.double() * scale + offset
    noise = torch.from_numpy(standard_normal(0, list(rows), 0, "images/inpaint", tuple(values.shape[1:])))
    mask = torch.zeros(len(rows), *values.shape[1:], dtype=torch.bool)
    mask[..., : values.shape[-1] // 2] = True
    return Problem(Mask(values.shape[1:], mask), values + NOISE * noise, NOISE)


def mean_picture(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """The mean of the training pictures, with what is seen put in its place."""
    mean = _pictures(training_data).mean(0).reshape(training_data.spec.shape)
    seen = problem.operator.observed(problem.measurement)
    return torch.where(seen, problem.measurement, mean)[torch.arange(count) % problem.cases]


def linear_gaussian(training_data: Dataset, condition: Conditioning, count: int, seed: int, problem: Problem) -> Tensor:
    """Samples of the Gaussian with the training pictures' mean and covariance, given what is seen."""
    pictures = _pictures(training_data)
    mean, covariance = pictures.mean(0), pictures.T.cov()
    seen = problem.operator.observed(problem.measurement).flatten(1)[0]  # the same half of all
    noise = problem.gaussian.std.flatten().double()[0] ** 2 + RIDGE
    past = covariance[seen][:, seen] + noise * torch.eye(int(seen.sum()), dtype=torch.float64)
    gain = torch.linalg.solve(past, covariance[seen][:, ~seen]).T
    rest = covariance[~seen][:, ~seen] - gain @ covariance[seen][:, ~seen]
    values, vectors = torch.linalg.eigh((rest + rest.T) / 2)
    root = vectors * values.clamp_min(0).sqrt()
    rows = torch.arange(count) % problem.cases
    y = problem.measurement.double().flatten(1)[rows]
    drawn = torch.from_numpy(standard_normal(seed, range(count), 0, "images/baseline", (len(values),)))
    states = y.clone()
    states[:, ~seen] = mean[~seen] + (y[:, seen] - mean[seen]) @ gain.T + drawn @ root.T
    return states.reshape(count, *training_data.spec.shape)


def _pictures(data: Dataset) -> Tensor:
    """All training states as float64 ``[N, D]``."""
    return data.batch(range(len(data)))[0].flatten(1).double()
