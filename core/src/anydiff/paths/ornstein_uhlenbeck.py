"""The Ornstein-Uhlenbeck process dx = -θ x dt + g dw, whose stationary variance is g²/(2θ): 1/2 by default, not 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import check_range


@dataclass(frozen=True)
class OrnsteinUhlenbeck(GaussianPath):
    """α_t = e^(-θ t), σ_t² = g²/(2θ) (1 - e^(-2 θ t)), t in [t_end, t_start].

    Args:
        rate: θ, positive.
        diffusion: g, positive.
        t_start: the greatest time; α is below 1 % of the prior's deviation there by default.
        t_end: the least time.

    Raises:
        AnydiffError: a number out of range.
    """

    rate: float = 1.0
    diffusion: float = 1.0
    t_start: float = 5.0
    t_end: float = 1e-3

    def __post_init__(self) -> None:
        check_range(self)
        for name in ("rate", "diffusion"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise AnydiffError(f"{name} is {value!r}, but must be a positive, finite number.")

    @property
    def stationary_variance(self) -> float:
        """g²/(2θ), the variance that the process ends with."""
        return self.diffusion**2 / (2 * self.rate)

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self.rate * t)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-self.stationary_variance * torch.expm1(-2 * self.rate * t))

    def _log_snr(self, t: Tensor) -> Tensor:
        spread = math.log(self.stationary_variance) + torch.log(-torch.expm1(-2 * self.rate * t))
        return -self.rate * t - spread / 2

    def _time(self, log_snr: Tensor) -> Tensor:
        # e^(-2θt) = v e^(2λ) / (1 + v e^(2λ)), v the stationary variance.
        return torch.nn.functional.softplus(-2 * log_snr - math.log(self.stationary_variance)) / (2 * self.rate)
