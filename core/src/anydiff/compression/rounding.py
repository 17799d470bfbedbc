"""Adaptive rounding (Nagel et al. 2020, arXiv:2004.10568): whether each weight is rounded down or up is learned.

A weight w stands at floor(w / s) + h(V) with h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1); V begins where h is the fraction
that was cut off, so that nothing is rounded yet, and a penalty drives h to 0 or 1. Afterwards a weight is rounded up
where V >= 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.compression.quantisers import Quantiser

STRETCH, SHIFT = 1.2, 0.1


def rectified(soft: Tensor) -> Tensor:
    """h(V), in [0, 1]."""
    return (STRETCH * torch.sigmoid(soft) - SHIFT).clamp(0, 1)


def start(weight: Tensor, quantiser: Quantiser) -> Tensor:
    """V ``[C, ...]`` at which the soft weight is the weight itself."""
    exact = weight.detach() / quantiser.like(weight)[0]
    fraction = exact - exact.floor()
    return torch.logit((fraction + SHIFT) / STRETCH)


def soft_weight(weight: Tensor, quantiser: Quantiser, soft: Tensor) -> Tensor:
    """The weight between its two neighbours on the grid, where ``soft`` says; differentiable by ``soft``."""
    return quantiser.values(_levels(weight, quantiser, rectified(soft)))


def hard_levels(weight: Tensor, quantiser: Quantiser, soft: Tensor) -> Tensor:
    """The level of each weight, rounded down or up as ``soft`` says."""
    return _levels(weight, quantiser, (soft >= 0).to(weight.dtype))


def penalty(soft: Tensor, beta: float) -> Tensor:
    """Sum of 1 - |2 h - 1|^beta: 0 where every h is 0 or 1, their number where all are 1/2."""
    return (1 - (2 * rectified(soft) - 1).abs().pow(beta)).sum()


def beta_at(progress: float, warm_up: float = 0.2, first: float = 20.0, last: float = 2.0) -> float | None:
    """The exponent of the penalty at ``progress`` in [0, 1]: falls linearly; None before the end of the warm-up."""
    if progress < warm_up:
        return None
    return first + (last - first) * (progress - warm_up) / (1 - warm_up)


def _levels(weight: Tensor, quantiser: Quantiser, up: Tensor) -> Tensor:
    scale, zero = quantiser.like(weight)
    return ((weight.detach() / scale).floor() + up + zero).clamp(0, quantiser.top)
