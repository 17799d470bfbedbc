"""TSDiff: one unconditional diffusion model of windows, steered towards what was observed by its own prediction.

Kollovieh et al., "Predict, Refine, Synthesize: Self-Guiding Diffusion Models for Probabilistic Time Series
Forecasting", NeurIPS 2023 (arXiv 2307.11494). With D = D(x_t), an observation y on the observed steps and the energy

    E = Σ (y - D)²                      "squared"   (TSDiff-MS, a Gaussian likelihood)
    E = Σ ρ_q(y - D),  ρ_q(e) = max(q e, (q - 1) e)
                                        "quantile"  (TSDiff-Q, an asymmetric Laplace likelihood at the level q)

the score becomes ∇log p_t(x_t) - s ∇_x E, differentiated through the network. E is a sum, not a mean, so s depends on
how many steps are observed and on the scale of the series (here 1 is its level, see :mod:`anydiff_timeseries.scaling`).

Two forms stand in the authors' code. The DDIM one, ε + s σ_t ∇E, is exactly this. The DDPM one adds
-s pv_t ∇E to the state after an ancestral step, pv_t the posterior variance: that is this with the scale of
:func:`ancestral_scale`. There the gradient is taken at the new state; here, and in the paper's text, it is always taken
at the state that the plan evaluates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, PredictionKind
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.guidance import LinearGuidance, Scale, ScoreGuidance
from anydiff.paths import GaussianPath, VPLogSNR
from anydiff.states import UNCONDITIONAL, Conditioning, uniform
from anydiff_timeseries.scaling import checked_observation

ENERGIES = ("quantile", "squared")


def squared_energy(data: Tensor, observed: Tensor) -> Tensor:
    """E = Σ over the observed steps of (y - D)²: ``[B]`` from D ``[B, 1, L]`` and ``observed [B, 2, L]``."""
    values, mask = observed[:, 0], observed[:, 1]
    return (mask * (values - data[:, 0]).square()).sum(1)


def quantile_energy(data: Tensor, observed: Tensor, level: Tensor) -> Tensor:
    """E = Σ over the observed steps of ρ_q(y - D): ``[B]``; ``level [B]`` holds q in (0, 1), one per sample."""
    values, mask = observed[:, 0], observed[:, 1]
    error = values - data[:, 0]
    q = level.to(data.dtype)[:, None]
    return (mask * torch.maximum(q * error, (q - 1) * error)).sum(1)


def quantile_levels(members: int) -> Tensor:
    """q_k = (k + 1)/(members + 1) for k = 0, 1, ..., float64 ``[members]``: the paper's levels."""
    members = natural_number("members", members)
    return torch.arange(1, members + 1, dtype=torch.float64) / (members + 1)


@dataclass(frozen=True)
class ObservationGuidance(LinearGuidance):
    """Observation self-guidance; see the module.

    Conditions it reads, and the network does not see unless it asks for them itself:

    - ``observed [B, 2, L]``: the values (anything where nothing was observed) and the mask (1 observed, 0 not).
      Without it nothing is observed, and the model's own law is sampled.
    - ``quantile_level [B]``: q of each sample, say :func:`quantile_levels` over the samples that share an observation.
      Without it every sample has a uniform level of its own, drawn by its index: right for any number of members, with
      a little more scatter.

    Samples that share an observation must have different levels, so that they form a predictive distribution; with the
    level 1/2 for all it would be L1 guidance.

    Args:
        energy: ``"quantile"`` (TSDiff-Q) or ``"squared"`` (TSDiff-MS).
        scale: s: a number, one per sample, or a function of the time; 0 leaves the sampler as it is, bit for bit.
        scaled: whether ``observed`` is in the units of the states already, not in the series' own.

    Raises:
        UnknownNameError: no such energy.
        AnydiffError: the condition ``observed`` or ``quantile_level`` has another shape, or a level is not in (0, 1).
    """

    reads: ClassVar[tuple[str, ...]] = ("quantile_level",)

    energy: str = "quantile"
    scale: Scale = 4.0
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.energy not in ENERGIES:
            raise UnknownNameError("energy", self.energy, ENERGIES)

    @property
    def bends(self) -> bool:
        """Unless the scale is the number 0, where no prediction is changed."""
        return not (isinstance(self.scale, (int, float)) and self.scale == 0)

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The prediction with the score shifted by -s ∇E; the inner one where nothing is observed."""
        if "observed" in condition.given:
            shifted = ScoreGuidance(self.log_density, self.scale, names=self.reads)
            return shifted.predict(denoiser, x, t, kind, condition)
        return denoiser.predict(x, t, kind, condition.without(self.reads))

    def log_density(self, data: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """-E ``[B]`` of the data prediction ``[B, 1, L]``."""
        observed = checked_observation(condition.given["observed"], data, self.scaled)
        if self.energy == "squared":
            return -squared_energy(data, observed)
        return -quantile_energy(data, observed, self._levels(data.shape[0], condition))

    def _levels(self, rows: int, condition: Conditioning) -> Tensor:
        level = condition.given.get("quantile_level")
        if level is None:
            if condition.index is None:
                raise AnydiffError("the condition quantile_level is missing; give q in (0, 1) for each sample, [B].")
            drawn = uniform(0, condition.index.tolist(), 0, "timeseries/quantile level")
            return drawn.to(condition.index.device)
        if level.shape != (rows,) or not bool(((level > 0) & (level < 1)).all()):
            raise AnydiffError(
                f"quantile_level must hold {rows} numbers in (0, 1), one per sample; see quantile_levels."
            )
        return level


def ancestral_scale(path: GaussianPath, grid: Sequence[float], scale: float) -> Callable[[float], float]:
    """s(t) with which a DDPM plan on ``grid`` adds -s pv_t ∇E to its state, the paper's DDPM form.

    An ancestral step from t to u adds s(t) β/√(1-β) ∇log f to its mean, with √(1-β) = α_t/α_u; the posterior variance
    is pv_t = β σ_u²/σ_t². So s(t) = s √(1-β) σ_u²/σ_t², and 0 at the last node, where the step has no noise.
    """
    factor = {
        t: scale * path.alpha(t) / path.alpha(u) * (path.sigma(u) / path.sigma(t)) ** 2
        for t, u in itertools.pairwise(grid)
    }
    return lambda t: factor.get(t, 0.0)


def paper_path(steps: int = 100, first: float = 1e-4, last: float = 0.1) -> VPLogSNR:
    """The discrete schedule β_i from ``first`` to ``last``, linear in i, as a path: step n of ``steps`` is t = n/steps.

    ᾱ_n = Π_{i<n} (1 - β_i) is a ratio of gamma functions, b^n Γ(c + 1)/Γ(c + 1 - n) with b the increment of β and
    c = (1 - first)/b, so the path goes through every point of the schedule and is smooth between them. The paper's
    keeps α = 0.075 at t = 1, which a sampler that starts from N(0, 1) ignores (the core warns).
    """
    if natural_number("steps", steps, 2) and not 0 < first < last < 1:
        raise AnydiffError(f"first is {first} and last is {last}, but 0 < first < last < 1 is needed.")
    increment = (last - first) / (steps - 1)
    whole = (1 - first) / increment

    def log_snr(t: Tensor) -> Tensor:
        n = t * steps
        log_alpha_bar = n * math.log(increment) + math.lgamma(whole + 1)
        log_alpha_bar = log_alpha_bar - torch.lgamma(whole + 1 - n)
        return (log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))) / 2

    return VPLogSNR(log_snr, t_end=1 / steps)
