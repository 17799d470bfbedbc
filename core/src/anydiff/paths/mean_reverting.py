"""Mean-reverting paths: from the clean sample x_0 to a known tensor μ (a degraded observation) with noise around it.

Luo et al., "Image restoration with mean-reverting stochastic differential equations" (IR-SDE), ICML 2023: the forward
SDE dx = θ_t (μ - x) dt + g_t dw with g² = 2 s² θ has the marginal

    x_t = α_t x_0 + (1 - α_t) μ + σ_t ε,   α_t = exp(-∫θ),   σ_t = s sqrt(1 - α_t²).

In y = x - μ it is a variance-preserving path scaled by s. The compiler of plans shifts the state by μ (see
:class:`~anydiff.solvers.Program`), so every solver works on it; the second- and third-order ones are the MR Sampler of
Li et al., ICLR 2025 (arXiv 2502.07856): DPM-Solver++ in its "taylor" form with η = 0 (ODE) or 1 (SDE).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath
from anydiff.paths.path import Role, check_range

RATES = ("cosine", "linear", "constant")
_OFFSET = 0.008


@dataclass(frozen=True)
class MeanReverting(GaussianPath):
    """x_t = α_t x_0 + (1 - α_t) μ + σ_t ε with log α_t = log(α_T) Θ(t)/Θ(1), Θ = ∫θ, t in [t_end, 1].

    Training and sampling need ``mu`` ``[B, *shape]``, a source of the conditioning or a condition that the network
    reads too. The prior is N(μ, s²).

    Args:
        noise: s, the standard deviation of x_T about μ; 50/255 in the paper, for data in [0, 1].
        remaining: α_T, what is left of x_0 - μ at t = 1.
        rate: θ(t): ``"cosine"`` (1 - cos²), ``"linear"`` or ``"constant"``.
        t_start: where sampling starts.
        t_end: where it ends.
    """

    noise: float = 50 / 255
    remaining: float = 0.005
    rate: str = "cosine"
    t_start: float = 1.0
    t_end: float = 0.01
    sources: ClassVar[Mapping[str, Role]] = {"x0": "clean", "mu": "known", "noise": "noise"}
    centre: ClassVar[Mapping[str, float]] = {"mu": 1.0}

    def __post_init__(self) -> None:
        check_range(self)
        if self.rate not in RATES:
            raise UnknownNameError("rate", self.rate, RATES)
        if not (self.noise > 0 and 0 < self.remaining < 1):
            raise AnydiffError(
                f"noise is {self.noise} and remaining is {self.remaining}, but they must obey noise > 0 and "
                "0 < remaining < 1."
            )

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """α_t (``x0``), 1 - α_t (``mu``) and σ_t (``noise``)."""
        return {"x0": self._alpha(t), "mu": -torch.expm1(self._log_alpha(t)), "noise": self._sigma(t)}

    def _integral(self, t: Tensor) -> Tensor:
        """Θ(t), up to a factor."""
        if self.rate == "constant":
            return t * 1.0
        if self.rate == "linear":
            return t**2
        slope = math.pi / 2 / (1 + _OFFSET)
        first = slope * _OFFSET
        # ∫ (1 - cos²(a)/cos²(a_0)) dt with a = a_0 + slope t; sin 2a - sin 2a_0 as a product, which does not cancel.
        swing = 2 * torch.cos(2 * first + slope * t) * torch.sin(slope * t)
        return t - (t / 2 + swing / (4 * slope)) / math.cos(first) ** 2

    def _log_alpha(self, t: Tensor) -> Tensor:
        whole = self._integral(torch.ones((), dtype=torch.float64))
        return math.log(self.remaining) * self._integral(t) / whole

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def _sigma(self, t: Tensor) -> Tensor:
        return self.noise * torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))

    def _log_snr(self, t: Tensor) -> Tensor:
        log_alpha = self._log_alpha(t)
        return log_alpha - torch.log(-torch.expm1(2 * log_alpha)) / 2 - math.log(self.noise)
