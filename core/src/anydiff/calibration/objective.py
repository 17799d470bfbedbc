"""What a search makes small: one number from samples and the exact ends of the same noises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from anydiff.calibration.reference import per_sample
from anydiff.metrics.distances import frechet_distance

RESAMPLES = 200


def mean_distance(states: Tensor, end: Tensor) -> float:
    """The mean over the samples of their mean squared distance."""
    return float(per_sample(states, end).mean())


def median_distance(states: Tensor, end: Tensor) -> float:
    """The median over the samples, which the few that end elsewhere do not decide."""
    return float(per_sample(states, end).median())


Objective = Callable[[Tensor, Tensor], float]
OBJECTIVES: dict[str, Objective] = {"mean": mean_distance, "median": median_distance}
"""The objectives by name."""


def frechet(states: Tensor, other: Tensor) -> float:
    """The Fréchet distance of two sets of states, flattened; infinite where one is not finite."""
    if not bool(torch.isfinite(states).all()):
        return float("inf")
    return frechet_distance(states.flatten(1), other.flatten(1))


def compared_laws(won: Tensor, plain: Tensor, end: Tensor) -> tuple[float, float, tuple[float, float, float]]:
    """Fréchet distances of ``won`` and ``plain`` from ``end``, and their ratio with the interval over resamples."""
    values = frechet(won, end), frechet(plain, end)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        rows = torch.from_numpy(rng.integers(0, len(end), len(end)))
        drawn.append(frechet(won[rows], end[rows]) / max(frechet(plain[rows], end[rows]), 1e-300))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return *values, (values[0] / max(values[1], 1e-300), float(low), float(high))
