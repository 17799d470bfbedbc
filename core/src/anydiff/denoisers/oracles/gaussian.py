"""Denoisers that are exact: what samplers, guidance and objectives are tested against.

All hold their parameters in float64 and compute in the dtype of the state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, one_time
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath, leading, per_row
from anydiff.states import UNCONDITIONAL, Conditioning


def _double(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _columns(value: Tensor | float, x: Tensor) -> Tensor:
    """A coefficient as ``[B or 1, 1]``, or ``[B or 1, D]`` where it has one per position or entry of ``x``."""
    value = leading(_double(value), x)
    if value.ndim == 0 or value.numel() == len(value):
        return value.reshape(-1, 1)
    return value.expand(-1, *x.shape[1:]).flatten(1)


class GaussianOracle(Denoiser):
    """x_0 ~ N(m, C): D = m + α C (α² C + σ² I)^-1 (x_t - α m).

    Args:
        path: the path.
        mean: m ``[*shape]``.
        covariance: a variance per entry ``[*shape]`` (or one number), or the full ``[d, d]`` matrix of the flattened
            state.
    """

    path: GaussianPath

    def __init__(self, path: GaussianPath, mean: Tensor, covariance: Tensor | float) -> None:
        self.path = path
        self.mean = _double(mean)
        covariance = _double(covariance)
        size = self.mean.numel()
        if covariance.shape == (size, size) and self.mean.shape != (size, size):
            variance, self.basis = torch.linalg.eigh(covariance)
            self.variance = variance.clamp_min(0.0)
        else:
            self.basis = torch.empty(0)
            self.variance = covariance.expand(self.mean.shape).reshape(-1)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t]; see the class."""
        return self.posterior_mean(x, t, self.mean.to(x.dtype).expand(x.shape))

    def posterior_mean(self, x: Tensor, t: float | Tensor, mean: Tensor) -> Tensor:
        """E[x_0 | x_t] for a prior mean ``[B, *shape]`` of one's own per sample, with this oracle's covariance."""
        alpha, sigma = _columns(self.path.alpha(t), x), _columns(self.path.sigma(t), x)
        residual = x.flatten(1) - alpha.to(x.dtype) * mean.flatten(1)
        if self.basis.numel() and alpha.shape[1] > 1:
            return mean + self._solved(residual, alpha, sigma).reshape(x.shape)
        gain = (alpha * self.variance / (alpha**2 * self.variance + sigma**2)).to(x.dtype)
        if self.basis.numel():
            basis = self.basis.to(x.dtype)
            correction: Tensor = ((residual @ basis) * gain) @ basis.T
        else:
            correction = residual * gain
        return mean + correction.reshape(x.shape)

    def log_density(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """log p_t(x) ``[B]``, in nats."""
        alpha, sigma = _columns(self.path.alpha(t), x), _columns(self.path.sigma(t), x)
        if self.basis.numel() and alpha.shape[1] > 1:
            raise AnydiffError("a full covariance has a log-density where all entries have one noise level alone.")
        residual = x.flatten(1) - alpha.to(x.dtype) * self.mean.to(x.dtype).flatten()
        if self.basis.numel():
            residual = residual @ self.basis.to(x.dtype)
        variance = (alpha**2 * self.variance + sigma**2).to(x.dtype)
        found: Tensor = -((residual.square() / variance) + torch.log(2 * math.pi * variance)).sum(1) / 2
        return found

    def _solved(self, residual: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """C A (A C A + S²)^-1 r with diagonal A and S of one value per entry."""
        covariance = (self.basis * self.variance) @ self.basis.T
        total = alpha[:, :, None] * covariance * alpha[:, None, :] + torch.diag_embed(sigma**2)
        solved = torch.linalg.solve(total, residual.double()[:, :, None])
        correction: Tensor = (covariance @ (alpha[:, :, None] * solved))[:, :, 0]
        return correction.to(residual.dtype)


class GaussianMixtureOracle(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, s_k² I), each component of a class.

    D = Σ_k r_k [m_k + α s_k²/v_k (x_t - α m_k)] with v_k = α² s_k² + σ² and r_k ∝ w_k N(x_t; α m_k, v_k I). With the
    condition ``label [B]`` only the components of that class count; where it is not present it is dropped again, as
    classifier-free guidance does.

    Args:
        path: the path.
        means: ``[K, *shape]``.
        std: s_k, one number or ``[K]``.
        weights: w_k ``[K]`` (normalised here), equal by default.
        classes: class of each component ``[K]``, by default its own index.
    """

    path: GaussianPath

    def __init__(
        self,
        path: GaussianPath,
        means: Tensor,
        std: Tensor | float,
        weights: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> None:
        self.path = path
        self.means = _double(means)
        count = self.means.shape[0]
        self.std = _double(std).expand(count)
        weights = torch.ones(count) if weights is None else weights
        self.weights = _double(weights) / _double(weights).sum()
        self.classes = torch.arange(count) if classes is None else classes
        if self.weights.shape != (count,) or self.classes.shape != (count,):
            raise AnydiffError(f"weights and classes need one entry per mean ({count}); check their shapes.")

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t, class]; see the class."""
        alpha = _double(self.path.alpha(one_time(t, self))).reshape(-1, 1)
        sigma = _double(self.path.sigma(t)).reshape(-1, 1)
        variance = alpha**2 * self.std**2 + sigma**2
        responsibility = self._responsibility(x, alpha, variance, condition)
        means = self.means.flatten(1).to(x.dtype)
        shrink = (alpha * self.std**2 / variance).to(x.dtype)
        flat = x.flatten(1)
        # Σ_k r_k [m_k (1 - shrink_k α) + shrink_k x] without a [B, K, d] tensor.
        mean_part = (responsibility * (1 - shrink * alpha.to(x.dtype))) @ means
        return (mean_part + (responsibility * shrink).sum(1, keepdim=True) * flat).reshape(x.shape)

    def log_density(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """log p_t(x) ``[B]``, in nats; with a ``label``, of that class."""
        alpha = _double(self.path.alpha(one_time(t, self))).reshape(-1, 1)
        sigma = _double(self.path.sigma(t)).reshape(-1, 1)
        logits = self._logits(x, alpha, alpha**2 * self.std**2 + sigma**2, condition)
        weights = self._logits(torch.zeros_like(x), 0 * alpha, torch.ones_like(alpha), condition)
        # At x = 0 under variances of 1 and means of 0 the logits are log w_k of the components that count.
        whole = torch.logsumexp(weights, dim=1)
        return (torch.logsumexp(logits, dim=1) - whole - x[0].numel() / 2 * math.log(2 * math.pi)).to(x.dtype)

    def _responsibility(self, x: Tensor, alpha: Tensor, variance: Tensor, condition: Conditioning) -> Tensor:
        return torch.softmax(self._logits(x, alpha, variance, condition), dim=1).to(x.dtype)

    def _logits(self, x: Tensor, alpha: Tensor, variance: Tensor, condition: Conditioning) -> Tensor:
        """log w_k N(x; α m_k, v_k I) ``[B, K]`` without the factors of 2π; -inf where another class is asked for."""
        means = self.means.flatten(1).to(x.dtype)
        flat = x.flatten(1)
        alpha = alpha.to(x.dtype)
        squared = flat.square().sum(1, keepdim=True) - 2 * alpha * (flat @ means.T) + alpha**2 * means.square().sum(1)
        dimension = flat.shape[1]
        logits = torch.log(self.weights) - dimension / 2 * torch.log(variance) - squared / (2 * variance)
        label = condition.given.get("label")
        if label is not None:
            allowed = self.classes == label.reshape(-1, 1)
            if "label" in condition.present:
                allowed = allowed | ~condition.presence("label").reshape(-1, 1)
            logits = logits.masked_fill(~allowed, float("-inf"))
        return logits

    def sample(self, count: int, generator: torch.Generator, label: int | None = None) -> Tensor:
        """``count`` exact draws of x_0 (float64 ``[count, *shape]``), of one class if ``label`` is given."""
        weights = self.weights if label is None else self.weights * (self.classes == label)
        component = torch.multinomial(weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, *self.means.shape[1:], dtype=torch.float64, generator=generator)
        return self.means[component] + per_row(self.std[component], noise) * noise
