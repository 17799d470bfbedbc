"""Variance-preserving paths, α² + σ² = 1, and the sub-VP path.

VP and sub-VP with a linear rate: Song et al., "Score-based generative modeling through SDEs", ICLR 2021. Cosine: Nichol
and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021. General log-SNR: Kingma et al.,
"Variational diffusion models", NeurIPS 2021 (there with log α²/σ², twice our λ).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import check_range


class _VariancePreserving(GaussianPath):
    """α = exp(log α), σ = sqrt(1 - α²), computed with expm1 so that σ keeps all digits near t = 0."""

    def _log_alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))

    def _log_snr(self, t: Tensor) -> Tensor:
        log_alpha = self._log_alpha(t)
        return log_alpha - torch.log(-torch.expm1(2 * log_alpha)) / 2


@dataclass(frozen=True)
class _LinearRate(GaussianPath):
    """The rate β(t) = β_min + (β_max - β_min) t, of which log α_t = -½ ∫_0^t β."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_start: float = 1.0
    t_end: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise AnydiffError(
                f"beta_min is {self.beta_min} and beta_max is {self.beta_max}, but 0 < beta_min <= beta_max is needed."
            )
        check_range(self)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -(self.beta_max - self.beta_min) * t**2 / 4 - self.beta_min * t / 2

    def _time_at(self, integral: Tensor) -> Tensor:
        """The t at which the integrated rate is ``integral``; the root of the quadratic that does not cancel."""
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))


@dataclass(frozen=True)
class VPLinear(_LinearRate, _VariancePreserving):
    """log α_t = -(β_max - β_min) t²/4 - β_min t/2, σ² = 1 - α², t in [t_end, 1] (Song et al. 2021; DDPM's limit)."""

    def _time(self, log_snr: Tensor) -> Tensor:
        # α² = 1/(1 + e^{-2λ}), so the integrated rate -2 log α is softplus(-2λ).
        return self._time_at(softplus(-2 * log_snr))


@dataclass(frozen=True)
class VPCosine(_VariancePreserving):
    """α_t = cos(π/2 (t+s)/(1+s)) / cos(π/2 s/(1+s)), σ² = 1 - α² (Nichol and Dhariwal 2021).

    ``t_start`` stops short of 1, where α = 0: at 0.9946 the rate of the 1000-step original reaches its ceiling 0.999.
    """

    s: float = 0.008
    t_start: float = 0.9946
    t_end: float = 1e-3

    def __post_init__(self) -> None:
        if not self.s >= 0:
            raise AnydiffError(f"s is {self.s}, but the cosine path needs s of at least 0; the paper has 0.008.")
        check_range(self, latest=1.0)

    @property
    def _offset(self) -> float:
        """The angle at t = 0, a; t turns it by b = t π/2 / (1+s)."""
        return self.s / (1 + self.s) * math.pi / 2

    def _log_alpha(self, t: Tensor) -> Tensor:
        # cos(a+b)/cos(a) = 1 - 2 sin(b/2) sin(a + b/2)/cos(a): no digits are lost near t = 0.
        half = t * (math.pi / 4 / (1 + self.s))
        return torch.log1p(-2 * torch.sin(half) * torch.sin(self._offset + half) / math.cos(self._offset))

    def _time(self, log_snr: Tensor) -> Tensor:
        # sin²(a+b) - sin²(a) = sin(b) sin(2a+b) = cos²(a) σ², with a + b from its tangent.
        cosine = math.cos(self._offset)
        alpha, variance = torch.exp(-softplus(-2 * log_snr) / 2), torch.sigmoid(-2 * log_snr)
        total = torch.atan2(torch.sqrt(math.sin(self._offset) ** 2 + cosine**2 * variance), alpha * cosine)
        turn = cosine**2 * variance / torch.sin(total + self._offset)
        # b beyond a right angle - 2a has the same sine as its supplement; there the difference of angles is exact.
        turn = torch.where(total < 1.0, torch.asin(turn.clamp(max=1.0)), total - self._offset)
        return turn * (2 / math.pi) * (1 + self.s)


@dataclass(frozen=True)
class VPLogSNR(GaussianPath):
    """α² = sigmoid(2λ), σ² = sigmoid(-2λ) for any decreasing λ(t), given as a function of a float64 tensor.

    The inverse is found by bisection, so ``function`` must decrease on [0, t_start].
    """

    function: Callable[[Tensor], Tensor]
    t_start: float = 1.0
    t_end: float = 0.0

    def __post_init__(self) -> None:
        check_range(self)
        probe = self.function(torch.linspace(self.t_end, self.t_start, 101, dtype=torch.float64))
        if not bool((probe.diff() < 0).all()):
            raise AnydiffError("function of VPLogSNR must decrease in t, but it rises or is flat; change its sign.")

    def _log_snr(self, t: Tensor) -> Tensor:
        return self.function(t)

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-softplus(-2 * self.function(t)) / 2)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.exp(-softplus(2 * self.function(t)) / 2)


@dataclass(frozen=True)
class SubVP(_LinearRate, GaussianPath):
    """α as in :class:`VPLinear`, σ_t = 1 - α_t² (a standard deviation, not a variance; Song et al. 2021)."""

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def _sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self._log_alpha(t))

    def _time(self, log_snr: Tensor) -> Tensor:
        # e^λ (1 - α²) = α with w = e^{-λ}/2 has the root α = sqrt(1 + w²) - w = exp(-asinh w).
        return self._time_at(2 * torch.asinh(torch.exp(-log_snr) / 2))
