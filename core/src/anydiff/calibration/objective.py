"""What a search makes small: one number from samples and the exact ends of the same noises."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from anydiff.calibration.reference import per_sample


def mean_distance(states: Tensor, end: Tensor) -> float:
    """The mean over the samples of their mean squared distance."""
    return float(per_sample(states, end).mean())


def median_distance(states: Tensor, end: Tensor) -> float:
    """The median over the samples, which the few that end elsewhere do not decide."""
    return float(per_sample(states, end).median())


Objective = Callable[[Tensor, Tensor], float]
OBJECTIVES: dict[str, Objective] = {"mean": mean_distance, "median": median_distance}
"""The objectives by name."""
