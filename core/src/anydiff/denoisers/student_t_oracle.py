"""The exact denoiser of Gaussian mixtures and of points under Student-t noise: what PFGM++ is tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, batch_times, one_time
from anydiff.errors import AnydiffError
from anydiff.paths.pfgm_pp import PFGMPlusPlus
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff.states.student_t import StudentTNoise

NODES = 96


class StudentTOracle(Denoiser):
    """E[x_0 | x_t] for x_0 ~ Σ_k w_k N(m_k, s² I) in R^N and x_t = x_0 + σ z sqrt(D/g), g ~ χ²_D.

    Points, s = 0: the posterior weights are w_k (|x - m_k|² + σ² D)^(-(N+D)/2). Else the posterior mean under Gaussian
    noise of variance σ² D/g is averaged over g, by quadrature on 96 nodes of log g.

    Args:
        path: PFGM++ with a finite number of degrees of freedom.
        means: m_k ``[K, N]``.
        std: s, at least 0.
        weights: w_k ``[K]``, equal by default.

    Raises:
        AnydiffError: the noise of the path is Gaussian.
    """

    path: PFGMPlusPlus

    def __init__(self, path: PFGMPlusPlus, means: Tensor, std: float, weights: Tensor | None = None) -> None:
        if not isinstance(path.noise_law, StudentTNoise):
            raise AnydiffError("dof is infinite, where the noise is Gaussian; use GaussianMixtureOracle.")
        self.path, self.means, self.variance = path, means.double(), float(std) ** 2
        count = len(self.means)
        share = torch.full((count,), 1.0 / count) if weights is None else weights / weights.sum()
        self.log_weights = torch.log(share.double())
        self.dof = path.noise_law.dof

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] ``[B, N]``."""
        sigma = batch_times(one_time(t, self), x).reshape(-1, 1)
        point = x.double()
        squared = (point[:, None] - self.means).square().sum(-1)
        if self.variance == 0:
            power = -(x.shape[1] + self.dof) / 2
            logits = self.log_weights + power * torch.log(squared + sigma**2 * self.dof)
            return (torch.softmax(logits, 1) @ self.means).to(x)
        return self._averaged(point, squared, sigma).to(x)

    def _averaged(self, point: Tensor, squared: Tensor, sigma: Tensor) -> Tensor:
        g, log_density = self._lengths()
        noise = sigma[:, :, None] ** 2 * self.dof / g  # [B, 1, G]
        total = self.variance + noise
        logits = self.log_weights[:, None] - point.shape[1] / 2 * torch.log(total) - squared[:, :, None] / (2 * total)
        logits = logits + log_density
        weight = torch.softmax(logits.flatten(1), 1).reshape(logits.shape)
        shrink = self.variance / total
        # The mean of component k at noise n is m_k + shrink (x - m_k).
        kept = (weight * (1 - shrink)).sum(2) @ self.means
        return kept + (weight * shrink).sum((1, 2))[:, None] * point

    def _lengths(self) -> tuple[Tensor, Tensor]:
        """Nodes g and log of density times their measure g d(log g), on which χ²_D has all but 1e-12 of its mass."""
        from scipy.stats import chi2

        ends = torch.log(torch.tensor(chi2(self.dof).ppf([1e-12, 1 - 1e-12]), dtype=torch.float64))
        g = torch.exp(torch.linspace(float(ends[0]), float(ends[1]), NODES, dtype=torch.float64))
        half = self.dof / 2
        return g, half * torch.log(g) - g / 2 - half * math.log(2) - math.lgamma(half)
