"""Mixtures of Gaussians with full covariances: exact denoisers, densities and draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, one_time
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.states import UNCONDITIONAL, Conditioning


class MixtureOracle(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k): D = Σ_k r_k [m_k + α C_k (α² C_k + σ² I)⁻¹ (x_t - α m_k)].

    r_k ∝ w_k N(x_t; α m_k, α² C_k + σ² I). On a path of one noise level for all entries.

    Args:
        path: the path.
        means: ``[K, *shape]``.
        covariances: ``[K, d, d]`` of the flattened states, or ``[d, d]`` for all components.
        weights: w_k ``[K]`` (normalised here), equal by default.

    Raises:
        AnydiffError: sizes do not fit, or a weight is negative.
    """

    path: GaussianPath

    def __init__(self, path: GaussianPath, means: Tensor, covariances: Tensor, weights: Tensor | None = None) -> None:
        self.path = path
        self.means = torch.as_tensor(means, dtype=torch.float64)
        count, size = len(self.means), self.means[0].numel()
        cov = torch.as_tensor(covariances, dtype=torch.float64)
        cov = cov.expand(count, *cov.shape) if cov.ndim == 2 else cov
        if tuple(cov.shape) != (count, size, size):
            raise AnydiffError(
                f"covariances have shape {tuple(covariances.shape)}, but {count} means of {size} entries need "
                f"{(count, size, size)}."
            )
        given = torch.ones(count) if weights is None else torch.as_tensor(weights)
        if tuple(given.shape) != (count,) or not bool((given >= 0).all()):
            raise AnydiffError(f"weights are {given.tolist()}, but must be {count} numbers of at least 0.")
        self.covariances = cov
        self.weights = given.double() / given.double().sum()
        variances, self.bases = torch.linalg.eigh(cov)
        self.variances = variances.clamp_min(0.0)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t]; see the class."""
        return self.mean_of(x, t, self.means.flatten(1)[None], self.weights.log()[None])

    def mean_of(self, x: Tensor, t: float | Tensor, means: Tensor, log_weights: Tensor) -> Tensor:
        """E[x_0 | x_t] with means ``[B or 1, K, d]`` and log-weights ``[B or 1, K]`` of one's own per row."""
        alpha, residual, total = self._coordinates(x, t, means)
        logits = log_weights.to(x) - (residual.square() / total + total.log()).sum(2) / 2
        share = torch.softmax(logits, 1)
        gained = torch.einsum("bki,kdi->bkd", alpha * self.variances.to(x) / total * residual, self.bases.to(x))
        return (share[..., None] * (means.to(x) + gained)).sum(1).reshape(x.shape)

    def log_density(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """log p_t(x) ``[B]``, in nats."""
        _, residual, total = self._coordinates(x, t, self.means.flatten(1)[None])
        logits = self.weights.log().to(x) - (residual.square() / total + (2 * math.pi * total).log()).sum(2) / 2
        return torch.logsumexp(logits, 1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` exact draws of x_0, float64 ``[count, *shape]``."""
        means = self.means.flatten(1)[None].expand(count, -1, -1)
        return self.draws(means, self.weights.expand(count, -1), generator)

    def draws(self, means: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of x_0 for each row of means ``[B, K, d]`` and weights ``[B, K]``."""
        chosen = torch.multinomial(weights, 1, generator=generator)[:, 0]
        noise = torch.randn(means.shape[0], means.shape[2], dtype=torch.float64, generator=generator)
        moved = torch.einsum("bdi,bi->bd", self.bases[chosen], self.variances[chosen].sqrt() * noise)
        return (means[torch.arange(len(means)), chosen] + moved).reshape(-1, *self.means.shape[1:])

    def _coordinates(self, x: Tensor, t: float | Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """α ``[B or 1, 1, 1]``, x_t - α m_k in each component's own axes ``[B, K, d]``, and the variances there."""
        times = torch.as_tensor(one_time(t, self), dtype=torch.float64).reshape(-1)
        alpha, sigma = self.path.alpha(times).reshape(-1, 1, 1).to(x), self.path.sigma(times).reshape(-1, 1, 1).to(x)
        residual = torch.einsum("bkd,kdi->bki", x.flatten(1)[:, None] - alpha * means.to(x), self.bases.to(x))
        return alpha, residual, alpha**2 * self.variances.to(x) + sigma**2
