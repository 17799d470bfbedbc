"""Variance-exploding paths, α = 1: geometric and exponential (Song et al., ICLR 2021), EDM (Karras et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import check_range


@dataclass(frozen=True)
class VE(GaussianPath):
    """α = 1, σ_t = σ_min (σ_max/σ_min)^t, t in [0, 1]; σ_max is about the largest distance between two data points."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_start: float = 1.0
    t_end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise AnydiffError(
                f"sigma_min is {self.sigma_min}, sigma_max {self.sigma_max}; they must obey 0 < sigma_min < sigma_max."
            )
        check_range(self)

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _log_snr(self, t: Tensor) -> Tensor:
        return -math.log(self.sigma_min) - t * math.log(self.sigma_max / self.sigma_min)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.exp(-self._log_snr(t))

    def _time(self, log_snr: Tensor) -> Tensor:
        return -(log_snr + math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class ExponentialVE(GaussianPath):
    """α = 1, σ_t² = (b^2t - 1)/(2 log b), t in [t_end, 1]: the exact solution of dx = b^t dw from clean data at t = 0.

    :class:`VE` has the same diffusion up to a factor, but starts with the noise σ_min; here σ_0 = 0, so sampling stops
    at ``t_end`` > 0. For b -> 1 it is Brownian motion, σ_t² = t. For data of unit scale b = 60 (σ_1 = 21) is the least
    round base that reaches the prior; b = 30 gives σ_1 = 11.5 (the process of SEEDS, Li et al., arXiv:2306.14066).
    """

    base: float = 60.0
    t_start: float = 1.0
    t_end: float = 1e-3
    default_grid: ClassVar[str] = "karras"

    def __post_init__(self) -> None:
        if not 1 < self.base < math.inf:
            raise AnydiffError(f"base is {self.base}, but must be a finite number above 1 (30, say).")
        check_range(self)

    @property
    def _rate(self) -> float:
        return 2 * math.log(self.base)

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(torch.expm1(self._rate * t) / self._rate)

    def _log_snr(self, t: Tensor) -> Tensor:
        return -torch.log(torch.expm1(self._rate * t) / self._rate) / 2

    def _time(self, log_snr: Tensor) -> Tensor:
        return torch.log1p(self._rate * torch.exp(-2 * log_snr)) / self._rate


@dataclass(frozen=True)
class EDM(GaussianPath):
    """α = 1, σ_t = t, t in [0.002, 80] (Karras et al., NeurIPS 2022)."""

    t_start: float = 80.0
    t_end: float = 0.002
    default_grid: ClassVar[str] = "karras"

    def __post_init__(self) -> None:
        check_range(self)

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _sigma(self, t: Tensor) -> Tensor:
        # t itself would make the derivative's graph trivial and share storage with the caller's tensor.
        return t * 1.0

    def _log_snr(self, t: Tensor) -> Tensor:
        return -torch.log(t)

    def _time(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr)
