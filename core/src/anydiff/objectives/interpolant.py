"""The losses of stochastic interpolants (Albergo et al. 2023, arXiv 2303.08797), with antithetic pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers.kinds import PredictionKind
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.objectives.prediction import target
from anydiff.objectives.times import TimeLaw
from anydiff.paths.path import Path

WIDE: tuple[PredictionKind, ...] = ("flow", "score")
"""Kinds whose target has a variance without bound at an end: γ' z and z/γ."""


class InterpolantLoss(Objective):
    """E[ Σ_i mean over elements of F_i² - 2 F_i F_i* ] over the predictions F_i: the regression but for its constant.

    The minimiser is that of (F - F*)². The target's own square, which may be infinite, is left out: values may be
    negative, and say something only beside each other. For the velocity and the score, whose targets γ' z and z/γ
    explode at the ends, x_t is made with z and with -z, in one call of twice the rows, and both are averaged: what
    explodes then cancels. Predictions of ``interpolant``, ``noise`` and of the ends need no pairs.

    Args:
        antithetic: whether pairs are made for the kinds that need them.
        times: law of the training times, see :class:`~anydiff.objectives.times.TimeLaw`.
        times_mean: mean of the time law, None for its own.
        times_std: standard deviation of the time law, None for its own.

    Raises:
        UnknownNameError: no such time law.
    """

    def __init__(
        self,
        antithetic: bool = True,
        times: str = "uniform",
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        self.antithetic = bool(antithetic)
        self.law = TimeLaw(times, times_mean, times_std)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1)."""
        return self.law(path, uniform)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B], the sum over the predictions."""
        if not self.antithetic or not set(call.denoiser.native_kinds) & set(WIDE):
            return self._sum(call, call.natives, call.sources, call.t)
        rows = torch.arange(len(call.clean), device=call.clean.device).repeat(2)
        noise = call.path.named("noise")
        sources = {name: torch.cat([value, -value if name in noise else value]) for name, value in call.sources.items()}
        t = call.t.repeat(2)
        made = call.denoiser.natives(call.linear_path.mix(t, **sources), t, call.condition.rows(rows))
        return self._sum(call, made, sources, t).reshape(2, -1).mean(0)

    def _sum(self, call: Call, made: dict[PredictionKind, Tensor], sources: dict[str, Tensor], t: Tensor) -> Tensor:
        losses = []
        weights = call.entry_weights
        for kind, value in made.items():
            wanted = target(call.linear_path, t, kind, sources, call.denoiser.sigma_data)
            repeated = weights if weights is None or len(weights) == len(value) else torch.cat([weights, weights])
            losses.append(element_mean(value.square() - 2 * value * wanted, repeated))
        return sum(losses[1:], losses[0])
