"""The exact posterior of a mixture of Gaussians under a linear measurement, as a denoiser and as a sampler."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.oracles.mixture import MixtureOracle
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.states import UNCONDITIONAL, Conditioning


class MeasuredMixtureOracle(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k) seen through y = A x_0 + n, n ~ N(0, s² I): E[x_0 | x_t, y], exact.

    The posterior is the mixture of N(m_k + G_k (y - A m_k), C_k - G_k A C_k) with the gains
    G_k = C_k Aᵀ (A C_k Aᵀ + s² I)⁻¹ and weights w_k N(y; A m_k, A C_k Aᵀ + s² I); sampling with this denoiser draws
    from it. The measurement ``[B, k]`` comes as the condition ``measurement``.

    Args:
        prior: the mixture.
        operator: A ``[k, d]`` on flattened states.
        noise_std: s.
    """

    path: GaussianPath

    def __init__(self, prior: MixtureOracle, operator: Tensor, noise_std: float) -> None:
        self.path, self.prior = prior.path, prior
        self.operator = torch.as_tensor(operator, dtype=torch.float64)
        noise = noise_std**2 * torch.eye(len(self.operator), dtype=torch.float64)
        seen = self.operator @ prior.covariances
        self.totals = seen @ self.operator.T + noise
        self.gains: Tensor = torch.linalg.solve(self.totals, seen).mT
        covariances = prior.covariances - self.gains @ seen
        self.posterior_mixture = MixtureOracle(
            prior.path, prior.means, (covariances + covariances.mT) / 2, prior.weights
        )

    def components(self, measurement: Tensor) -> tuple[Tensor, Tensor]:
        """Means ``[B, K, d]`` and log-weights ``[B, K]`` of the posterior of measurements ``[B, k]``, float64."""
        means = self.prior.means.flatten(1)
        residual = torch.as_tensor(measurement, dtype=torch.float64)[:, None] - means @ self.operator.T
        moved = means + torch.einsum("bki,kdi->bkd", residual, self.gains)
        solved = torch.linalg.solve(self.totals, residual[..., None])[..., 0]
        fit = (residual * solved).sum(2) + torch.linalg.slogdet(2 * math.pi * self.totals).logabsdet
        return moved, torch.log_softmax(self.prior.weights.log() - fit / 2, 1)

    def posterior(self, measurement: Tensor) -> Tensor:
        """E[x_0 | y], float64 ``[B, *shape]``, for measurements ``[B, k]``."""
        means, log_weights = self.components(measurement)
        return (log_weights.exp()[..., None] * means).sum(1).reshape(-1, *self.prior.means.shape[1:])

    def sample(self, measurement: Tensor, generator: torch.Generator) -> Tensor:
        """An exact draw of x_0 for each of the measurements ``[B, k]``, float64 ``[B, *shape]``."""
        means, log_weights = self.components(measurement)
        return self.posterior_mixture.draws(means, log_weights.exp(), generator)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t, y]; see the class."""
        if "measurement" not in condition.given:
            raise AnydiffError("the condition measurement is missing; give measurement [B, k].")
        return self.posterior_mixture.mean_of(x, t, *self.components(condition.given["measurement"]))


class LinearGaussianOracle(MeasuredMixtureOracle):
    """A Gaussian N(m, C) seen through y = A x_0 + n: the measured mixture of one component.

    Args:
        path: the path.
        mean: m ``[d]``.
        covariance: C ``[d, d]``.
        operator: A ``[k, d]``.
        noise_std: s, the standard deviation of the measurement's noise.

    Attributes:
        covariance: of the posterior ``[d, d]``.
        gain: G ``[d, k]``.
    """

    def __init__(
        self, path: GaussianPath, mean: Tensor, covariance: Tensor, operator: Tensor, noise_std: float
    ) -> None:
        super().__init__(MixtureOracle(path, torch.as_tensor(mean)[None], covariance), operator, noise_std)
        self.mean = self.prior.means[0]
        self.covariance, self.gain = self.posterior_mixture.covariances[0], self.gains[0]
