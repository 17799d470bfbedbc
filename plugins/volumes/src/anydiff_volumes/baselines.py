"""What a model of sequences must beat: the latest frame, a straight line in time, and the population's mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.states import Conditioning
from anydiff_volumes import extrapolation

Predictor = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def last_frame(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The latest frame that was seen."""
    return _predicted(extrapolation.last_frame, condition)


def interpolation(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """Every voxel on the straight line through its two latest values."""
    return _predicted(extrapolation.interpolation, condition)


def population_mean(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The mean of (at most 256, evenly spread) training volumes, for everyone."""
    size = len(training_data)
    rows = sorted({round(place * (size - 1) / 255) for place in range(256)})
    mean = torch.stack([training_data.batch([row])[0][0] for row in rows]).mean(dim=0)
    return mean.expand(count, *mean.shape).clone()


def _predicted(predictor: Predictor, condition: Conditioning) -> Tensor:
    given = condition.given
    return predictor(given["frames"], given["seen"] > 0.5, given["times"], given["target_time"])[:, None]
