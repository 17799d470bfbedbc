"""The exact fields of a bridge between two Gaussian mixtures: what interpolants are tested against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, batch_times, one_time
from anydiff.denoisers.kinds import PredictionKind
from anydiff.paths.interpolant import Interpolant
from anydiff.states import UNCONDITIONAL, Conditioning


@dataclass(frozen=True)
class Mixture:
    """Σ_k w_k N(m_k, v_k I) in R^d.

    Attributes:
        means: m_k ``[K, d]``.
        variances: v_k ``[K]``.
        weights: w_k ``[K]``, which sum to one.
    """

    means: Tensor
    variances: Tensor
    weights: Tensor

    @classmethod
    def of(cls, means: list[list[float]], variances: list[float], weights: list[float]) -> Mixture:
        """From lists of numbers; the weights are normalised."""
        share = torch.tensor(weights, dtype=torch.float64)
        return cls(torch.tensor(means).double(), torch.tensor(variances).double(), share / share.sum())

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` exact draws, float64 ``[count, d]``."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        return self.means[which] + self.variances[which].sqrt()[:, None] * noise


class InterpolantOracle(Denoiser):
    """Velocity and score of x_u = a x_start + c x_data + γ z with independent ends, both Gaussian mixtures in R^d.

    A pair (i, j) of components has the mean M = a m_i + c n_j and the variance S = a² C_i + c² E_j + γ², and with its
    posterior weight w_ij(x)

        s = -Σ w_ij (x - M)/S,   b = Σ w_ij [M' + (a a' C_i + c c' E_j + γγ')/S (x - M)],

    in which γγ' is finite where γ' is not, so both stand at the ends too.

    Args:
        path: the bridge.
        start: the law of its start.
        data: the law of its data.
    """

    path: Interpolant
    native_kind: PredictionKind = "flow"

    def __init__(self, path: Interpolant, start: Mixture, data: Mixture) -> None:
        self.path, self.start, self.data = path, start, data

    @property
    def native_kinds(self) -> tuple[PredictionKind, ...]:
        """Velocity and score."""
        return ("flow", "score")

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """dx/dt = -b ``[B, d]``."""
        return self.natives(x, t, condition)["flow"]

    def natives(
        self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> dict[PredictionKind, Tensor]:
        """Both fields at one time for each row."""
        times = batch_times(one_time(t, self), x)
        velocity, score = self.fields(x.double(), times)
        return {"flow": -velocity.to(x), "score": score.to(x)}

    def fields(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(b, s), float64 ``[B, d]``, at times ``[B]``; the derivatives in b are by u = 1 - t."""
        c, slope = self.path.coefficients(t), self.path.derivatives(t)
        a, data, gamma2 = (c[name].reshape(-1, 1, 1) for name in ("start", "x0", "noise"))
        da, ddata = (-slope[name].reshape(-1, 1, 1) for name in ("start", "x0"))
        gamma2 = gamma2**2
        start_mean, data_mean = self.start.means[:, None], self.data.means[None]
        start_variance, data_variance = self.start.variances[:, None], self.data.variances[None]
        size = x.shape[1]
        mean = a[..., None] * start_mean + data[..., None] * data_mean
        variance = a**2 * start_variance + data**2 * data_variance + gamma2
        off = x[:, None, None] - mean
        log_weight = torch.log(self.start.weights[:, None] * self.data.weights[None])
        log_weight = log_weight - size / 2 * torch.log(variance) - off.square().sum(-1) / (2 * variance)
        weight = torch.softmax(log_weight.flatten(1), dim=1).reshape(log_weight.shape)[..., None]
        rate = self.path.noise_rate(t).reshape(-1, 1, 1)
        growth = (a * da * start_variance + data * ddata * data_variance + rate) / variance
        moved = da[..., None] * start_mean + ddata[..., None] * data_mean
        velocity = (weight * (moved + growth[..., None] * off)).sum((1, 2))
        return velocity, -(weight * off / variance[..., None]).sum((1, 2))
