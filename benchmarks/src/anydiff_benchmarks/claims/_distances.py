"""Distances between samples that several claims measure by."""

from __future__ import annotations

import torch
from torch import Tensor


def wasserstein_1(first: Tensor, second: Tensor) -> float:
    """W1 of two equally large samples on the line ``[n]`` or ``[n, 1]``."""
    one, two = first.flatten().double().sort().values, second.flatten().double().sort().values
    return float((one - two).abs().mean())


def sliced_wasserstein_1(first: Tensor, second: Tensor, directions: int = 128) -> float:
    """The mean W1 over fixed random directions of two equally large samples ``[n, d]``."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(directions, first.shape[1], dtype=torch.float64, generator=generator)
    axes = axes / axes.norm(dim=1, keepdim=True)
    one, two = (values.double() @ axes.T for values in (first, second))
    return float((one.sort(dim=0).values - two.sort(dim=0).values).abs().mean())


def sliced_wasserstein_2(first: Tensor, second: Tensor, directions: int = 128) -> float:
    """The root mean square of W2 over fixed random directions of two equally large samples ``[n, d]``."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(directions, first.shape[1], dtype=torch.float64, generator=generator)
    axes = axes / axes.norm(dim=1, keepdim=True)
    one, two = (values.double() @ axes.T for values in (first, second))
    return float((one.sort(dim=0).values - two.sort(dim=0).values).square().mean().sqrt())
